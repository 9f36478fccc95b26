package plan

import (
	"fmt"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// attempts is how often one operation is tried within a passage, or a stage or
// preflight within a part, before the part has failed.
const attempts = 3

// upgrades carries the cluster to the accepted document: agents first, then
// the database, node by node.
func upgrades(x *situation) (p proposal) {
	if x.s.Accepted == nil {
		return p
	}
	r := x.s.Rollout
	if x.s.Stale() {
		if r.Supersedable() {
			p.move(ferryman.Transition{Kind: ferryman.MoveSupersede})
			return p
		}
		p.wait("supersede", "", "generation %d is accepted and begins after what is carried now", x.s.Accepted.Document.Generation)
	}
	if !r.Open() {
		p.wait("complete", "", "generation %d is done", r.Generation)
		return p
	}
	for _, part := range ferryman.Parts {
		if pp := r.Parts[part]; !pp.Status.Done() {
			x.carry(&p, part, pp)
			return p
		}
	}
	return p
}

// carry moves one part on.
func (x *situation) carry(p *proposal, part ferryman.Part, pp ferryman.PartProgress) {
	if pp.Status == ferryman.PartHalted {
		p.wait("halted", "", "the rollout of %s stands still: %s", part, pp.Reason)
		return
	}
	if part == ferryman.PartAgents && x.s.Switchover != nil {
		p.wait("switchover", "", "agents wait for the end of the switchover")
		return
	}
	under := false
	for _, n := range x.nodes {
		if pg, ok := x.passages()[n.ID()]; ok {
			under = true
			x.passage(p, n, pg, pp)
		}
	}
	if pp.Status == ferryman.PartOpen {
		if why := x.crashed(part, pp); why != "" {
			x.fail(p, part, pp, why)
			return
		}
	}
	left := x.left(part, pp)
	if len(left) == 0 {
		if !under {
			x.finish(p, part, pp)
		}
		return
	}
	if x.s.Stale() && pp.Status != ferryman.PartReverting {
		return // no passage begins towards what is not wanted any more
	}
	if pp.First && part == ferryman.PartDatabase {
		p.wait("installing", left[0].ID(), "the first of %d nodes does not run %s yet", len(x.serve), version(pp.To.Target))
		return
	}
	if pp.Status == ferryman.PartOpen && !x.prepared(p, part, pp) {
		return
	}
	x.begin(p, part, pp, left)
}

// of are the nodes that a part is about.
func (x *situation) of(part ferryman.Part) (out []upgrade.Node) {
	nodes := x.serve
	if part == ferryman.PartAgents {
		nodes = x.stay
	}
	for _, n := range nodes {
		if n.Suffrage != "" { // one that is not admitted yet cannot read a step
			out = append(out, n)
		}
	}
	return out
}

// left are the nodes that have not reached the part's goal.
func (x *situation) left(part ferryman.Part, pp ferryman.PartProgress) (out []upgrade.Node) {
	for _, n := range x.of(part) {
		if !n.At(part, pp.Goal().Target) || part == ferryman.PartDatabase && pp.First && x.single {
			out = append(out, n)
		}
	}
	return out
}

// finish ends a part whose nodes are all where they should be.
func (x *situation) finish(p *proposal, part ferryman.Part, pp ferryman.PartProgress) {
	if len(x.of(part)) == 0 {
		p.wait("no-nodes", "", "no node is there that could be carried")
		return
	}
	if pp.Status == ferryman.PartReverting {
		p.move(ferryman.Transition{Kind: ferryman.MovePart, Part: part, Status: ferryman.PartReverted, Reason: pp.Reason})
		return
	}
	if len(pp.Carried) > 0 {
		if x.policy.Finalize == ferryman.FinalizeManual && !pp.Continue {
			p.wait("finalize", "", "all nodes run %s; `ferryman rollout continue` makes it final, `ferryman rollout abort` goes back", version(pp.To.Target))
			return
		}
		for _, n := range x.of(part) {
			if !n.HealthyFor(part, x.policy.MinHealthy, x.now) {
				p.wait("min-healthy", n.ID(), "%s has not been healthy for %s yet%s", n.Name(), x.policy.MinHealthy, colon(n.Down))
				return
			}
		}
	}
	p.move(ferryman.Transition{Kind: ferryman.MovePart, Part: part, Status: ferryman.PartComplete})
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func version(t ferryman.Target) string {
	if t.Version == "" {
		return "what is wanted"
	}
	return t.Version
}

// crashed tells that a node which was carried does not hold: its service ended
// more than once since. One crash may be anyone's; two are the release's.
func (x *situation) crashed(part ferryman.Part, pp ferryman.PartProgress) string {
	if part != ferryman.PartDatabase {
		return ""
	}
	for _, c := range pp.Carried {
		n, ok := x.node(c.Node)
		if !ok || !n.View.Reachable || x.carried(c.Node) {
			continue
		}
		for _, svc := range n.View.Status.Services {
			restarts := 0
			for _, st := range x.tried(c.Node, svc.Slot, ferryman.OpStart, pp.FirstStep) {
				if st.Rule == ferryman.RuleRepair && !st.Open() {
					restarts++
				}
			}
			if !svc.Unit.Active && restarts >= 1 {
				return n.Name() + " was carried and its " + svc.Slot + " ended again and again: " + svc.Unit.Result
			}
		}
	}
	return ""
}

// fail turns a part back, or lets it stand still where the policy or the lack
// of anything to go back to says so.
func (x *situation) fail(p *proposal, part ferryman.Part, pp ferryman.PartProgress, reason string) {
	status := ferryman.PartReverting
	if x.policy.OnFailure == ferryman.FailureHalt || pp.First || pp.Status == ferryman.PartReverting || x.noReturn(part, pp) {
		status = ferryman.PartHalted
	}
	p.move(ferryman.Transition{Kind: ferryman.MovePart, Part: part, Status: status, Reason: reason})
}

// noReturn tells that the new version's primary took writes that the old
// version cannot read: the switchover was the point of no return.
func (x *situation) noReturn(part ferryman.Part, pp ferryman.PartProgress) bool {
	if part != ferryman.PartDatabase || pp.Status != ferryman.PartOpen || !upgrade.Runs(x.primaryService(), pp.To.Target) {
		return false
	}
	for _, st := range x.s.Ledger {
		if st.ID >= pp.FirstStep && st.Op == ferryman.OpPreflight && st.Outcome.Done() && st.Outcome.Result.NoReturn {
			return true
		}
	}
	return false
}

// prepared stages the release on all nodes and asks all engines, before any
// node is touched; it answers whether all of that is done.
func (x *situation) prepared(p *proposal, part ferryman.Part, pp ferryman.PartProgress) bool {
	if hold, held := x.s.RolloutHold(); held {
		p.wait("paused", "", "the rollout is %s; `ferryman rollout resume` lets it go on", hold)
		return false
	}
	ready := true
	args := ferryman.Args{Engine: x.engine, Version: pp.To.Target.Version, RestartGeneration: pp.To.Target.RestartGeneration, Parameters: pp.To.Target.Parameters, Keep: x.policy.KeepVersions}
	if part == ferryman.PartAgents {
		args.Engine = ferryman.AgentEngine
	}
	for _, n := range x.of(part) {
		if n.View.Known && !n.View.Reachable || n.Member.Want != ferryman.WantActive {
			continue // it is staged when it comes back: the switch needs it
		}
		if !n.View.Known {
			p.wait("unreachable", n.ID(), "%s: %s", n.Name(), n.Down)
			ready = false
			continue
		}
		if pp.To.Release.Digest() != "" && !staged(n, pp.To.Release) {
			a := args
			a.Release = &pp.To.Release
			ready = x.prepare(p, part, pp, ferryman.Step{Op: ferryman.OpStage, Node: n.ID(), Args: a}) && ready
			continue
		}
		if part == ferryman.PartAgents || n.At(part, pp.To.Target) {
			continue
		}
		for _, svc := range n.View.Status.Services {
			if svc.Instance.Running && svc.Traits.Can(ferryman.OpPreflight) && !upgrade.Selects(svc, pp.To.Target) {
				ready = x.prepare(p, part, pp, ferryman.Step{Op: ferryman.OpPreflight, Node: n.ID(), Service: svc.Slot, Args: args}) && ready
			}
		}
	}
	return ready
}

func staged(n upgrade.Node, r ferryman.Release) bool {
	for _, d := range n.View.Status.Staged {
		if d == r.Digest() {
			return true
		}
	}
	return false
}

// prepare runs one preparation until it is done; attempts that fail end the
// part, blockers are asked about again.
func (x *situation) prepare(p *proposal, part ferryman.Part, pp ferryman.PartProgress, st ferryman.Step) bool {
	tried := x.tried(st.Node, st.Service, st.Op, pp.FirstStep)
	failures := 0
	for _, t := range tried {
		if !t.Open() && !t.Outcome.Done() {
			failures++
		}
	}
	if n := len(tried); n > 0 && tried[n-1].Outcome.Done() && st.Op == ferryman.OpPreflight {
		blockers := tried[n-1].Outcome.Result.Blockers
		if len(blockers) == 0 {
			return true
		}
		p.wait("preflight", st.Node, "%s is not ready for %s: %s", x.name(st.Node), version(pp.To.Target), blockers[0])
		if x.since(pp.Progress) >= x.policy.ProgressDeadline.Std() {
			x.fail(p, part, pp, "preflight on "+x.name(st.Node)+": "+blockers[0])
			return false
		}
		if x.now.Sub(tried[n-1].Outcome.Ended) < 10*time.Second {
			return false
		}
	}
	if failures >= attempts {
		x.fail(p, part, pp, string(st.Op)+" on "+x.name(st.Node)+": "+lastReason(tried))
		return false
	}
	x.again(p, st, pp.FirstStep)
	return false
}

func lastReason(tried []ferryman.Step) string {
	for i := len(tried) - 1; i >= 0; i-- {
		if o := tried[i].Outcome; o != nil && o.Reason != "" {
			return o.Reason
		}
	}
	return "no reason was given"
}

// begin opens passages as far as gates and budget allow.
func (x *situation) begin(p *proposal, part ferryman.Part, pp ferryman.PartProgress, left []upgrade.Node) {
	if g := upgrade.Gates(x.s, part, pp, x.of(part), x.now); !g.Open() {
		p.wait(g.Code, "", "%s", g.Reason)
		return
	}
	if x.s.Switchover != nil {
		p.wait("switchover", "", "the next node waits for the end of the switchover")
		return
	}
	if x.primaryFirst(part, pp) {
		upgrade.Order(part, nil, left)
		for i, n := range left {
			if n.Primary {
				left[0], left[i] = left[i], left[0]
			}
		}
	} else {
		upgrade.Order(part, x.tiers, left)
	}
	open := map[ferryman.NodeID]ferryman.Passage{}
	for id, pg := range x.passages() {
		open[id] = pg
	}
	for _, n := range left {
		if len(open) >= x.policy.MaxUnavailable {
			return
		}
		goal := pp.Goal()
		if !pp.First && !upgrade.Versions(x.of(part), part, pp.From.Target, goal.Target, n.ID()) {
			back, ok := x.collapse(part, pp, left, open)
			if !ok {
				p.wait("versions", n.ID(), "%s waits: carrying it to %s would make three versions, and those that run another cannot be carried back now", n.Name(), version(goal.Target))
				return
			}
			n, goal = back, pp.From
		}
		if _, already := open[n.ID()]; already {
			continue
		}
		if n.Member.Want != ferryman.WantActive || !n.View.Reachable {
			p.wait("unreachable", n.ID(), "%s is to be carried and cannot be: %s", n.Name(), n.Down)
			continue
		}
		if n.Primary && len(open) > 0 {
			return
		}
		if g := upgrade.Budget(x.policy.MaxUnavailable, part, x.of(part), open, n.ID()); !g.Open() {
			p.wait(g.Code, n.ID(), "%s waits: %s", n.Name(), g.Reason)
			return
		}
		if part == ferryman.PartAgents {
			if leaver, ok := x.votingLeaver(); ok {
				p.wait("quorum", n.ID(), "%s waits until %s has given up its vote", n.Name(), leaver.Name())
				return
			}
			if g := upgrade.Quorum(x.nodes, n.ID()); !g.Open() {
				p.wait(g.Code, n.ID(), "%s waits: %s", n.Name(), g.Reason)
				return
			}
		} else if n.Down == "" && !x.settled(p, n) {
			return
		}
		open[n.ID()] = ferryman.Passage{}
		p.move(ferryman.Transition{Kind: ferryman.MoveBeginPassage, Node: n.ID(), Part: part, Goal: goal,
			BootID: n.View.Status.BootID, Voter: n.Suffrage == ferryman.Voter})
	}
}

// votingLeaver is a member on its way out that still has its vote.
func (x *situation) votingLeaver() (upgrade.Node, bool) {
	for _, n := range x.nodes {
		if n.Member.Want == ferryman.WantLeaving && n.Suffrage == ferryman.Voter {
			return n, true
		}
	}
	return upgrade.Node{}, false
}

// primaryFirst tells that a preflight found parameters that must reach the
// primary before its replicas.
func (x *situation) primaryFirst(part ferryman.Part, pp ferryman.PartProgress) bool {
	if part != ferryman.PartDatabase || pp.Status != ferryman.PartOpen {
		return false
	}
	for _, st := range x.s.Ledger {
		if st.ID >= pp.FirstStep && st.Op == ferryman.OpPreflight && st.Outcome.Done() && st.Outcome.Result.PrimaryFirst {
			return true
		}
	}
	return false
}

// settled tells that the nodes beside n have been healthy for minHealthy, so
// that taking n down leaves a sound cluster.
func (x *situation) settled(p *proposal, n upgrade.Node) bool {
	unready := 0
	for _, o := range x.serve {
		if o.ID() != n.ID() && !o.HealthyFor(ferryman.PartDatabase, x.policy.MinHealthy, x.now) {
			unready++
			if unready >= x.policy.MaxUnavailable {
				p.wait("min-healthy", o.ID(), "%s waits until %s has been healthy for %s%s", n.Name(), o.Name(), x.policy.MinHealthy, colon(o.Down))
				return false
			}
		}
	}
	return true
}

// collapse finds a node that runs neither the last complete version nor the
// goal, after one rollout superseded another: it goes back first, so that
// never three versions of one thing run.
func (x *situation) collapse(part ferryman.Part, pp ferryman.PartProgress, left []upgrade.Node, open map[ferryman.NodeID]ferryman.Passage) (upgrade.Node, bool) {
	for _, n := range left {
		if _, already := open[n.ID()]; !already && !n.At(part, pp.From.Target) && n.View.Reachable && n.Member.Want == ferryman.WantActive {
			return n, true
		}
	}
	return upgrade.Node{}, false
}

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
	case next.Switchover:
		x.switchAway(p, n, pg)
	case next.Wait != "":
		p.wait("passage", n.ID(), "%s", next.Wait)
	default:
		x.passageStep(p, n, pg, pp, next)
	}
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
	_, _, can := upgrade.Successor(x.nodes, x.s.Primary.Slot, pg.Goal.Target, n.ID())
	f := upgrade.Facts{Goal: pg.Goal, Engine: x.engine, Primary: x.s.Primary, PrimaryService: x.primaryService(),
		CanSwitchOver: can || len(x.serve) > 1,
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
	if x.s.Switchover != nil {
		p.wait("switchover", n.ID(), "%s waits for the end of the switchover", n.Name())
		return
	}
	to, why, ok := upgrade.Successor(x.nodes, x.s.Primary.Slot, pg.Goal.Target, n.ID())
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
	if st.Op == ferryman.OpSwitch && pg.Goal.Release.Digest() != "" && !staged(n, pg.Goal.Release) {
		st.Op, st.Service, st.Args.Release, st.Args.Keep = ferryman.OpStage, "", &pg.Goal.Release, x.policy.KeepVersions
	}
	tried := x.tried(st.Node, st.Service, st.Op, pg.FirstStep)
	if len(tried) >= attempts && !tried[len(tried)-1].Open() && pp.Status == ferryman.PartOpen && proves(st.Op) {
		reason := string(st.Op) + " on " + n.Name() + " failed " + lastReason(tried)
		if tried[len(tried)-1].Outcome.Done() {
			reason = string(st.Op) + " on " + n.Name() + " does not hold" + colon(n.Down)
		}
		x.fail(p, pg.Part, pp, reason)
		return
	}
	x.again(p, st, pg.FirstStep)
}
