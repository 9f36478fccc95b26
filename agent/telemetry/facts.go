package telemetry

import (
	"time"

	"ferryman"
)

// Self is who speaks.
type Self struct {
	Cluster string // its id
	ID      ferryman.NodeID
	Node    string // the node's name
	Version string // of the agent
}

// Facts are what an agent knew when it looked at itself. Metrics and health are
// made of them and of nothing else.
type Facts struct {
	At     time.Time
	Status ferryman.NodeStatus
	State  ferryman.State
	// Report is the leader's; nil on a node that does not lead.
	Report *ferryman.Report
	Raft   Raft
	// CertificateEnds is when the node's certificate does.
	CertificateEnds time.Time
	// Guarded tells that this node is to have a guard, and GuardFails why the
	// guard did not answer when it was last asked.
	Guarded    bool
	GuardFails string
}

// Raft is this node's part of the Raft group, beside what its status says.
type Raft struct {
	Leads bool
	// LastContact is when a leader was last heard; zero if never.
	LastContact time.Time
	// Held is the last entry that the log held at the look before: what is applied
	// of what came since says nothing.
	Held   uint64
	Voters int
}
