package plan

import (
	"ferryman"
	"ferryman/upgrade"
)

// begin opens passages as far as gates and budget allow.
func (x *situation) begin(p *proposal, part ferryman.Part, pp ferryman.PartProgress, left []upgrade.Node) {
	if g := upgrade.Gates(x.s, part, pp, x.of(part), x.now); !g.Open() {
		p.wait(g.Code, "", "%s", g.Reason)
		return
	}
	for _, n := range x.nodes {
		if part == ferryman.PartDatabase && x.tornDown(n, p) {
			p.wait("leave", n.ID(), "the next node waits until %s has left", n.Name())
			return
		}
	}
	if what := x.changing(); what != "" {
		p.wait(what, "", "the next node waits for the end of the %s", what)
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
		if !pp.First && !upgrade.Versions(x.nodes, part, pp.From.Target, goal.Target, n.ID()) {
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
		if part == ferryman.PartDatabase && fresh(n) {
			p.wait("installing", n.ID(), "%s is new and does not run its database yet", n.Name())
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

// votingLeaver is a member on its way out that still has its vote.
func (x *situation) votingLeaver() (upgrade.Node, bool) {
	for _, n := range x.nodes {
		if n.Member.Want == ferryman.WantLeaving && n.Suffrage == ferryman.Voter {
			return n, true
		}
	}
	return upgrade.Node{}, false
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
		if _, already := open[n.ID()]; !already && !n.At(part, pp.From.Target) && n.View.Reachable && n.Member.Want == ferryman.WantActive &&
			upgrade.Versions(x.nodes, part, pp.From.Target, pp.From.Target, n.ID()) {
			return n, true
		}
	}
	return upgrade.Node{}, false
}

// fresh tells that nothing was ever installed on a node: the rule of repair
// does that, on all newcomers at a time.
func fresh(n upgrade.Node) bool {
	for _, s := range n.View.Status.Services {
		if s.Unit.Active || !s.Selected.Equal(ferryman.Target{}) {
			return false
		}
	}
	return n.View.Known
}
