package upgrade

import (
	"slices"
	"strings"

	"ferryman"
)

// Next is what a passage does next: an operation, or a reason for waiting, or
// that it is done. A switchover is asked for by Switchover.
type Next struct {
	Op         ferryman.Op
	Service    string
	Args       ferryman.Args
	Node       ferryman.NodeID // whom the operation is for; empty means the passage's node
	Wait       string
	Switchover bool
	Done       bool
	Failed     string // why it cannot be done
}

// Facts are what a passage reads beside its node.
type Facts struct {
	Goal    ferryman.Known
	Engine  string
	Primary ferryman.Primary
	// PrimaryService is the primary's service as last reported.
	PrimaryService ferryman.ServiceStatus
	// Ended tells how the newest closed step of that operation on the node's
	// service went within this passage; nil when there was none.
	Ended func(service string, op ferryman.Op) *ferryman.Step
	// CanSwitchOver tells that another node could be the primary.
	CanSwitchOver bool
	// FailingOver tells that the primary is being replaced: nobody is granted its
	// lease meanwhile.
	FailingOver bool
}

// Database is the passage of one node's services to a version, a restart or
// parameters: the next operation is the first that is not yet true in the
// world. The ledger is asked only for what leaves no trace there.
func Database(n Node, p ferryman.Passage, f Facts) Next {
	for _, svc := range n.Member.Services {
		s, ok := n.View.Status.Service(svc.Slot)
		if !ok {
			return Next{Wait: n.Name() + " does not report " + svc.Slot}
		}
		if next := service(n, s, f); !next.Done {
			return next
		}
	}
	return Next{Done: true}
}

func service(n Node, s ferryman.ServiceStatus, f Facts) Next {
	target := f.Goal.Target
	args := ferryman.Args{Engine: f.Engine, Version: target.Version, RestartGeneration: target.RestartGeneration, Parameters: target.Parameters}
	do := func(op ferryman.Op) Next { return Next{Op: op, Service: s.Slot, Args: args} }
	if !Selects(s, target) {
		if onlyParameters(s.Selected, target) && s.Unit.Active && s.Instance.Running {
			if configured := f.Ended(s.Slot, ferryman.OpConfigure); !ended(configured) || !configured.Outcome.Result.RestartNeeded {
				return do(ferryman.OpConfigure)
			}
		}
		if s.Unit.Active {
			return stop(n, s, f, do)
		}
		return do(ferryman.OpSwitch)
	}
	if s.Unit.Active && !launches(s, target) {
		return stop(n, s, f, do)
	}
	if !s.Unit.Active || !s.Instance.Running {
		return do(ferryman.OpStart)
	}
	if f.Primary.Epoch > 0 && !n.Primary {
		rewind := f.Ended(s.Slot, ferryman.OpRewind)
		if op, missing := Replicate(s, f.PrimaryService, f.Primary, rewind != nil && !ended(rewind)); missing {
			if f.PrimaryService.Instance.Writable {
				args.From, args.Epoch = f.PrimaryService.Address, f.Primary.Epoch
				return do(op)
			}
			if Runs(f.PrimaryService, target) {
				return Next{Wait: "the primary does not accept writes yet, so that " + n.Name() + " cannot follow it"}
			}
			// A primary that is down and still to be carried is not waited for:
			// what it is carried to may be what makes it run.
		} else if !s.Instance.Streaming {
			return Next{Wait: n.Name() + " is catching up with the primary"}
		}
	}
	if n.Primary && !s.Instance.Writable {
		return Next{Wait: n.Name() + " is the primary and does not accept writes yet"}
	}
	if verified := f.Ended(s.Slot, ferryman.OpVerify); !ended(verified) || after(f.Ended(s.Slot, ferryman.OpStart), verified) {
		if !n.Primary && s.Instance.Streaming {
			if s.Instance.History != f.PrimaryService.Instance.History {
				// One of the two reports is older than a promotion.
				return Next{Wait: n.Name() + " streams, and is not seen in the primary's history yet"}
			}
			args.History, args.Position = f.PrimaryService.Instance.History, f.PrimaryService.Instance.Position
		}
		return do(ferryman.OpVerify)
	}
	if s.Instance.Drained && s.Traits.Can(ferryman.OpUndrain) {
		return do(ferryman.OpUndrain)
	}
	return Next{Done: true}
}

// stop is the way down: drained, not the primary if another node can be, and
// nothing that the engine says against it.
func stop(n Node, s ferryman.ServiceStatus, f Facts, do func(ferryman.Op) Next) Next {
	if n.Primary && f.CanSwitchOver {
		return Next{Switchover: true}
	}
	if len(s.Instance.Blockers) > 0 {
		return Next{Wait: n.Name() + " must not be stopped now: " + s.Instance.Blockers[0]}
	}
	if s.Traits.Can(ferryman.OpDrain) && !s.Instance.Drained && s.Instance.Running {
		return do(ferryman.OpDrain)
	}
	if s.Traits.Can(ferryman.OpCheckpoint) && s.Instance.Running && !ended(f.Ended(s.Slot, ferryman.OpCheckpoint)) {
		return do(ferryman.OpCheckpoint)
	}
	return do(ferryman.OpStop)
}

// Follows tells whether a service follows the primary of its epoch.
func Follows(s, primary ferryman.ServiceStatus, p ferryman.Primary) bool {
	return s.Instance.Role == ferryman.RoleReplica && s.Instance.Following == primary.Address && s.Instance.Epoch == p.Epoch
}

// Replicate is what makes a service a replica of the primary: a copy where it
// has no data or others, a rewind where its engine can and has not failed to,
// and then to follow. Nothing is missing when it follows already.
func Replicate(s, primary ferryman.ServiceStatus, p ferryman.Primary, rewindFailed bool) (op ferryman.Op, missing bool) {
	switch {
	case !s.Instance.Initialised:
		return ferryman.OpClone, true
	case s.Instance.Diverged && s.Traits.Can(ferryman.OpRewind) && !rewindFailed:
		return ferryman.OpRewind, true
	case s.Instance.Diverged:
		return ferryman.OpClone, true
	}
	return ferryman.OpFollow, !Follows(s, primary, p)
}

func ended(st *ferryman.Step) bool { return st != nil && st.Outcome.Done() }

// after tells whether a was committed after b.
func after(a, b *ferryman.Step) bool { return a != nil && a.ID > b.ID }

func onlyParameters(t, goal ferryman.Target) bool {
	t.Parameters = goal.Parameters
	return same(t, goal)
}

// Agent is the passage of one node's agent: leadership away, a vote given up
// where that is safe, the version switched, the agent ended and, when it has
// come back and caught up, the vote given back. The primary's is back when it
// holds the lease again: until then the one that it took for this must last.
func Agent(n Node, p ferryman.Passage, f Facts, nodes []Node, always bool) Next {
	target := f.Goal.Target
	if n.At(ferryman.PartAgents, target) {
		switch {
		case !n.View.Reachable || !n.View.CaughtUp:
			return Next{Wait: n.Name() + " has come back and is catching up with the Raft log"}
		case p.Voter && n.Suffrage != ferryman.Voter && !seatTaken(nodes):
			return Next{Op: ferryman.OpVote}
		case f.leased(n) && !f.holds(n) && !f.FailingOver:
			return Next{Wait: n.Name() + " has come back and does not hold the primary's lease yet"}
		}
		return Next{Done: true}
	}
	if p.BootID != "" && n.View.Status.BootID == p.BootID && ended(f.Ended("", ferryman.OpExit)) {
		return Next{Wait: n.Name() + " ends its agent, which has not come back yet"}
	}
	if back := n.View.Status.PutBack; back != nil && PutBack(n, f.Goal) && ended(f.Ended("", ferryman.OpExit)) {
		return Next{Failed: back.Reason}
	}
	if runsAgent(n.View.Status, target) {
		return Next{Op: ferryman.OpSwitch, Args: agentArgs(target)} // only what it would start is another
	}
	if n.Leader {
		to, ok := Heir(nodes, n.ID())
		if !ok {
			if voters(nodes) == 1 {
				return Restart(n, f.Goal, f)
			}
			return Next{Wait: "no other voter has caught up to take Raft's leadership from " + n.Name()}
		}
		return Next{Op: ferryman.OpTransfer, Args: ferryman.Args{To: to}}
	}
	if n.Suffrage == ferryman.Voter {
		demote, spare := Demotion(nodes, n.ID(), always)
		if spare != "" {
			return Next{Op: ferryman.OpVote, Node: spare}
		}
		if demote {
			return Next{Op: ferryman.OpDemote}
		}
	}
	return Restart(n, f.Goal, f)
}

// Restart is the end of the agent, after the primary's has taken a lease that
// outlasts it, and after the switch to the goal's version. The plan sees to the
// lease for as long as the passage is open.
func Restart(n Node, goal ferryman.Known, f Facts) Next {
	args := agentArgs(goal.Target)
	if f.leased(n) && !(f.holds(n) && n.View.Status.Lease.Length >= ferryman.RestartLease) {
		return Next{Wait: n.Name() + " takes a lease of " + ferryman.RestartLease.String() + " before its agent restarts"}
	}
	if !starts(n.View.Status, args.Version) {
		return Next{Op: ferryman.OpSwitch, Args: args}
	}
	return Next{Op: ferryman.OpExit, Args: args}
}

// leased tells that the node is the primary and loses that with its lease.
func (f Facts) leased(n Node) bool {
	return n.Primary && f.Primary.Lease != nil && f.Primary.Lease.Enforced
}

// holds tells that the node's agent said it holds the lease, its guard armed.
func (f Facts) holds(n Node) bool {
	l := n.View.Status.Lease
	return l != nil && l.Epoch == f.Primary.Epoch
}

func agentArgs(t ferryman.Target) ferryman.Args {
	return ferryman.Args{Engine: ferryman.AgentEngine, Version: t.Version, RestartGeneration: t.RestartGeneration}
}

// starts tells whether the next start of the agent runs the version; an empty
// one is what the host has installed.
func starts(s ferryman.NodeStatus, version string) bool {
	installed := !slices.ContainsFunc(s.Selected, func(key string) bool { return strings.HasPrefix(key, ferryman.AgentEngine+"/") })
	switch {
	case version == "":
		return installed
	case installed:
		return s.Release == "" && s.Agent.Version == version
	}
	return slices.Contains(s.Selected, ferryman.ReleaseKey(ferryman.AgentEngine, version))
}

// PutBack tells that the node tried this release of the agent and put back what
// it had before.
func PutBack(n Node, goal ferryman.Known) bool {
	b := n.View.Status.PutBack
	return b != nil && b.Version == goal.Target.Version && b.Digest == goal.Release.Digest()
}

// Demotion says whether a voter is demoted before its agent restarts: when
// three voters remain without it, or when a caught-up non-voter takes its
// seat, which then has to get its vote first.
func Demotion(nodes []Node, id ferryman.NodeID, always bool) (demote bool, spare ferryman.NodeID) {
	v := voters(nodes)
	if v-1 >= 3 || always && v > 1 {
		return true, ""
	}
	if v != 3 {
		return false, ""
	}
	for _, n := range nodes {
		if n.ID() != id && n.Suffrage == ferryman.Nonvoter && n.View.CaughtUp && n.View.Reachable && n.Member.Want == ferryman.WantActive {
			return false, n.ID()
		}
	}
	return false, ""
}

func voters(nodes []Node) (n int) {
	for _, o := range nodes {
		if o.Suffrage == ferryman.Voter {
			n++
		}
	}
	return n
}

// seatTaken tells that an odd number of at least three voters stands without
// the demoted node: a spare has its seat, and it stays one itself.
func seatTaken(nodes []Node) bool { v := voters(nodes); return v >= 3 && v%2 == 1 }

// Heir is the voter that takes leadership: caught up, not on its way out, and
// not the primary's node, if there is another.
func Heir(nodes []Node, but ferryman.NodeID) (ferryman.NodeID, bool) {
	best, rank := ferryman.NodeID(""), -1
	for _, n := range nodes {
		if n.ID() == but || n.Suffrage != ferryman.Voter || !n.View.Reachable || !n.View.CaughtUp || n.Member.Want != ferryman.WantActive {
			continue
		}
		r := 0
		if !n.Primary {
			r = 1
		}
		if r > rank {
			best, rank = n.ID(), r
		}
	}
	return best, best != ""
}
