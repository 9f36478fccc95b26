package plan

import (
	"fmt"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// passage moves one node on, or fails its part.
func (x *situation) passage(p *proposal, n upgrade.Node, pg ferryman.Passage, pp ferryman.PartProgress) {
	if x.silent(n) >= x.v.Limits.DeadAfter.Std() {
		x.lose(p, n, pg, pp)
		return
	}
	if x.since(later(pg.Began, pp.Progress)) >= x.policy.ProgressDeadline.Std() {
		x.fail(p, pg.Part, pp, n.Name()+" was not carried within progressDeadline "+x.policy.ProgressDeadline.String()+colon(n.Down))
		return
	}
	if !n.View.Reachable && pg.Part == ferryman.PartDatabase {
		p.wait("unreachable", n.ID(), "%s is being carried and does not answer for %s", n.Name(), x.silent(n).Round(time.Second))
		return
	}
	next := x.next(n, pg)
	switch {
	case next.Done:
		p.move(ferryman.Transition{Kind: ferryman.MoveEndPassage, Node: n.ID()})
	case next.Failed != "" && pp.Status == ferryman.PartOpen:
		x.fail(p, pg.Part, pp, putBack(n, next.Failed))
	case next.Failed != "":
		p.wait("put-back", n.ID(), "%s", putBack(n, next.Failed))
	case next.Switchover:
		x.switchAway(p, n, pg)
	case next.Wait != "":
		p.wait("passage", n.ID(), "%s", next.Wait)
	case x.s.Failover != nil && needsPrimary(next.Op):
		p.wait("failover", n.ID(), "%s of %s waits for the end of the failover", next.Op, n.Name())
	default:
		x.passageStep(p, n, pg, pp, next)
	}
}

// needsPrimary tells that an operation cannot end well without a primary: what
// an instance holds must not be replaced by what a lost one held.
func needsPrimary(op ferryman.Op) bool {
	return op == ferryman.OpFollow || op == ferryman.OpClone || op == ferryman.OpRewind || op == ferryman.OpVerify
}

// lose ends the passage of a node that has been silent for too long: the rule
// of members replaces it, or it is carried anew when it returns. Only an agent
// of a new version is blamed for it.
func (x *situation) lose(p *proposal, n upgrade.Node, pg ferryman.Passage, pp ferryman.PartProgress) {
	silent := x.silent(n).Round(time.Second)
	if pg.Part == ferryman.PartAgents && pp.Status == ferryman.PartOpen && pp.To.Target.Version != pp.From.Target.Version {
		x.fail(p, pg.Part, pp, fmt.Sprintf("the agent of %s did not come back within %s", n.Name(), silent))
	}
	p.move(ferryman.Transition{Kind: ferryman.MoveEndPassage, Node: n.ID(), Lost: true, Reason: fmt.Sprintf("it did not answer for %s", silent)})
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (x *situation) next(n upgrade.Node, pg ferryman.Passage) upgrade.Next {
	_, _, can := upgrade.Successor(x.nodes, x.s.Primary, x.primaryService(), pg.Goal.Target)
	f := upgrade.Facts{Goal: pg.Goal, Engine: x.engine, Primary: x.s.Primary, PrimaryService: x.primaryService(),
		CanSwitchOver: can || len(x.serve) > 1, FailingOver: x.s.Failover != nil,
		Ended: func(service string, op ferryman.Op) *ferryman.Step {
			tried := x.tried(n.ID(), service, op, pg.FirstStep)
			for i := len(tried) - 1; i >= 0; i-- {
				if !tried[i].Open() {
					return &tried[i]
				}
			}
			return nil
		}}
	if pg.Part == ferryman.PartAgents {
		return upgrade.Agent(n, pg, f, x.nodes, x.policy.DemoteOnRestart == ferryman.DemoteAlways)
	}
	return upgrade.Database(n, pg, f)
}

// switchAway moves the primary to a node that can take it.
func (x *situation) switchAway(p *proposal, n upgrade.Node, pg ferryman.Passage) {
	if what := x.changing(); what != "" {
		p.wait(what, n.ID(), "%s waits for the end of the %s", n.Name(), what)
		return
	}
	to, why, ok := upgrade.Successor(x.nodes, x.s.Primary, x.primaryService(), pg.Goal.Target)
	if !ok {
		p.wait("switchover-candidate", n.ID(), "%s is the primary and waits for a successor: %s", n.Name(), why)
		return
	}
	p.move(ferryman.Transition{Kind: ferryman.MoveBeginSwitchover, Node: to.ID(), By: "rollout"})
}

// proves tells whether failures of an operation speak against what is being
// rolled out. What depends on other nodes is tried until progressDeadline.
func proves(op ferryman.Op) bool {
	switch op {
	case ferryman.OpStage, ferryman.OpSwitch, ferryman.OpConfigure, ferryman.OpStart, ferryman.OpStop, ferryman.OpVerify, ferryman.OpExit:
		return true
	}
	return false
}

// minComeback is what a new agent has to come back in at least.
const minComeback = ferryman.Duration(10 * time.Second)

// onTrial gives the new agent as long to be back in the cluster as its switch
// may take: what does not hold is put back, and answers, before its node counts
// as dead and before the lease ends that the primary took for it.
func (x *situation) onTrial(st *ferryman.Step, n upgrade.Node, goal ferryman.Known) {
	st.Deadline = min(max(x.v.Limits.DeadAfter/2, minComeback), ferryman.RestartLease/2)
	if goal.Release.Digest() != "" {
		st.Args.Release = &goal.Release
	}
	x.stageFirst(st, n, goal)
}

// stageFirst stages what a switch wants and is not there.
func (x *situation) stageFirst(st *ferryman.Step, n upgrade.Node, goal ferryman.Known) {
	if goal.Release.Digest() != "" && !staged(n, goal.Release) {
		st.Op, st.Service, st.Args.Release, st.Args.Keep, st.Deadline = ferryman.OpStage, "", &goal.Release, x.policy.KeepVersions, 0
	}
}

// passageStep tries the next operation, and fails the part when it was tried
// too often: a step that was done and does not hold counts as well.
func (x *situation) passageStep(p *proposal, n upgrade.Node, pg ferryman.Passage, pp ferryman.PartProgress, next upgrade.Next) {
	st := ferryman.Step{Op: next.Op, Node: n.ID(), Service: next.Service, Args: next.Args}
	if next.Node != "" {
		st.Node = next.Node
	}
	if st.Op.ByLeader() {
		st.Deadline = ferryman.Duration(time.Minute)
	}
	if st.Op == ferryman.OpSwitch {
		if pg.Part == ferryman.PartAgents {
			x.onTrial(&st, n, pg.Goal)
		} else {
			x.stageFirst(&st, n, pg.Goal)
		}
	}
	tried := x.tried(st.Node, st.Service, st.Op, pg.FirstStep)
	if len(tried) >= attempts && !tried[len(tried)-1].Open() && pp.Status == ferryman.PartOpen && proves(st.Op) {
		reason := string(st.Op) + " on " + n.Name() + " failed: " + lastReason(tried)
		if tried[len(tried)-1].Outcome.Done() {
			reason = string(st.Op) + " on " + n.Name() + " does not hold" + colon(n.Down)
		}
		x.fail(p, pg.Part, pp, reason)
		return
	}
	x.again(p, st, pg.FirstStep)
}
