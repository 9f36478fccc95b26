package state

import (
	"slices"

	"ferryman"
)

// move makes one transition, or says why it must not be.
func (a *applier) move(t ferryman.Transition) error {
	switch t.Kind {
	case ferryman.MoveBeginPassage:
		return a.beginPassage(t)
	case ferryman.MoveEndPassage:
		return a.endPassage(t)
	case ferryman.MovePart:
		return a.part(t)
	case ferryman.MoveSupersede:
		return a.supersede()
	case ferryman.MoveBeginSwitchover:
		return a.beginSwitchover(t.Node, t.By)
	case ferryman.MoveBackSwitchover:
		return a.backSwitchover(t.Reason)
	case ferryman.MoveEndSwitchover:
		return a.endSwitchover()
	case ferryman.MoveBeginFailover:
		return a.beginFailover(ferryman.Failover{Why: t.Reason})
	case ferryman.MoveBackFailover:
		return a.backFailover(t.Reason)
	case ferryman.MoveCarryAgents:
		return a.carryAgents(t.Node)
	case ferryman.MoveFenced:
		return a.fenced(t)
	case ferryman.MoveSyncReplicas:
		return a.syncReplicas(t)
	case ferryman.MoveHistory:
		return a.history(t)
	case ferryman.MoveLease:
		return a.lease(t.Lease)
	case ferryman.MovePrimary:
		return a.primary(t)
	case ferryman.MoveWant:
		return a.want(t)
	case ferryman.MoveForget:
		return a.forget(t.Node)
	case ferryman.MoveForgetRequest:
		a.s.HostRequest = nil
		return nil
	case ferryman.MoveEndHold:
		return a.endHolds()
	case ferryman.MoveRaiseFormat:
		if t.Format <= a.s.Format || t.Format > Format {
			return refuse("the format is %d", a.s.Format)
		}
		a.event("cluster", "", 0, false, "the state has format %d from here on: agents before it, which know %d, cannot come back", t.Format, a.s.Format)
		a.s.Format = t.Format
		return nil
	}
	return refuse("this agent knows no such transition")
}

func (a *applier) endHolds() error {
	ended := false
	for _, h := range []**ferryman.Hold{&a.s.Paused, &a.s.Frozen} {
		if *h != nil && !(*h).Until.IsZero() && !a.at.Before((*h).Until) {
			*h, ended = nil, true
		}
	}
	if !ended {
		return refuse("nothing ran out")
	}
	a.heldUp()
	a.event("hold", "", 0, false, "a pause or freeze ran out")
	return nil
}

// beginSwitchover opens the one way to a new primary while the old one lives.
func (a *applier) beginSwitchover(to ferryman.NodeID, by string) error {
	p := a.s.Primary
	m, ok := a.s.Members[to]
	switch {
	case a.s.Switchover != nil:
		return refuse("a switchover to %s is under way", a.name(a.s.Switchover.To))
	case a.s.Failover != nil:
		return refuse("a failover from %s is under way", a.name(a.s.Failover.From))
	case p.Epoch == 0:
		return refuse("there is no primary yet")
	case to == p.Node:
		return refuse("%s is the primary already", a.name(to))
	case !ok || m.Want != ferryman.WantActive || m.Witness:
		return refuse("%s cannot become the primary: it is no active node with services", a.name(to))
	case a.s.Frozen != nil:
		return refuse("the cluster is frozen by %s", a.s.Frozen.By)
	}
	a.s.Switchover = &ferryman.Switchover{From: p.Node, To: to, Slot: p.Slot, By: by, Began: a.at, FirstStep: a.s.LastStep + 1}
	a.event("switchover", to, 0, false, "switchover from %s to %s began (%s)", a.name(p.Node), a.name(to), by)
	return nil
}

func (a *applier) backSwitchover(reason string) error {
	sw := a.s.Switchover
	if sw == nil || sw.Committed || sw.Back != "" {
		return refuse("no switchover can go back")
	}
	sw.Back = reason
	// What still runs for it must not finish under an unfenced primary.
	for i, st := range a.s.Ledger {
		if st.Open() && st.ID >= sw.FirstStep && st.Rule == ferryman.RulePrimary && st.Op != ferryman.OpFence {
			st.Outcome = &ferryman.Outcome{Step: st.ID, Status: ferryman.StatusCancelled, Reason: "the switchover goes back", Ended: a.at}
			a.s.Ledger[i] = st
		}
	}
	a.event("switchover", sw.To, 0, true, "switchover from %s to %s goes back: %s", a.name(sw.From), a.name(sw.To), reason)
	return nil
}

func (a *applier) endSwitchover() error {
	sw := a.s.Switchover
	if sw == nil {
		return refuse("there is no switchover")
	}
	if !sw.Committed && sw.Back == "" {
		return refuse("the switchover is under way")
	}
	for _, st := range a.s.Ledger {
		if st.Open() && st.ID >= sw.FirstStep && st.Rule == ferryman.RulePrimary && (st.Op == ferryman.OpFence || st.Op == ferryman.OpUnfence) {
			return refuse("step %d (%s) is open", st.ID, st.Op)
		}
	}
	a.s.Switchover = nil
	if sw.Committed {
		a.event("switchover", sw.To, 0, false, "%s is the primary of epoch %d; it took %s", a.name(sw.To), a.s.Primary.Epoch, a.at.Sub(sw.Began))
	} else {
		a.event("switchover", sw.From, 0, false, "%s stays the primary of epoch %d", a.name(sw.From), a.s.Primary.Epoch)
	}
	return nil
}

// founded makes the version that the first primary runs the last complete one:
// from now on there is something to go back to, and newcomers get it.
func (a *applier) founded(k ferryman.Known) {
	a.s.Complete = put(a.s.Complete, ferryman.PartDatabase, k)
	if !a.s.Rollout.Open() {
		return
	}
	if pp := a.s.Rollout.Parts[ferryman.PartDatabase]; !pp.Status.Done() {
		pp.From, pp.First = k, false
		a.s.Rollout.Parts[ferryman.PartDatabase] = pp
	}
}

// primary is the commit point of a switchover or a failover: from here on the
// epoch is the new node's. The proof that the old one accepts no writes, and
// that nothing is lost that must not be, lies in the ledger.
func (a *applier) primary(t ferryman.Transition) error {
	p := a.s.Primary
	m, ok := a.s.Members[t.Node]
	if !ok || m.Witness {
		return refuse("%s is no node with services", t.Node)
	}
	if t.Epoch != p.Epoch+1 && p.Epoch > 0 || t.Epoch == 0 {
		return refuse("after epoch %d comes %d, not %d", p.Epoch, p.Epoch+1, t.Epoch)
	}
	switch {
	case p.Epoch == 0 && !a.s.Initialised:
		return refuse("the database is not initialised")
	case p.Epoch == 0:
		a.founded(t.Goal)
	case a.s.Failover != nil:
		if err := a.succeed(m); err != nil {
			return err
		}
	default:
		if err := a.handOver(m); err != nil {
			return err
		}
	}
	a.nextHistory("") // if it began none, nothing was written under that epoch's own
	a.s.Primary = ferryman.Primary{Node: t.Node, Slot: t.Slot, Epoch: t.Epoch, Since: a.at, Before: a.s.Primary.Before, Lease: p.Lease}
	a.event("primary", t.Node, 0, false, "%s was made the primary of epoch %d%s", m.Name, t.Epoch, because(t.Reason))
	return nil
}

// keepHistories is how many histories before the last two are remembered.
const keepHistories = 16

// nextHistory lets another history follow the primary's, if that has one.
func (a *applier) nextHistory(h string) {
	p := &a.s.Primary
	if p.History != "" {
		if p.Before != "" {
			a.s.Histories = append(slices.Clone(a.s.Histories[max(0, len(a.s.Histories)-keepHistories+1):]), p.Before)
		}
		p.Before = p.History
	}
	p.History = h
}

// handOver is the commit point of a switchover.
func (a *applier) handOver(to ferryman.Member) error {
	sw := a.s.Switchover
	if sw == nil || sw.Committed || sw.Back != "" || sw.To != to.ID {
		return refuse("no switchover to %s is under way", to.Name)
	}
	fenced, verified := a.s.SwitchoverProof()
	if fenced == nil {
		return refuse("%s is not fenced", a.name(sw.From))
	}
	if verified == nil {
		return refuse("%s is not known to have everything that %s acknowledged", to.Name, a.name(sw.From))
	}
	sw.Committed = true
	return nil
}
