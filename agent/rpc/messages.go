package rpc

import "ferryman"

// Node is where a node is found.
type Node struct {
	ID      ferryman.NodeID `json:"id"`
	Name    string          `json:"name"`
	Address string          `json:"address"` // of its peer port, host:port
}

// StatusRequest asks for a node's status once it is another than Since, or when
// Wait is over; a Wait of zero asks for it now.
type StatusRequest struct {
	Since uint64            `json:"since"`
	Wait  ferryman.Duration `json:"wait"`
}

// StepRef points to a step's intent in the replicated state: what to do is read
// there, never taken from the call.
type StepRef struct {
	Step  uint64 `json:"step"`
	Index uint64 `json:"index"` // the log index that holds the intent
	Term  uint64 `json:"term"`  // the caller's
}

// RenewRequest asks for the primary's lease.
type RenewRequest struct {
	Epoch uint64 `json:"epoch"`
}

// RenewReply is a grant. It runs from when the request was sent.
type RenewReply struct {
	Length ferryman.Duration `json:"length"`
}

// JoinRequest is a node that wants to be a member, or tells that its address
// has changed. The caller's certificate must bear the same name.
type JoinRequest struct {
	ID               ferryman.NodeID    `json:"id"`
	Name             string             `json:"name"`
	Address          string             `json:"address"`
	Zone             string             `json:"zone,omitempty"`
	Witness          bool               `json:"witness,omitempty"`
	LeaveOnTerminate bool               `json:"leaveOnTerminate,omitempty"`
	Services         []ferryman.Service `json:"services,omitempty"`
	BootID           string             `json:"bootID"`
	Version          string             `json:"version"` // of the agent
	Format           uint32             `json:"format"`  // of replicated state, the newest it understands
}

// JoinReply tells a node which cluster answered, and whom to listen to until
// its own replicated state says so.
type JoinReply struct {
	Cluster string `json:"cluster"`
	Members []Node `json:"members"`
	// Joined tells that the node is a member now. If it is not, the node asks
	// again.
	Joined bool `json:"joined"`
	// Left tells that the node was a member and left for good: it must end.
	Left string `json:"left,omitempty"`
}

// EnrollRequest asks for a certificate with a join token.
type EnrollRequest struct {
	Token   string `json:"token"` // whole, as printed
	Name    string `json:"name"`
	Request []byte `json:"request"` // PEM
}

// EnrollReply makes the caller a node of the cluster. It holds the CA's key, so
// that every member can sign later; that key travels nowhere else.
type EnrollReply struct {
	Certificate   []byte `json:"certificate"` // PEM, as the others
	CACertificate []byte `json:"caCertificate"`
	CAKey         []byte `json:"caKey"`
}

// String keeps the key out of logs.
func (EnrollReply) String() string { return "certificate and CA" }

// TokenRequest asks for a join token that ends after TTL.
type TokenRequest struct {
	TTL ferryman.Duration `json:"ttl"`
}

// StopRequest asks the agent to end as on SIGTERM: its node stays a member, in
// maintenance for For (zero is the agent's default).
type StopRequest struct {
	Reason string            `json:"reason,omitempty"`
	For    ferryman.Duration `json:"for,omitempty"`
}

// LocalReport is what a node knows by itself, also while there is no leader.
type LocalReport struct {
	Status ferryman.NodeStatus `json:"status"`
	State  ferryman.State      `json:"state"`
	Leader Node                `json:"leader,omitzero"` // empty while none is known
}

// DebugReport is what an agent knows of its own insides.
type DebugReport struct {
	// Raft are Raft's own statistics, Servers its configuration on this node.
	Raft    map[string]string `json:"raft"`
	Servers []RaftServer      `json:"servers"`
	// Goroutines is what each of them does now.
	Goroutines string `json:"goroutines,omitempty"`
}

// RaftServer is one node of the Raft group.
type RaftServer struct {
	Node
	Suffrage ferryman.Suffrage `json:"suffrage"`
}

// none is the answer of a call that has nothing to say.
type none struct{}
