package ferryman

import "time"

// View is what the leader has observed since it leads. It is memory only and
// gone with leadership.
type View struct {
	Self NodeID `json:"self"`
	Term uint64 `json:"term"`
	// Since is when this leader's barrier was passed.
	Since time.Time           `json:"since"`
	Nodes map[NodeID]NodeView `json:"nodes"`
	// Raft is the Raft group's configuration.
	Raft map[NodeID]Suffrage `json:"raft"`
	// Source is what this leader knows of the desired state's source.
	Source SourceView `json:"source,omitzero"`
	// Hosts is what the api-server last said of its hosts.
	Hosts HostsView `json:"hosts"`
	// Lease is what this leader knows of the primary's lease.
	Lease  LeaseView `json:"lease"`
	Limits Limits    `json:"limits"`
}

// Suffrage is a node's part in the Raft group.
type Suffrage string

// A voter counts for quorums; a non-voter only follows.
const (
	Voter    Suffrage = "voter"
	Nonvoter Suffrage = "nonvoter"
)

// NodeView is what the leader has observed of one node.
type NodeView struct {
	Status NodeStatus `json:"status"`
	// Known tells that the node answered this leader at least once.
	Known bool `json:"known"`
	// Contact is when it last answered, in the leader's time.
	Contact time.Time `json:"contact,omitzero"`
	// Reachable tells that the last call was answered.
	Reachable bool `json:"reachable"`
	// CaughtUp tells that the node proved twice, under this leader's term, to
	// have applied the index of a barrier (design, section 7).
	CaughtUp bool `json:"caughtUp"`
	// HealthySince is when its services became healthy; zero while they are not.
	HealthySince time.Time `json:"healthySince,omitzero"`
	// DownSince is since when they are not, as far as this leader saw; zero while
	// they are.
	DownSince time.Time `json:"downSince,omitzero"`
	// Error says why the last call failed.
	Error string `json:"error,omitempty"`
}

// SourceView is what a leader knows of where the desired state comes from.
type SourceView struct {
	// Generation is that of the document that was fetched last, accepted or not;
	// zero while none was, or where it names none that can be read.
	Generation uint64 `json:"generation,omitempty"`
	// Answered is when the source last answered, with a document or that there is
	// no other one; zero while it has not.
	Answered time.Time `json:"answered,omitzero"`
	// Error says why it cannot be fetched now.
	Error string `json:"error,omitempty"`
}

// HostsView is what the api-server says of its hosts.
type HostsView struct {
	// Known tells that it answered this leader.
	Known bool     `json:"known"`
	Names []string `json:"names,omitempty"`
	// Stable is since when the answer has not changed.
	Stable time.Time `json:"stable,omitzero"`
	// Minimal tells that the server has the three conventional endpoints only:
	// it chooses itself which host it stops.
	Minimal bool `json:"minimal,omitempty"`
	// None tells that no api-server is configured to ask for hosts.
	None bool `json:"none,omitempty"`
	// Unmade is when the api-server answered that it makes no hosts: people do.
	// Zero while it has not.
	Unmade time.Time `json:"unmade,omitzero"`
}

// Limits are the leader's own settings that the plan heeds.
type Limits struct {
	MaxVoters        int      `json:"maxVoters"`
	DeadAfter        Duration `json:"deadAfter"`
	ProvisionTimeout Duration `json:"provisionTimeout"`
}

// The defaults of Limits.
const (
	DefaultMaxVoters        = 5
	DefaultDeadAfter        = Duration(60 * time.Second)
	DefaultProvisionTimeout = Duration(5 * time.Minute)
)

// Wait says why the plan does not go on.
type Wait struct {
	Rule Rule   `json:"rule"`
	Code string `json:"code"` // short and stable, for metrics and tests
	Node NodeID `json:"node,omitempty"`
	// Reason is a sentence for a person, with what to do where that helps.
	Reason string `json:"reason"`
}

// Decision is what the plan wants done now. To do nothing always has a Wait.
type Decision struct {
	Steps  []Step       `json:"steps,omitempty"`
	Moves  []Transition `json:"moves,omitempty"`
	Cancel []Outcome    `json:"cancel,omitempty"`
	Waits  []Wait       `json:"waits,omitempty"`
}
