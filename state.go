package ferryman

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// State is what the agents replicate: small, plain records. It is a value that
// only state.Apply makes anew; whoever holds one may read it without a lock.
type State struct {
	// Format is the version of commands and records that all agents understand.
	Format  uint32 `json:"format"`
	Cluster string `json:"cluster"`
	// Accepted is the newest document that passed every check.
	Accepted *Accepted `json:"accepted,omitempty"`
	// Refused is the newest document that did not, and why.
	Refused *Refusal `json:"refused,omitempty"`
	// Complete is what the last complete rollout of each part ended with.
	Complete map[Part]Known `json:"complete,omitempty"`
	// Previous is what was complete before that; `ferryman rollout undo` goes there.
	Previous map[Part]Known `json:"previous,omitempty"`

	Members map[NodeID]Member `json:"members"`
	// Departed are the newest nodes that were members and left; a node does not
	// come back under the same id.
	Departed []NodeID `json:"departed,omitempty"`

	// Initialised tells that the database was made, or adopted; it happens once,
	// on Founder.
	Initialised bool        `json:"initialised"`
	Founder     NodeID      `json:"founder,omitempty"`
	Primary     Primary     `json:"primary,omitzero"`
	Switchover  *Switchover `json:"switchover,omitempty"`
	Failover    *Failover   `json:"failover,omitempty"`
	// Failovers are the times of the newest automatic failovers, oldest first; a
	// person's failover request forgets them.
	Failovers []time.Time `json:"failovers,omitempty"`
	// Histories are the newest that were begun before Primary.Before, oldest first.
	Histories []string `json:"histories,omitempty"`

	Rollout *Rollout `json:"rollout,omitempty"`
	// History holds the newest rollouts that ended, newest last.
	History []Rollout `json:"history,omitempty"`
	// Ledger holds every open step and the newest closed ones, in order of id.
	Ledger   []Step `json:"ledger,omitempty"`
	LastStep uint64 `json:"lastStep"`

	// Quarantined are the digests of releases that failed.
	Quarantined map[string]Quarantine `json:"quarantined,omitempty"`
	HostRequest *HostRequest          `json:"hostRequest,omitempty"`
	// Paused and Frozen are local requests beside the document.
	Paused *Hold `json:"paused,omitempty"`
	Frozen *Hold `json:"frozen,omitempty"`
	// Restarts counts rolling restarts that were asked for locally, beside the
	// document's generation.
	Restarts uint64 `json:"restarts,omitempty"`
	// Tokens are join tokens that were not used yet, by id.
	Tokens map[string]Token `json:"tokens,omitempty"`

	Events    []Event `json:"events,omitempty"`
	LastEvent uint64  `json:"lastEvent"`
}

// Member returns the member with that name or id. Where a node took over the
// name of one that is lost, the name is the newcomer's.
func (s State) Member(nameOrID string) (Member, bool) {
	if m, ok := s.Members[NodeID(nameOrID)]; ok {
		return m, true
	}
	var found Member
	for _, m := range s.Members {
		if m.Name == nameOrID && (found.ID == "" || found.Lost && !m.Lost || found.Lost == m.Lost && m.ID < found.ID) {
			found = m
		}
	}
	return found, found.ID != ""
}

// Step returns the step with that id.
func (s State) Step(id uint64) (Step, bool) {
	i, ok := slices.BinarySearchFunc(s.Ledger, id, func(st Step, id uint64) int { return cmp.Compare(st.ID, id) })
	if !ok {
		return Step{}, false
	}
	return s.Ledger[i], true
}

// Desired is what the accepted document and local requests want of a part.
func (s State) Desired(p Part) Known {
	if s.Accepted == nil {
		return Known{}
	}
	d := s.Accepted.Document
	k := Known{Generation: d.Generation}
	switch p {
	case PartAgents:
		k.Target = d.Agent.Target()
		k.Release = d.Releases[ReleaseKey(AgentEngine, k.Target.Version)]
	case PartDatabase:
		k.Target = d.Database.Target()
		k.Target.RestartGeneration += s.Restarts
		k.Release = d.Releases[ReleaseKey(d.Database.Engine, k.Target.Version)]
	}
	return k
}

// SwitchoverProof returns the outcomes that prove that a switchover may reach
// its commit point: the old primary's fence with its final position, and the
// successor's verification of that position. Either is nil while it is missing.
func (s State) SwitchoverProof() (fenced, verified *Outcome) {
	sw := s.Switchover
	if sw == nil {
		return nil, nil
	}
	for _, st := range s.Ledger {
		if st.ID < sw.FirstStep || st.Rule != RulePrimary || !st.Outcome.Done() {
			continue
		}
		switch {
		case st.Op == OpFence && st.Node == sw.From:
			fenced, verified = st.Outcome, nil
		case st.Op == OpVerify && st.Node == sw.To && fenced != nil &&
			st.Args.Position == fenced.Result.Position && st.Args.History == fenced.Result.History:
			verified = st.Outcome
		}
	}
	return fenced, verified
}

// Stale tells whether the rollout, open or ended, is not the one that the
// accepted document and local requests want.
func (s State) Stale() bool {
	if s.Accepted == nil {
		return false
	}
	if s.Rollout == nil {
		return true
	}
	for _, p := range Parts {
		if !s.Rollout.Parts[p].To.Target.Equal(s.Desired(p).Target) {
			return true
		}
	}
	return s.Rollout.Generation != s.Accepted.Document.Generation
}

// Policy is the accepted document's, or the defaults.
func (s State) Policy() Policy {
	if s.Accepted == nil {
		return Document{}.WithDefaults().Rollout
	}
	return s.Accepted.Document.WithDefaults().Rollout
}

// RolloutHold returns why the rollout is paused, if it is.
func (s State) RolloutHold() (string, bool) {
	switch {
	case s.Paused != nil:
		return "paused by " + s.Paused.By, true
	case s.Accepted != nil && s.Accepted.Document.Paused:
		return "paused by the document", true
	}
	return "", false
}

// ClusterName is the name that the user gave, the first part of a cluster id.
func ClusterName(id string) string {
	if i := strings.LastIndexByte(id, '-'); i > 0 {
		return id[:i]
	}
	return id
}

// Accepted is a document in force.
type Accepted struct {
	Document Document  `json:"document"`
	Digest   string    `json:"digest"`
	At       time.Time `json:"at"`
	// Envelope is what the document came in, with its signatures, so that every
	// node can verify it by itself; empty where documents are not signed.
	Envelope json.RawMessage `json:"envelope,omitempty"`
	// Implicit tells that the document named no generation: Document.Generation
	// then counts changes of content.
	Implicit bool `json:"implicit,omitempty"`
}

// Refusal is a document that was not accepted.
type Refusal struct {
	Digest string    `json:"digest"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Known is a target that every node reached, and how it is installed.
type Known struct {
	Generation uint64  `json:"generation"`
	Target     Target  `json:"target"`
	Release    Release `json:"release,omitzero"`
}

// Member is a node of the cluster.
type Member struct {
	ID      NodeID `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	Zone    string `json:"zone,omitempty"`
	// Witness tells that the node runs no services: it only votes.
	Witness     bool         `json:"witness,omitempty"`
	Services    []Service    `json:"services,omitempty"`
	Want        Want         `json:"want"`
	Maintenance *Maintenance `json:"maintenance,omitempty"`
	// Lost tells that a leaving node will not answer again.
	Lost bool `json:"lost,omitempty"`
	// Why says why it leaves.
	Why    string    `json:"why,omitempty"`
	Joined time.Time `json:"joined"`
	// LeaveOnTerminate tells that the node leaves for good when it is stopped.
	LeaveOnTerminate bool `json:"leaveOnTerminate,omitempty"`
}

// Want is what the cluster wants of a member.
type Want string

// A member is active, absent on purpose, or on its way out.
const (
	WantActive      Want = "active"
	WantMaintenance Want = "maintenance"
	WantLeaving     Want = "leaving"
)

// Maintenance is a node's absence on purpose. It ends with its step, the
// node's return, or its time.
type Maintenance struct {
	Owner  string    `json:"owner"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until"`
	// BootID is the agent's at the time; another one means that it returned.
	BootID string `json:"bootID,omitempty"`
}

// Primary is the one instance that takes writes, where the engine has one.
type Primary struct {
	Node NodeID `json:"node"`
	Slot string `json:"slot"`
	// Epoch counts primaries; zero means that there has been none.
	Epoch uint64    `json:"epoch"`
	Since time.Time `json:"since"`
	// History is what its promotion began, as the promotion's outcome told;
	// empty until then. Before is that of the epoch before.
	History string `json:"history,omitempty"`
	Before  string `json:"before,omitempty"`
	// Lease is nil in manual mode: the primary then accepts writes without one.
	Lease *Lease `json:"lease,omitempty"`
	// Granted is what a lease of this epoch that was ended may still run for: the
	// next one begins with it.
	Granted Duration `json:"granted,omitempty"`
	// SyncReplicas is how many of the other members hold every write that this
	// primary acknowledged. The leader commits a greater number after it has seen
	// it in force, and a smaller one before it comes into force.
	SyncReplicas int `json:"syncReplicas,omitempty"`
}

// Switchover moves the primary from one node to another as one unit. Before
// Committed it can go back; after it only forward.
type Switchover struct {
	From NodeID `json:"from"`
	To   NodeID `json:"to"`
	Slot string `json:"slot"`
	// By says who asked: a rollout, a leave, or a person.
	By    string    `json:"by"`
	Began time.Time `json:"began"`
	// FirstStep is the first step id that can belong to it.
	FirstStep uint64 `json:"firstStep"`
	Committed bool   `json:"committed,omitempty"`
	// Back says why it goes back.
	Back string `json:"back,omitempty"`
}

// Quarantine is a release that is not used until a person lifts it.
type Quarantine struct {
	Key        string    `json:"key"`
	Reason     string    `json:"reason"`
	Generation uint64    `json:"generation"`
	At         time.Time `json:"at"`
}

// HostRequest is the leader's newest question for a total number of hosts.
type HostRequest struct {
	Step   uint64    `json:"step"`
	Total  int       `json:"total"`
	Remove []string  `json:"remove,omitempty"`
	Lost   []string  `json:"lost,omitempty"`
	At     time.Time `json:"at"`
	// Answered tells that the api-server took it.
	Answered bool `json:"answered,omitempty"`
}

// Hold is something that a person paused.
type Hold struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	// Until ends it by itself; zero means that a person ends it.
	Until time.Time `json:"until,omitzero"`
}

// Token admits one new node. Only a hash of its secret is kept.
type Token struct {
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
}

// Event is something that happened and that a person may want to know.
type Event struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	Node NodeID    `json:"node,omitempty"`
	Step uint64    `json:"step,omitempty"`
	Text string    `json:"text"`
	// Bad tells that a person should look.
	Bad bool `json:"bad,omitempty"`
}
