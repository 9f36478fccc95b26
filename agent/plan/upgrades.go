package plan

import (
	"fmt"

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
		if n, ok := x.straggler(); ok {
			p.move(ferryman.Transition{Kind: ferryman.MoveCarryAgents, Node: n.ID()})
			return p
		}
		if f := x.understood(); f > x.s.Format {
			p.move(ferryman.Transition{Kind: ferryman.MoveRaiseFormat, Format: f})
		}
		p.wait("complete", "", "generation %d is done", r.Generation)
		return p
	}
	x.underWay(&p)
	still := false
	for _, part := range ferryman.Parts {
		pp := r.Parts[part]
		if pp.Status.Done() || still && pp.Status != ferryman.PartReverting {
			continue // what goes back does so also when what comes before it stands still
		}
		x.carry(&p, part, pp)
		if still = x.still(part, pp); !still {
			return p
		}
	}
	return p
}

// still tells that a part is not moved on: until a person says so, or a newer
// document's rollout begins.
func (x *situation) still(part ferryman.Part, pp ferryman.PartProgress) bool {
	return pp.Status == ferryman.PartHalted || pp.Status == ferryman.PartOpen && x.s.Stale() && !x.carrying(part)
}

// carrying tells that a part has a node under way.
func (x *situation) carrying(part ferryman.Part) bool {
	for _, pg := range x.passages() {
		if pg.Part == part {
			return true
		}
	}
	return false
}

// underWay moves the nodes on that are being carried, each as its own part goes.
// Where that stands still, an agent that is there has arrived all the same: it is
// waited for by its host, and not for long.
func (x *situation) underWay(p *proposal) {
	for _, n := range x.nodes {
		pg, ok := x.passages()[n.ID()]
		if !ok {
			continue
		}
		pp := x.s.Rollout.Parts[pg.Part]
		agents := pg.Part == ferryman.PartAgents
		switch {
		case x.s.Frozen == nil && pp.Status != ferryman.PartHalted && !(agents && x.changing() != ""):
			x.passage(p, n, pg, pp)
		case agents && x.next(n, pg).Done:
			p.move(ferryman.Transition{Kind: ferryman.MoveEndPassage, Node: n.ID()})
		}
	}
}

// straggler is a node whose agent is another version than that of all: its host
// is new and has another installed, or was away.
func (x *situation) straggler() (upgrade.Node, bool) {
	complete, known := x.s.Complete[ferryman.PartAgents]
	complete.Target.RestartGeneration = 0
	for _, n := range x.of(ferryman.PartAgents) {
		if known && n.View.Reachable && n.View.CaughtUp && n.Member.Want == ferryman.WantActive && !n.At(ferryman.PartAgents, complete.Target) {
			return n, true
		}
	}
	return upgrade.Node{}, false
}

// understood is the newest format of the replicated state that all agents know,
// as they said to this leader; zero while one has not. It is gone by between two
// rollouts only: an agent that is put back must understand what was committed.
func (x *situation) understood() (format uint32) {
	for i, n := range x.nodes {
		if !n.View.Reachable {
			return 0
		}
		if f := n.View.Status.Format; i == 0 || f < format {
			format = f
		}
	}
	return format
}

// carry moves one part on.
func (x *situation) carry(p *proposal, part ferryman.Part, pp ferryman.PartProgress) {
	if pp.Status == ferryman.PartHalted {
		p.wait("halted", "", "the rollout of %s stands still: %s", part, pp.Reason)
		return
	}
	if what := x.changing(); part == ferryman.PartAgents && what != "" {
		p.wait(what, "", "agents wait for the end of the %s", what)
		return
	}
	if pp.Status == ferryman.PartOpen {
		if why := x.crashed(part, pp); why != "" {
			x.fail(p, part, pp, why)
			return
		}
	}
	left := x.left(part, pp)
	if len(left) == 0 {
		if !x.carrying(part) {
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
	for _, c := range pp.Carried {
		n, ok := x.node(c.Node)
		if !ok || !n.View.Reachable || x.carried(c.Node) {
			continue
		}
		if part == ferryman.PartAgents {
			if !n.At(part, pp.To.Target) && upgrade.PutBack(n, pp.To) {
				return putBack(n, n.View.Status.PutBack.Reason)
			}
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

// putBack is what happened to an agent that its host took back.
func putBack(n upgrade.Node, why string) string {
	return fmt.Sprintf("the agent of %s is that of before again: %s; its log says more (journalctl -u ferryman)", n.Name(), why)
}

// fail turns a part back, or lets it stand still where the policy or the lack
// of anything to go back to says so.
func (x *situation) fail(p *proposal, part ferryman.Part, pp ferryman.PartProgress, reason string) {
	status := ferryman.PartReverting
	if x.policy.OnFailure == ferryman.FailureHalt || pp.First || pp.Status == ferryman.PartReverting || pp.To.Target.Equal(pp.From.Target) || x.noReturn(part, pp) {
		status = ferryman.PartHalted
	}
	p.move(ferryman.Transition{Kind: ferryman.MovePart, Part: part, Status: status, Reason: reason})
}

// noReturn tells that the new version's primary took writes that the old
// version cannot read: the switchover was the point of no return.
func (x *situation) noReturn(part ferryman.Part, pp ferryman.PartProgress) bool {
	return part == ferryman.PartDatabase && pp.Status == ferryman.PartOpen && upgrade.Runs(x.primaryService(), pp.To.Target) && x.s.NoReturn(pp)
}
