package plan

import (
	"fmt"
	"slices"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// members keeps the group as large as the document wants: newcomers are
// admitted, absences end, the dead are replaced, the surplus leaves, and the
// votes are spread. It asks the api-server for hosts and never waits for it.
func members(x *situation) (p proposal) {
	if x.s.Accepted == nil {
		p.wait("no-document", "", "no desired state was accepted yet%s", x.refusal())
	}
	for _, n := range x.nodes {
		switch n.Member.Want {
		case ferryman.WantMaintenance:
			x.endMaintenance(&p, n)
		case ferryman.WantLeaving:
			x.leave(&p, n)
			continue
		}
		if n.Suffrage == "" {
			x.admit(&p, n)
		}
	}
	x.votes(&p)
	if x.s.Accepted != nil {
		x.size(&p)
	}
	return p
}

func (x *situation) refusal() string {
	if x.s.Refused == nil {
		return ""
	}
	return "; the last one was refused: " + x.s.Refused.Reason
}

// admit adds a newcomer to the Raft group, without a vote.
func (x *situation) admit(p *proposal, n upgrade.Node) {
	for _, o := range x.nodes {
		if o.ID() != n.ID() && o.Suffrage != "" && (o.Member.Address == n.Member.Address || o.Name() == n.Name()) {
			p.wait("admit", n.ID(), "%s is admitted when its predecessor %s has left", n.Name(), o.ID())
			return
		}
	}
	x.again(p, ferryman.Step{Op: ferryman.OpAdmit, Node: n.ID(), Deadline: ferryman.Duration(time.Minute)}, 0)
}

// endMaintenance ends an absence with the node's return or with its time.
func (x *situation) endMaintenance(p *proposal, n upgrade.Node) {
	m := n.Member.Maintenance
	returned := n.View.Reachable && m.BootID != "" && n.View.Status.BootID != m.BootID
	over := !x.now.Before(m.Until)
	switch {
	case returned:
		p.move(ferryman.Transition{Kind: ferryman.MoveWant, Node: n.ID(), Want: ferryman.WantActive, Reason: "it returned"})
	case over:
		p.move(ferryman.Transition{Kind: ferryman.MoveWant, Node: n.ID(), Want: ferryman.WantActive, Reason: "its maintenance ran out"})
	default:
		p.wait("maintenance", n.ID(), "%s is in maintenance until %s: %s", n.Name(), m.Until.UTC().Format("15:04:05 MST"), m.Reason)
	}
}

// leave takes a node out: its database first, then its vote, then its place.
func (x *situation) leave(p *proposal, n upgrade.Node) {
	// Who is not in the group any more, or not yet, cannot read a step either.
	gone := n.Member.Lost || n.Suffrage == "" || x.silent(n) >= x.v.Limits.DeadAfter.Std()
	if n.Primary {
		x.replacePrimary(p, n)
		return
	}
	if x.single && x.founder(n) {
		p.wait("no-primary", n.ID(), "%s leaves later: it holds the only database, which has no primary yet", n.Name())
		return
	}
	if n.Leader {
		x.handOver(p, n)
		return
	}
	if why := x.ill(); why != "" && !n.Member.Lost {
		p.wait("leave", n.ID(), "%s leaves later: %s", n.Name(), why)
		return
	}
	if !gone {
		if why := x.mustStay(p, n); why != "" {
			p.wait("leave", n.ID(), "%s leaves later: %s", n.Name(), why)
			return
		}
		for _, svc := range n.View.Status.Services {
			if svc.Traits.Can(ferryman.OpDrain) && svc.Unit.Active && !svc.Instance.Drained {
				x.again(p, ferryman.Step{Op: ferryman.OpDrain, Node: n.ID(), Service: svc.Slot}, 0)
				return
			}
			if svc.Unit.Active {
				x.again(p, ferryman.Step{Op: ferryman.OpStop, Node: n.ID(), Service: svc.Slot}, 0)
				return
			}
		}
	}
	departs := x.tried(n.ID(), "", ferryman.OpDepart, 0)
	if why := x.holdsMore(n); why != "" && !n.Member.Lost && len(departs) == 0 {
		p.wait("leave", n.ID(), "%s stays a member: %s", n.Name(), why)
		return
	}
	if n.Suffrage == ferryman.Voter {
		if x.agentsCarried() {
			p.wait("quorum", n.ID(), "%s keeps its vote while an agent is restarted", n.Name())
			return
		}
		if g := upgrade.WithoutVote(x.nodes, n.ID()); !g.Open() {
			p.wait(g.Code, n.ID(), "%s cannot give up its vote: %s", n.Name(), g.Reason)
			return
		}
		if x.replacing() {
			p.wait("vote", n.ID(), "%s keeps its vote until a newcomer has one", n.Name())
			return
		}
		x.again(p, ferryman.Step{Op: ferryman.OpDemote, Node: n.ID(), Deadline: ferryman.Duration(time.Minute)}, 0)
		return
	}
	if !gone && (len(departs) == 0 || departs[len(departs)-1].Open()) {
		x.again(p, ferryman.Step{Op: ferryman.OpDepart, Node: n.ID(), Deadline: x.v.Limits.DeadAfter}, 0)
		return
	}
	if n.Suffrage != "" {
		x.again(p, ferryman.Step{Op: ferryman.OpRemove, Node: n.ID(), Deadline: ferryman.Duration(time.Minute)}, 0)
		return
	}
	for _, st := range x.s.Ledger {
		if st.Open() && st.Node == n.ID() && st.Op.ByLeader() {
			return
		}
	}
	p.move(ferryman.Transition{Kind: ferryman.MoveForget, Node: n.ID()})
}

// mustStay says why a node that leaves may not be taken down yet: one node goes
// at a time, and none while another is down. One that was taken down already
// goes on.
func (x *situation) mustStay(p *proposal, n upgrade.Node) string {
	if x.tornDown(n, p) {
		return ""
	}
	for _, o := range x.nodes {
		pg, carried := x.passages()[o.ID()]
		switch {
		case o.ID() == n.ID() || o.Member.Witness:
		case carried && pg.Part == ferryman.PartDatabase:
			return o.Name() + " is being carried"
		case o.Member.Want == ferryman.WantLeaving && x.tornDown(o, p):
			return o.Name() + " goes first"
		case o.Member.Want != ferryman.WantLeaving && o.Down != "" && n.Down == "":
			return o.Name() + ": " + o.Down
		}
	}
	return ""
}

// tornDown tells that a node which leaves and still answers is being taken
// down, or was: its database is stopped, or is about to be.
func (x *situation) tornDown(n upgrade.Node, p *proposal) bool {
	if n.Member.Want != ferryman.WantLeaving || n.Member.Lost || n.Suffrage == "" || !n.View.Reachable {
		return false
	}
	for _, svc := range n.View.Status.Services {
		if !svc.Unit.Active || svc.Instance.Drained {
			return true
		}
	}
	begins := func(st ferryman.Step) bool {
		return st.Node == n.ID() && (st.Op == ferryman.OpDrain || st.Op == ferryman.OpStop)
	}
	return slices.ContainsFunc(p.steps, begins) || slices.ContainsFunc(x.s.Ledger, func(st ferryman.Step) bool { return st.Open() && begins(st) })
}

// agentsCarried tells that an agent is down on purpose, or about to be.
func (x *situation) agentsCarried() bool {
	for _, pg := range x.passages() {
		if pg.Part == ferryman.PartAgents {
			return true
		}
	}
	return false
}

// replacing tells that fewer than three voters will stand, and that a newcomer
// can get a vote: it does before a leaver loses its own.
func (x *situation) replacing() bool {
	voters, _, _, target := x.seats()
	return len(voters) < min(3, target)
}

// replacePrimary moves the primary away from a node that leaves.
func (x *situation) replacePrimary(p *proposal, n upgrade.Node) {
	if x.changing() != "" {
		return
	}
	if to, why, ok := upgrade.Successor(x.nodes, x.s.Primary, x.primaryService(), x.s.Desired(ferryman.PartDatabase).Target); ok {
		p.move(ferryman.Transition{Kind: ferryman.MoveBeginSwitchover, Node: to.ID(), By: n.Name() + " leaves"})
	} else {
		p.wait("switchover-candidate", n.ID(), "%s is the primary and cannot leave: %s", n.Name(), why)
	}
}

// handOver moves Raft's leadership away from this node, which leaves.
func (x *situation) handOver(p *proposal, n upgrade.Node) {
	next := upgrade.Agent(n, ferryman.Passage{}, upgrade.Facts{Goal: ferryman.Known{Target: ferryman.Target{RestartGeneration: ^uint64(0)}}}, x.nodes, false)
	if next.Op != ferryman.OpTransfer {
		p.wait("transfer", n.ID(), "%s leads Raft and cannot leave: %s", n.Name(), next.Wait)
		return
	}
	x.again(p, ferryman.Step{Op: ferryman.OpTransfer, Node: n.ID(), Args: next.Args, Deadline: ferryman.Duration(30 * time.Second)}, 0)
}

// size compares how many nodes there are with how many are wanted.
func (x *situation) size(p *proposal) {
	want := x.s.Accepted.Document.Nodes
	var live, dead []upgrade.Node
	for _, n := range x.serve {
		if x.dead(n) {
			dead = append(dead, n)
		} else {
			live = append(live, n)
		}
	}
	for _, n := range x.stay {
		if n.Member.Witness && x.dead(n) {
			p.wait("dead", n.ID(), "the witness %s does not answer since %s; replace it by hand, then `ferryman leave %s`", n.Name(), x.silent(n).Round(time.Second), n.Name())
		}
	}
	replaceable := x.replaceable(p, dead)
	switch {
	case len(live)+len(dead)-len(replaceable) < want:
		x.grow(p, want, live, dead, replaceable)
	case len(replaceable) > 0:
		x.swap(p, replaceable[0], live)
	case len(live)+len(dead) > want:
		x.shrink(p, want, live)
	default:
		x.settle(p, want)
	}
}

// replaceable are the dead that may be replaced; for the others it says why not.
func (x *situation) replaceable(p *proposal, dead []upgrade.Node) (out []upgrade.Node) {
	primary := x.primaryService()
	for _, n := range dead {
		silent := x.silent(n).Round(time.Second)
		if n.Primary {
			p.wait("primary-lost", n.ID(), "%s does not answer for %s; it is the primary, and its host is replaced after the database has another: bring it back, or look at the failover", n.Name(), silent)
			continue
		}
		if x.founder(n) {
			p.wait("no-primary", n.ID(), "%s does not answer for %s; it holds the only database: bring it back", n.Name(), silent)
			continue
		}
		streams := false
		for _, svc := range n.Member.Services {
			for _, r := range primary.Instance.Replicas {
				streams = streams || r == svc.Address
			}
		}
		if streams && x.v.Nodes[x.s.Primary.Node].Reachable {
			p.wait("agent-lost", n.ID(), "the agent of %s does not answer for %s, but its database still streams from the primary; restart the agent there", n.Name(), silent)
			continue
		}
		out = append(out, n)
	}
	return out
}

// swap lets a dead node go once a newcomer stands in its place.
func (x *situation) swap(p *proposal, dead upgrade.Node, live []upgrade.Node) {
	if why := x.ill(); why != "" {
		p.wait("swap", dead.ID(), "%s is not given up: %s", dead.Name(), why)
		return
	}
	for _, n := range x.nodes {
		if n.Member.Lost && n.Suffrage != "" {
			p.wait("swap", dead.ID(), "%s is replaced after %s has left", dead.Name(), n.Name())
			return
		}
	}
	if why := x.holdsMore(dead); why != "" {
		p.wait("swap", dead.ID(), "%s is not given up: %s", dead.Name(), why)
		return
	}
	for _, n := range live {
		if !n.View.CaughtUp {
			p.wait("swap", dead.ID(), "%s is replaced when %s has caught up", dead.Name(), n.Name())
			return
		}
	}
	p.move(ferryman.Transition{Kind: ferryman.MoveWant, Node: dead.ID(), Want: ferryman.WantLeaving, Lost: true,
		Reason: fmt.Sprintf("it did not answer for %s and was replaced", x.silent(dead).Round(time.Second))})
}
