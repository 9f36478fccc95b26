package ferryman

import "time"

// Traits are what an engine is like, as data: the plan never asks which
// engine it is.
type Traits struct {
	// Primaries is how many instances accept writes: 1 for a single primary,
	// 0 when all do or when the engine decides by itself.
	Primaries int `json:"primaries"`
	// Tiers are the kinds of service in the order in which a rollout carries
	// them; an engine with one kind has one tier.
	Tiers []string `json:"tiers,omitempty"`
	// MaxDownPerGroup is how many services of one Instance.Group may be down at
	// once; zero means that only the rollout's budget counts.
	MaxDownPerGroup int `json:"maxDownPerGroup,omitempty"`
	// Ops are the operations that the engine carries out.
	Ops []Op `json:"ops"`
}

// Can tells whether the engine carries out op.
func (t Traits) Can(op Op) bool {
	for _, o := range t.Ops {
		if o == op {
			return true
		}
	}
	return false
}

// Role is what an instance does in its database cluster.
type Role string

// The roles of a database with a primary.
const (
	RolePrimary Role = "primary"
	RoleReplica Role = "replica"
)

// Instance is what an engine observes of one service.
type Instance struct {
	Running bool `json:"running"`
	// Initialised tells that the data directory holds a database.
	Initialised bool   `json:"initialised"`
	Role        Role   `json:"role,omitempty"`
	Writable    bool   `json:"writable,omitempty"`
	Fenced      bool   `json:"fenced,omitempty"`
	Version     string `json:"version,omitempty"`
	// Epoch is the newest that the instance was promoted or told to follow under.
	Epoch uint64 `json:"epoch,omitempty"`
	// History names the line of positions (a timeline, a replication id);
	// positions compare only within one history.
	History  string `json:"history,omitempty"`
	Position uint64 `json:"position,omitempty"`
	// Following is the address of the primary that it was told to follow.
	Following string `json:"following,omitempty"`
	// Streaming tells that it is connected there and has caught up so far.
	Streaming bool `json:"streaming,omitempty"`
	// Diverged tells that its data are not a prefix of the primary's history.
	Diverged bool `json:"diverged,omitempty"`
	// Lag is how many bytes it knows itself to be behind.
	Lag Bytes `json:"lag,omitempty"`
	// Replicas are the addresses of replicas seen streaming from here.
	Replicas []string `json:"replicas,omitempty"`
	// SyncReplicas is how many replicas must hold a write before this instance
	// acknowledges it as the primary; zero is asynchronous replication.
	SyncReplicas int `json:"syncReplicas,omitempty"`
	// Group is the set of instances that hold the same data, for engines that
	// have several (NDB's node groups).
	Group   string `json:"group,omitempty"`
	Healthy bool   `json:"healthy"`
	// Reason says why it is not healthy.
	Reason string `json:"reason,omitempty"`
	// Blockers say why it must not be stopped now.
	Blockers []string `json:"blockers,omitempty"`
	Drained  bool     `json:"drained,omitempty"`
}

// Service is one database process that a node runs.
type Service struct {
	// Slot is its name on the node.
	Slot   string `json:"slot"`
	Engine string `json:"engine"`
	// Tier is its kind, one of the engine's Traits.Tiers.
	Tier string `json:"tier,omitempty"`
	// Address is where clients and other instances reach it, host:port.
	Address string `json:"address"`
}

// UnitState is what the service manager says of a service's process.
type UnitState struct {
	Active bool `json:"active"`
	// StartID changes with each start.
	StartID string    `json:"startID,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Result says how it ended, when it is not active.
	Result string `json:"result,omitempty"`
	// Unfit says why it may come up with writes that nobody gave it, so that no
	// lease of its node is worth anything.
	Unfit string `json:"unfit,omitempty"`
	// Missing says why the service manager can neither start nor stop it, and what
	// to do. The rest is then what was seen last.
	Missing string `json:"missing,omitempty"`
}

// ServiceStatus is what a node reports of one of its services.
type ServiceStatus struct {
	Service
	Traits   Traits    `json:"traits"`
	Instance Instance  `json:"instance"`
	Unit     UnitState `json:"unit"`
	// Selected is what the next start will run, Launched what the running
	// process was started under.
	Selected Target `json:"selected,omitzero"`
	Launched Target `json:"launched,omitzero"`
}

// NodeStatus is what a node says of itself.
type NodeStatus struct {
	// Seq changes with every change of the rest; a caller waits for another one.
	Seq     uint64 `json:"seq"`
	ID      NodeID `json:"id"`
	Name    string `json:"name"`
	Cluster string `json:"cluster"`
	// BootID is new with each start of the agent.
	BootID string `json:"bootID"`
	// Agent is what the agent runs and the restart generation it came up under.
	Agent Target `json:"agent"`
	// Release is the digest of the release that the agent runs from; empty when it
	// is the one that the host has installed.
	Release string `json:"release,omitempty"`
	// PutBack is the newest release of the agent that did not hold here.
	PutBack *PutBack `json:"putBack,omitempty"`
	// Installed is the version that the agent's package installed while this agent
	// ran: its restart starts it. Empty where none waits.
	Installed string `json:"installed,omitempty"`
	// Format is the newest format of replicated state that the agent understands.
	Format uint32 `json:"format"`
	// Applied is the last log index that the node's replicated state holds,
	// under Term, from Leader.
	Applied  uint64          `json:"applied"`
	Term     uint64          `json:"term"`
	Leader   NodeID          `json:"leader,omitempty"`
	Services []ServiceStatus `json:"services,omitempty"`
	// Selected are the releases ("ferryman/0.2.0") that the next start runs.
	Selected []string `json:"selected,omitempty"`
	// Staged are the digests of releases that are complete on this node.
	Staged []string `json:"staged,omitempty"`
	// Running are the steps that are being carried out; Outcomes the newest
	// ones of those that ended.
	Running  []uint64  `json:"running,omitempty"`
	Outcomes []Outcome `json:"outcomes,omitempty"`
	// Lease is the primary's lease as this node holds it; nil while it holds none.
	Lease *LeaseStatus `json:"lease,omitempty"`
	// Problems are what is wrong with the node itself, each with what to do.
	Problems []string `json:"problems,omitempty"`
}

// PutBack is a release of the agent in whose place the host put what it had
// before, by itself.
type PutBack struct {
	Version string `json:"version,omitempty"` // empty: what the host has installed
	Digest  string `json:"digest,omitempty"`
	Reason  string `json:"reason"`
}

// Service returns the status of the service in slot.
func (n NodeStatus) Service(slot string) (ServiceStatus, bool) {
	for _, s := range n.Services {
		if s.Slot == slot {
			return s, true
		}
	}
	return ServiceStatus{}, false
}

// Healthy tells whether all services of the node are as they should be by
// themselves, or why not. What the cluster wants of them is not judged here.
func (n NodeStatus) Healthy() (bool, string) {
	for _, s := range n.Services {
		switch {
		case !s.Unit.Active:
			return false, s.Slot + " is not running"
		case !s.Instance.Running:
			return false, s.Slot + " does not answer"
		case !s.Instance.Healthy:
			return false, s.Slot + ": " + s.Instance.Reason
		}
	}
	return true, ""
}
