package plan

import (
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// primary keeps one instance writable: it makes the first primary, revives the
// recorded one in place, replaces it when it is lost, fences a stray one, and
// drives a switchover. It also keeps the lease under which all that is safe.
func primary(x *situation) (p proposal) {
	if !x.single {
		return p
	}
	fenceStrays(x, &p)
	switch {
	case x.s.Primary.Epoch == 0:
		first(x, &p)
		return p
	case x.s.Failover != nil:
		failover(x, &p)
		return p
	case x.replaces(&p):
	case x.s.Switchover != nil:
		switchover(x, &p)
	default:
		revive(x, &p)
		record(x, &p)
	}
	leases(x, &p)
	return p
}

// fenceStrays takes the writes from any instance that is not the recorded
// primary. That gives up power, so it needs no one's leave.
func fenceStrays(x *situation, p *proposal) {
	if x.s.Primary.Epoch == 0 {
		return
	}
	for _, n := range x.nodes {
		if n.Primary || !n.View.Reachable {
			continue
		}
		for _, svc := range n.View.Status.Services {
			if !svc.Instance.Writable {
				continue
			}
			if sw := x.s.Switchover; sw != nil && sw.Committed && sw.From == n.ID() {
				continue // its fence was proven; the report is older
			}
			p.wait("stray-primary", n.ID(), "%s accepts writes although the primary of epoch %d is %s; it is fenced", n.Name(), x.s.Primary.Epoch, x.name(x.s.Primary.Node))
			x.again(p, ferryman.Step{Op: ferryman.OpFence, Node: n.ID(), Service: svc.Slot, Args: ferryman.Args{Epoch: svc.Instance.Epoch}}, 0)
		}
	}
}

// first makes the node on which the database was initialised, or adopted, the
// first primary. An adopted one may have had epochs before.
func first(x *situation, p *proposal) {
	if !x.s.Initialised || x.s.Accepted == nil {
		return
	}
	for _, n := range x.nodes { // also one that leaves
		if n.ID() != x.s.Founder {
			continue
		}
		for _, svc := range n.View.Status.Services {
			if n.View.Reachable && svc.Instance.Initialised && svc.Instance.Running {
				goal := ferryman.Known{Generation: x.s.Accepted.Document.Generation, Target: svc.Selected,
					Release: x.s.Accepted.Document.Releases[ferryman.ReleaseKey(x.engine, svc.Selected.Version)]}
				p.move(ferryman.Transition{Kind: ferryman.MovePrimary, Node: n.ID(), Slot: svc.Slot, Epoch: svc.Instance.Epoch + 1, Goal: goal})
				return
			}
		}
	}
	p.wait("no-primary", x.s.Founder, "the database was begun on %s, which does not answer with it; bring it back, or name another node's with `ferryman adopt`", x.name(x.s.Founder))
}

// revive gives the recorded primary its writes back in place, after a restart.
// Nobody else can have got them: that takes a newer epoch.
func revive(x *situation, p *proposal) {
	n, ok := x.node(x.s.Primary.Node)
	if !ok {
		return
	}
	svc := x.primaryService()
	switch {
	case !n.View.Reachable && x.enforced():
		p.wait("primary-lost", n.ID(), "the primary %s does not answer for %s; it is replaced when its lease has run out", n.Name(), x.silent(n).Round(time.Second))
	case !n.View.Reachable:
		p.wait("primary-lost", n.ID(), "the primary %s does not answer (failover is manual): bring its host back, or make sure that it accepts no writes and run `ferryman failover --primary-is-dead`", n.Name())
	case !svc.Instance.Running || svc.Instance.Writable:
	case !svc.Instance.Initialised:
		p.wait("primary-empty", n.ID(), "the primary %s has no database any more; restore its data directory from a backup or from what was set aside", n.Name())
	case svc.Instance.Fenced && svc.Instance.Epoch >= x.s.Primary.Epoch: // an older fence ends with the promotion
		x.again(p, ferryman.Step{Op: ferryman.OpUnfence, Node: n.ID(), Service: svc.Slot, Args: ferryman.Args{Epoch: x.s.Primary.Epoch}}, 0)
	default:
		x.again(p, ferryman.Step{Op: ferryman.OpPromote, Node: n.ID(), Service: svc.Slot, Args: ferryman.Args{Epoch: x.s.Primary.Epoch}}, 0)
	}
}

// record has it committed which history the primary writes, where that is not
// what its promotion told: one may begin another by itself, as Redis does with
// its first replica, and only who holds what is committed may take its place.
func record(x *situation, p *proposal) {
	n, ok := x.node(x.s.Primary.Node)
	in := x.primaryService().Instance
	if ok && n.View.Reachable && in.Running && in.Writable && in.Epoch == x.s.Primary.Epoch && in.History != "" && in.History != x.s.Primary.History && !x.gaining(n.ID()) {
		p.move(ferryman.Transition{Kind: ferryman.MoveHistory, Node: n.ID(), Epoch: x.s.Primary.Epoch, History: in.History})
	}
}

// switchover moves the primary as one unit: fence the old, prove that the new
// has every acknowledged write, commit the epoch, promote. Before the commit
// it can go back, after it only forward; no pause stops it in between.
func switchover(x *situation, p *proposal) {
	sw := x.s.Switchover
	switch {
	case sw.Committed:
		forward(x, p, sw)
	case sw.Back != "":
		back(x, p, sw)
	default:
		towards(x, p, sw)
	}
}

func towards(x *situation, p *proposal, sw *ferryman.Switchover) {
	giveUp := func(reason string) {
		p.move(ferryman.Transition{Kind: ferryman.MoveBackSwitchover, Reason: reason})
	}
	from, _ := x.node(sw.From)
	to, ok := x.node(sw.To)
	if !ok || to.Member.Want == ferryman.WantLeaving {
		giveUp("its successor left")
		return
	}
	if elapsed := x.since(sw.Began); elapsed >= x.policy.SwitchoverTimeout.Std() {
		giveUp("it took longer than switchoverTimeout " + x.policy.SwitchoverTimeout.String())
		return
	}
	fences := x.tried(sw.From, sw.Slot, ferryman.OpFence, sw.FirstStep)
	if len(fences) == 0 {
		if why := upgrade.CannotSucceed(to, x.s.Primary, x.primaryService()); why != "" {
			p.wait("switchover-candidate", to.ID(), "the switchover waits for its successor: %s", why)
			return
		}
		if !from.View.Reachable {
			giveUp(from.Name() + " does not answer")
			return
		}
		p.step(ferryman.Step{Op: ferryman.OpFence, Node: sw.From, Service: sw.Slot, Attempt: 1, Deadline: x.policy.WriteBudget, Args: ferryman.Args{Epoch: x.s.Primary.Epoch}})
		return
	}
	fence := fences[len(fences)-1]
	if elapsed := x.since(fence.Since); elapsed >= x.policy.WriteBudget.Std() {
		giveUp("writes were held up for longer than writeBudget " + x.policy.WriteBudget.String())
		return
	}
	fenced, verified := x.s.SwitchoverProof()
	switch {
	case fence.Open():
		p.wait("step", sw.From, "fence runs on %s", from.Name())
	case fenced == nil:
		giveUp(from.Name() + " could not be fenced: " + fence.Outcome.Reason)
	case verified != nil:
		p.move(ferryman.Transition{Kind: ferryman.MovePrimary, Node: sw.To, Slot: sw.Slot, Epoch: x.s.Primary.Epoch + 1})
	default:
		verifies := x.tried(sw.To, sw.Slot, ferryman.OpVerify, fence.ID)
		if n := len(verifies); n > 0 && !verifies[n-1].Open() {
			giveUp(to.Name() + " could not prove that it has everything: " + verifies[n-1].Outcome.Reason)
			return
		}
		if len(verifies) > 0 {
			p.wait("step", sw.To, "verify runs on %s", to.Name())
			return
		}
		p.step(ferryman.Step{Op: ferryman.OpVerify, Node: sw.To, Service: sw.Slot, Attempt: 1, Deadline: x.policy.WriteBudget,
			Args: ferryman.Args{Position: fenced.Result.Position, History: fenced.Result.History}})
	}
}

// back lets the old primary accept writes again, if it was told to stop.
func back(x *situation, p *proposal, sw *ferryman.Switchover) {
	fences := x.tried(sw.From, sw.Slot, ferryman.OpFence, sw.FirstStep)
	if len(fences) == 0 {
		p.move(ferryman.Transition{Kind: ferryman.MoveEndSwitchover})
		return
	}
	fence := fences[len(fences)-1]
	if fence.Open() {
		p.wait("step", sw.From, "the switchover goes back when it is known how the fence ended on %s", x.name(sw.From))
		return
	}
	for _, st := range x.tried(sw.From, sw.Slot, ferryman.OpUnfence, fence.ID) {
		if st.Outcome.Done() {
			p.move(ferryman.Transition{Kind: ferryman.MoveEndSwitchover})
			return
		}
	}
	if n, ok := x.node(sw.From); ok && !n.View.Reachable {
		p.wait("unreachable", sw.From, "the switchover goes back when %s answers again", n.Name())
		return
	}
	x.again(p, ferryman.Step{Op: ferryman.OpUnfence, Node: sw.From, Service: sw.Slot, Args: ferryman.Args{Epoch: x.s.Primary.Epoch}}, fence.ID)
}

// forward promotes the new primary, whatever it takes.
func forward(x *situation, p *proposal, sw *ferryman.Switchover) {
	for _, st := range x.tried(sw.To, sw.Slot, ferryman.OpPromote, sw.FirstStep) {
		if st.Outcome.Done() {
			p.move(ferryman.Transition{Kind: ferryman.MoveEndSwitchover})
			return
		}
	}
	n, ok := x.node(sw.To)
	if ok && !n.View.Reachable {
		p.wait("primary-lost", sw.To, "%s became the primary of epoch %d and does not answer; it is promoted when it does", n.Name(), x.s.Primary.Epoch)
	}
	if svc := x.primaryService(); ok && n.View.Reachable && !svc.Instance.Running {
		p.wait("primary-down", sw.To, "%s became the primary of epoch %d and its database does not run; it is promoted when it does", n.Name(), x.s.Primary.Epoch)
		return // the lane is left to the rule that starts it
	} else if ok && n.View.Reachable && !svc.Instance.Initialised {
		p.wait("primary-empty", sw.To, "%s became the primary of epoch %d and came up without its data; `ferryman failover --primary-is-dead` lets another take its place, or restore its data directory", n.Name(), x.s.Primary.Epoch)
		return
	}
	op := ferryman.OpPromote
	if in := x.primaryService().Instance; n.View.Reachable && in.Fenced && in.Epoch >= x.s.Primary.Epoch {
		op = ferryman.OpUnfence // its lease ran out before it was promoted
	}
	x.again(p, ferryman.Step{Op: op, Node: sw.To, Service: sw.Slot, Args: ferryman.Args{Epoch: x.s.Primary.Epoch}}, sw.FirstStep)
}

// since measures a duration as this leader does: from the committed time or
// from the beginning of its term, whichever came later.
func (x *situation) since(t time.Time) time.Duration {
	if x.v.Since.After(t) {
		t = x.v.Since
	}
	return x.now.Sub(t)
}
