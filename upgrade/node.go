package upgrade

import (
	"time"

	"ferryman"
)

// Node is what the rules need to know of one node.
type Node struct {
	Member   ferryman.Member
	View     ferryman.NodeView
	Suffrage ferryman.Suffrage // empty while it is not in the Raft group
	// Leader tells that it leads Raft, Primary that it is the recorded primary.
	Leader  bool
	Primary bool
	// Carried tells that a passage is open on it.
	Carried bool
	// Down says why it does not count as available; empty when it does.
	Down string
}

// ID is the member's.
func (n Node) ID() ferryman.NodeID { return n.Member.ID }

// Name is the member's.
func (n Node) Name() string { return n.Member.Name }

// At tells whether the node has reached goal for a part, as observed.
func (n Node) At(part ferryman.Part, goal ferryman.Target) bool {
	if !n.View.Known {
		return false
	}
	if part == ferryman.PartAgents {
		return agentAt(n.View.Status, goal)
	}
	for _, s := range n.Member.Services {
		st, ok := n.View.Status.Service(s.Slot)
		if !ok || !Runs(st, goal) {
			return false
		}
	}
	return true
}

// Runs tells whether the service runs goal: selected, launched and, by what
// the process itself says, that version.
func Runs(s ferryman.ServiceStatus, goal ferryman.Target) bool {
	return Selects(s, goal) && launches(s, goal) && s.Unit.Active && s.Instance.Running &&
		(goal.Version == "" || s.Instance.Version == goal.Version)
}

// Selects tells whether the next start of the service runs goal.
func Selects(s ferryman.ServiceStatus, goal ferryman.Target) bool { return same(s.Selected, goal) }

func launches(s ferryman.ServiceStatus, goal ferryman.Target) bool { return same(s.Launched, goal) }

// same compares targets; a goal without a version takes any.
func same(t, goal ferryman.Target) bool {
	if goal.Version == "" {
		t.Version = ""
	}
	return t.Equal(goal)
}

// agentAt: a goal without a version is what each host has installed. What was
// switched to counts as well as what runs: the next start may be nobody's doing.
func agentAt(s ferryman.NodeStatus, goal ferryman.Target) bool {
	return runsAgent(s, goal) && starts(s, goal.Version)
}

func runsAgent(s ferryman.NodeStatus, goal ferryman.Target) bool {
	at := s.Agent.Version == goal.Version
	if goal.Version == "" {
		at = s.Release == ""
	}
	return at && s.Agent.RestartGeneration >= goal.RestartGeneration
}

// HealthyFor tells whether what a part is about has been healthy for d: the
// services, or the agent, which may be well beside a database that is not.
func (n Node) HealthyFor(part ferryman.Part, d ferryman.Duration, now time.Time) bool {
	if part == ferryman.PartAgents {
		return n.View.Reachable && n.View.CaughtUp
	}
	return n.Down == "" && !n.View.HealthySince.IsZero() && now.Sub(n.View.HealthySince) >= d.Std()
}
