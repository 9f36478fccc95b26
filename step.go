package ferryman

import "time"

// NodeID identifies one data directory: it is random, made once, and lives
// there. An empty disk is therefore a new node, whatever its name.
type NodeID string

// Op is what a step does.
type Op string

// Operations on a service that its engine carries out.
const (
	OpInitialise Op = "initialise" // make the first, empty database; once per cluster
	OpClone      Op = "clone"      // take a full copy of Args.From beside old data, which is set aside
	OpPromote    Op = "promote"    // become writable under Args.Epoch
	OpFollow     Op = "follow"     // replicate from Args.From under Args.Epoch
	OpFence      Op = "fence"      // accept no more writes; the result holds the final position
	OpUnfence    Op = "unfence"    // take a fence back
	OpConfigure  Op = "configure"  // take Args.Parameters
	OpCheckpoint Op = "checkpoint" // make a following stop or promotion quick
	OpDrain      Op = "drain"      // let clients go elsewhere
	OpUndrain    Op = "undrain"    // let clients come back
	OpVerify     Op = "verify"     // hold Args.Position of Args.History; run Args.Version, healthy
	OpRewind     Op = "rewind"     // drop what diverged from Args.From's history
	OpPreflight  Op = "preflight"  // say whether what Args ask for is possible; changes nothing
)

// Operations on a node that its runner carries out.
const (
	OpStage  Op = "stage"  // fetch, verify and unpack Args.Release
	OpSwitch Op = "switch" // make Args.Version the one that the next start runs
	OpStart  Op = "start"  // start the service's unit
	OpStop   Op = "stop"   // stop the service's unit
	OpExit   Op = "exit"   // end the agent so that it is started anew
	OpDepart Op = "depart" // end the agent for good; its node was removed
)

// Operations that the leader carries out itself, for a node.
const (
	OpAdmit        Op = "admit"         // add the node to the Raft group without a vote
	OpVote         Op = "vote"          // give the node a vote
	OpDemote       Op = "demote"        // take the node's vote, keep replicating to it
	OpRemove       Op = "remove"        // remove the node from the Raft group
	OpTransfer     Op = "transfer"      // hand Raft leadership to Args.To
	OpRequestHosts Op = "request-hosts" // ask the api-server for Args.Total hosts
)

// ByLeader tells whether the leader carries the operation out itself.
func (o Op) ByLeader() bool {
	switch o {
	case OpAdmit, OpVote, OpDemote, OpRemove, OpTransfer, OpRequestHosts:
		return true
	}
	return false
}

// ByEngine tells whether the operation is the engine's to carry out.
func (o Op) ByEngine() bool {
	switch o {
	case OpInitialise, OpClone, OpPromote, OpFollow, OpFence, OpUnfence, OpConfigure,
		OpCheckpoint, OpDrain, OpUndrain, OpVerify, OpRewind, OpPreflight:
		return true
	}
	return false
}

// Reconfigures tells whether the operation changes who votes or leads in the
// Raft group. Each is judged against the group as it is, so that one goes at a
// time.
func (o Op) Reconfigures() bool {
	return o == OpVote || o == OpDemote || o == OpRemove || o == OpTransfer
}

// Disrupts tells whether the operation takes its node out of service. Such
// steps are committed only inside a passage, a switchover or a leave.
func (o Op) Disrupts() bool { return o == OpStop || o == OpExit || o == OpDepart }

// Args are what an operation needs to know; each operation reads the few
// fields that its constant names.
type Args struct {
	Engine            string            `json:"engine,omitempty"`
	Version           string            `json:"version,omitempty"`
	Release           *Release          `json:"release,omitempty"`
	RestartGeneration uint64            `json:"restartGeneration,omitempty"`
	Parameters        map[string]string `json:"parameters,omitempty"`
	// From is the address of the service to follow or to clone from.
	From     string `json:"from,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`
	Position uint64 `json:"position,omitempty"`
	History  string `json:"history,omitempty"`
	// Kill has a fence end the whole process at once rather than ask the
	// database, which may not answer.
	Kill bool `json:"kill,omitempty"`
	// Alone tells a preflight that the primary is lost: that the instance does
	// not stream from it speaks against nothing.
	Alone bool `json:"alone,omitempty"`
	// Keep is how many versions a stage leaves installed.
	Keep int `json:"keep,omitempty"`
	// To is the node that leadership goes to.
	To NodeID `json:"to,omitempty"`
	// Total, Remove and Lost are a host request: a total, and names.
	Total  int      `json:"total,omitempty"`
	Remove []string `json:"remove,omitempty"`
	Lost   []string `json:"lost,omitempty"`
}

// Target is what the arguments ask a service to run.
func (a Args) Target() Target {
	return Target{Version: a.Version, RestartGeneration: a.RestartGeneration, Parameters: a.Parameters}
}

// Result is what an operation found or left behind.
type Result struct {
	Position uint64 `json:"position,omitempty"`
	History  string `json:"history,omitempty"`
	// Blockers say why what a preflight asked for is not possible.
	Blockers []string `json:"blockers,omitempty"`
	// RestartNeeded tells that parameters take effect only after a restart.
	RestartNeeded bool `json:"restartNeeded,omitempty"`
	// PrimaryFirst tells that parameters must reach the primary before replicas.
	PrimaryFirst bool `json:"primaryFirst,omitempty"`
	// NoReturn tells that the old version cannot follow the new one or open
	// its data: after the switchover there is no way back.
	NoReturn bool `json:"noReturn,omitempty"`
	// SetAside is the directory to which replaced data was moved.
	SetAside string `json:"setAside,omitempty"`
}

// Rule names the part of the plan that asked for a step.
type Rule string

// The plan's rules, in the order in which they are heard.
const (
	RulePrimary Rule = "primary"
	RuleResume  Rule = "resume"
	RuleRepair  Rule = "repair"
	RuleMembers Rule = "members"
	RuleUpgrade Rule = "upgrade"
)

// Step is one idempotent operation on one node. Its intent is committed
// before it runs and its outcome after.
type Step struct {
	ID   uint64 `json:"id"`
	Op   Op     `json:"op"`
	Node NodeID `json:"node"`
	// Service is the slot of the service meant; empty means the node itself.
	Service string `json:"service,omitempty"`
	Args    Args   `json:"args,omitzero"`
	// Attempt counts from 1 for each operation on a service in a rollout.
	Attempt int `json:"attempt"`
	// Deadline is measured by each leader from Since or from the time it began
	// to lead, whichever is later.
	Deadline Duration  `json:"deadline"`
	Since    time.Time `json:"since"`
	Rule     Rule      `json:"rule"`
	// Generation is that of the accepted document under which it was planned.
	Generation uint64 `json:"generation,omitempty"`
	// Outcome is nil while the step is open.
	Outcome *Outcome `json:"outcome,omitempty"`
}

// Open tells whether the step has no outcome yet.
func (s Step) Open() bool { return s.Outcome == nil }

// OutcomeStatus is how a step ended.
type OutcomeStatus string

// A step that ran is done or failed. The leader closes a step as timed out
// when its deadline passed, and as cancelled when a rule withdrew it.
const (
	StatusRunning   OutcomeStatus = "running" // in answers to RunStep only, never committed
	StatusDone      OutcomeStatus = "done"
	StatusFailed    OutcomeStatus = "failed"
	StatusTimedOut  OutcomeStatus = "timed out"
	StatusCancelled OutcomeStatus = "cancelled"
)

// Outcome is how one attempt of a step went.
type Outcome struct {
	Step   uint64        `json:"step"`
	Status OutcomeStatus `json:"status"`
	// Reason is a sentence for a person; empty when done.
	Reason string    `json:"reason,omitempty"`
	Result Result    `json:"result,omitzero"`
	Began  time.Time `json:"began,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`
}

// Done tells whether the step reached its effect.
func (o *Outcome) Done() bool { return o != nil && o.Status == StatusDone }
