package ferryman

import (
	"slices"
	"time"
)

// Part is one half of a rollout. Agents are carried before the database, each
// completed or reverted alone.
type Part string

// The parts of a rollout, in the order in which they are carried.
const (
	PartAgents   Part = "agents"
	PartDatabase Part = "database"
)

// Parts lists the parts in order.
var Parts = [...]Part{PartAgents, PartDatabase}

// Rollout is the passage of the cluster from one accepted state to the next.
type Rollout struct {
	Generation uint64                `json:"generation"`
	Opened     time.Time             `json:"opened"`
	Ended      time.Time             `json:"ended,omitzero"`
	Parts      map[Part]PartProgress `json:"parts"`
	// Passages are the nodes that are being carried now.
	Passages map[NodeID]Passage `json:"passages,omitempty"`
}

// Open tells whether some part of the rollout is not done.
func (r *Rollout) Open() bool { return r != nil && r.Ended.IsZero() }

// Supersedable tells whether another rollout may begin now: between two nodes,
// and not while something is carried back. What stands still holds nothing up.
func (r *Rollout) Supersedable() bool {
	if !r.Open() {
		return true
	}
	for _, pp := range r.Parts {
		if pp.Status == PartReverting {
			return false
		}
	}
	for _, p := range r.Passages {
		if r.Parts[p.Part].Status != PartHalted {
			return false
		}
	}
	return true
}

// NoReturn tells that an engine said, when it was asked for a part, that the
// version before cannot read what the new one writes.
func (s State) NoReturn(pp PartProgress) bool {
	return slices.ContainsFunc(s.Ledger, func(st Step) bool {
		return st.ID >= pp.FirstStep && st.Op == OpPreflight && st.Outcome.Done() && st.Outcome.Result.NoReturn
	})
}

// Part returns one part; a rollout that never was has empty ones.
func (r *Rollout) Part(p Part) PartProgress {
	if r == nil {
		return PartProgress{}
	}
	return r.Parts[p]
}

// PartStatus is how far one part of a rollout is.
type PartStatus string

// A part is open, goes back, stands still until a person decides, or is done.
const (
	PartOpen       PartStatus = "open"
	PartReverting  PartStatus = "reverting"
	PartHalted     PartStatus = "halted"
	PartComplete   PartStatus = "complete"
	PartReverted   PartStatus = "reverted"
	PartSuperseded PartStatus = "superseded"
)

// Done tells whether the part needs no more steps.
func (s PartStatus) Done() bool {
	return s == PartComplete || s == PartReverted || s == PartSuperseded
}

// PartProgress is one part of a rollout.
type PartProgress struct {
	Status PartStatus `json:"status"`
	// To is where the document wants the part, From the last complete one.
	To   Known `json:"to"`
	From Known `json:"from"`
	// First tells that there is nothing to go back to.
	First bool `json:"first,omitempty"`
	// Reason says why it goes back, halted, or was refused.
	Reason string `json:"reason,omitempty"`
	// Progress is when a node was last carried, or the part began.
	Progress time.Time `json:"progress"`
	// FirstStep is the first step id that can belong to this status.
	FirstStep uint64 `json:"firstStep"`
	// Carried are the passages that ended, in order.
	Carried []Carried `json:"carried,omitempty"`
	// Continue is a person's word to go on past the canary or to finalize.
	Continue bool `json:"continue,omitempty"`
}

// Goal is what the part carries nodes to now.
func (p PartProgress) Goal() Known {
	if p.Status == PartReverting || p.Status == PartReverted {
		return p.From
	}
	return p.To
}

// Passage is a node being carried: a list of ops, of which the next is the
// first that is not yet true in the world.
type Passage struct {
	Part  Part      `json:"part"`
	Began time.Time `json:"began"`
	// FirstStep is the first step id that can belong to it.
	FirstStep uint64 `json:"firstStep"`
	// BootID is the agent's when the passage began.
	BootID string `json:"bootID,omitempty"`
	// Voter tells that the node had a vote when the passage began.
	Voter bool `json:"voter,omitempty"`
	// Goal is where this passage carries the node; it stays the same until the
	// passage ends or the part turns back.
	Goal Known `json:"goal"`
}

// Carried is a passage that ended.
type Carried struct {
	Node  NodeID    `json:"node"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Version is what the node ended with.
	Version string `json:"version,omitempty"`
}

// TransitionKind names a change of the replicated state that is not a step.
type TransitionKind string

// The transitions that the plan proposes; Apply refuses what must not be.
const (
	MoveBeginPassage    TransitionKind = "begin-passage"
	MoveEndPassage      TransitionKind = "end-passage"
	MovePart            TransitionKind = "part"             // Part goes to Status for Reason
	MoveSupersede       TransitionKind = "supersede"        // the rollout turns to the accepted document
	MoveCarryAgents     TransitionKind = "carry-agents"     // the rollout that ended goes on, for the agent of Node, which is another than all have
	MoveBeginSwitchover TransitionKind = "begin-switchover" // from the primary to Node
	MoveBackSwitchover  TransitionKind = "back-switchover"  // give it up, for Reason
	MoveEndSwitchover   TransitionKind = "end-switchover"   // forget it: done, or gone back
	MoveBeginFailover   TransitionKind = "begin-failover"   // the primary is to be replaced, for Reason: no grant is given any more
	MoveBackFailover    TransitionKind = "back-failover"    // give it up, for Reason: the primary is there
	MoveFenced          TransitionKind = "fenced"           // the old primary accepts no writes: its lease ran out, or as Apply sees itself
	MoveSyncReplicas    TransitionKind = "sync-replicas"    // every acknowledged write is held by SyncReplicas others
	MoveHistory         TransitionKind = "history"          // the primary's database goes on with History, under the same epoch
	MovePrimary         TransitionKind = "primary"          // Node is the primary of Epoch: the commit point
	MoveLease           TransitionKind = "lease"            // the primary's lease is Lease; none ends it
	MoveWant            TransitionKind = "want"             // Node's want becomes Want for Reason
	MoveForget          TransitionKind = "forget"           // Node is no member any more
	MoveEndHold         TransitionKind = "end-hold"         // a pause or freeze ran out
	MoveForgetRequest   TransitionKind = "forget-request"   // the host request was met, or is void
	MoveRaiseFormat     TransitionKind = "raise-format"     // all agents understand Format
)

// Transition is a change of the replicated state that is not a step.
type Transition struct {
	Kind   TransitionKind `json:"kind"`
	Node   NodeID         `json:"node,omitempty"`
	Slot   string         `json:"slot,omitempty"`
	Part   Part           `json:"part,omitempty"`
	Status PartStatus     `json:"status,omitempty"`
	Want   Want           `json:"want,omitempty"`
	Epoch  uint64         `json:"epoch,omitempty"`
	Format uint32         `json:"format,omitempty"`
	Goal   Known          `json:"goal,omitzero"`
	BootID string         `json:"bootID,omitempty"`
	Voter  bool           `json:"voter,omitempty"`
	Lost   bool           `json:"lost,omitempty"`
	By     string         `json:"by,omitempty"`
	Reason string         `json:"reason,omitempty"`
	// Lease accompanies MoveLease.
	Lease *Lease `json:"lease,omitempty"`
	// Expired accompanies MoveFenced: the leader has waited until no lease of the
	// old primary can run any more.
	Expired      bool `json:"expired,omitempty"`
	SyncReplicas int  `json:"syncReplicas,omitempty"`
	// History accompanies MoveHistory.
	History string `json:"history,omitempty"`
	// Maintenance accompanies MoveWant to maintenance.
	Maintenance *Maintenance `json:"maintenance,omitempty"`
}
