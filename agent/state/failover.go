package state

import (
	"fmt"
	"slices"
	"time"

	"ferryman"
)

// keepFailovers is how many times of automatic failovers are remembered.
const keepFailovers = 8

// beginFailover opens the way to a new primary without the old one. From the
// moment that it is committed nobody is granted a lease of this epoch.
func (a *applier) beginFailover(f ferryman.Failover) error {
	p := a.s.Primary
	switch {
	case p.Epoch == 0:
		return refuse("there is no primary yet")
	case a.s.Failover != nil:
		return refuse("a failover from %s is under way", a.name(p.Node))
	case f.By == "" && (p.Lease == nil || !p.Lease.Enforced):
		return refuse("failover.mode is not automatic in force: only a person replaces %s", a.name(p.Node))
	case f.By == "" && a.s.Frozen != nil:
		return refuse("the cluster is frozen by %s", a.s.Frozen.By)
	case f.To == p.Node:
		return refuse("%s is the primary that is to be replaced", a.name(f.To))
	}
	if sw := a.s.Switchover; sw != nil {
		a.s.Switchover = nil
		a.event("switchover", sw.To, 0, true, "the switchover from %s to %s ends: %s is lost", a.name(sw.From), a.name(sw.To), a.name(p.Node))
	}
	// Nothing that would give the old primary its writes is carried on.
	for i, st := range a.s.Ledger {
		if st.Open() && st.Rule == ferryman.RulePrimary {
			a.cancel(i, "a failover began")
		}
	}
	f.From, f.Slot, f.Began, f.FirstStep = p.Node, p.Slot, a.at, a.s.LastStep+1
	a.s.Failover = &f
	by := ""
	if f.By != "" {
		by = ", asked for by " + f.By
	}
	a.event("failover", f.From, 0, true, "failover from %s (epoch %d) began%s: %s", a.name(f.From), p.Epoch, by, f.Why)
	return nil
}

func (a *applier) cancel(i int, reason string) {
	st := a.s.Ledger[i]
	st.Outcome = &ferryman.Outcome{Step: st.ID, Status: ferryman.StatusCancelled, Reason: reason, Ended: a.at}
	a.s.Ledger[i] = st
}

// backFailover gives a failover up: the primary is there after all.
func (a *applier) backFailover(reason string) error {
	f := a.s.Failover
	if f == nil || f.Fenced != "" {
		return refuse("no failover can go back")
	}
	for _, st := range a.s.Ledger {
		if st.ID >= f.FirstStep && st.Op == ferryman.OpFence && st.Node == f.From {
			return refuse("step %d was to fence it", st.ID)
		}
	}
	a.s.Failover = nil
	a.event("failover", f.From, 0, false, "%s stays the primary of epoch %d: %s", a.name(f.From), a.s.Primary.Epoch, reason)
	return nil
}

// fenced notes that the old primary accepts no writes any more, and how that is
// known: by the receipt of its own node, by the lease, or by a person's word.
func (a *applier) fenced(t ferryman.Transition) error {
	f := a.s.Failover
	if f == nil || f.Fenced != "" {
		return refuse("no failover waits for a fence")
	}
	switch {
	case f.Dead:
		f.Fenced = f.By + " vouches for it"
	case a.receipt() != nil:
		f.Fenced = "its processes were seen gone and its marker is set"
	case t.Expired && a.s.Primary.Lease != nil:
		f.Fenced = fmt.Sprintf("no lease of at most %s can run any more", a.s.Primary.Lease.Longest)
	default:
		return refuse("%s is not fenced, and its lease may still run", a.name(f.From))
	}
	f.Survey = a.s.LastStep + 1
	a.event("failover", f.From, 0, false, "%s accepts no writes: %s%s", a.name(f.From), f.Fenced, because(t.Reason))
	return nil
}

// receipt is the outcome by which the old primary's node says that it is fenced.
func (a *applier) receipt() *ferryman.Outcome {
	f := a.s.Failover
	for _, st := range a.s.Ledger {
		if st.ID >= f.FirstStep && st.Op == ferryman.OpFence && st.Node == f.From && st.Args.Kill && st.Outcome.Done() {
			return st.Outcome
		}
	}
	return nil
}

// succeed is the commit point of a failover.
func (a *applier) succeed(to ferryman.Member) error {
	f := a.s.Failover
	if why := a.s.CannotReplace(to.ID); why != "" {
		return refuse("%s", why)
	}
	if f.By == "" {
		a.s.Failovers = append(slices.Clip(a.s.Failovers[max(0, len(a.s.Failovers)-keepFailovers+1):]), a.at)
	}
	a.s.Failover = nil
	a.event("failover", to.ID, 0, false, "failover from %s to %s was decided after %s", a.name(f.From), to.Name, a.at.Sub(f.Began).Round(time.Millisecond))
	return nil
}

// syncReplicas notes how many others hold each acknowledged write.
func (a *applier) syncReplicas(t ferryman.Transition) error {
	switch {
	case a.s.Primary.Epoch == 0 || a.s.Failover != nil || t.SyncReplicas < 0:
		return refuse("there is no primary of which that could be said")
	case t.Node != a.s.Primary.Node || t.Epoch != a.s.Primary.Epoch:
		return refuse("the primary of epoch %d is %s", a.s.Primary.Epoch, a.name(a.s.Primary.Node))
	}
	for _, st := range a.s.Ledger {
		if st.Open() && st.Op == ferryman.OpConfigure && st.Node == t.Node && t.SyncReplicas > a.s.Primary.SyncReplicas {
			return refuse("step %d may change that", st.ID)
		}
	}
	a.s.Primary.SyncReplicas = t.SyncReplicas
	a.event("primary", t.Node, 0, false, "each write that %s acknowledges is held by %d others", a.name(t.Node), t.SyncReplicas)
	return nil
}

// history notes that the primary goes on with another history than its promotion
// began. That one was begun by it, too: what holds neither is no copy of it.
func (a *applier) history(t ferryman.Transition) error {
	p := &a.s.Primary
	switch {
	case p.Epoch == 0 || a.s.Failover != nil || a.s.Switchover != nil || t.History == "" || t.History == p.History:
		return refuse("there is no primary of which that could be said")
	case t.Node != p.Node || t.Epoch != p.Epoch:
		return refuse("the primary of epoch %d is %s", p.Epoch, a.name(p.Node))
	}
	for _, st := range a.s.Ledger {
		if st.Open() && st.Op == ferryman.OpPromote && st.Node == t.Node {
			return refuse("step %d begins another history", st.ID)
		}
	}
	a.nextHistory(t.History)
	a.event("primary", t.Node, 0, false, "%s goes on with history %s in epoch %d", a.name(t.Node), t.History, p.Epoch)
	return nil
}

// lease changes what is granted to the primary. What a grant of before may
// still run for is never forgotten, but by a leader that waited for its end.
func (a *applier) lease(next *ferryman.Lease) error {
	p := a.s.Primary
	switch {
	case p.Epoch == 0:
		return refuse("there is no primary to have a lease")
	case a.s.Failover != nil:
		return refuse("a failover from %s is under way", a.name(p.Node))
	case next == nil && p.Lease == nil:
		return refuse("there is no lease")
	case next == nil:
		a.s.Primary.Lease, a.s.Primary.Granted = nil, p.Lease.Longest
		a.event("lease", p.Node, 0, false, "%s accepts writes without a lease: failover is manual", a.name(p.Node))
		return nil
	case next.Length < ferryman.MinLeaseTTL || next.Longest < next.Length:
		return refuse("a lease of %s, at most %s, cannot be", next.Length, next.Longest)
	}
	old := p.Lease
	if old == nil {
		if next.Enforced || next.Longest > max(next.Length, p.Granted) {
			return refuse("a lease begins without being enforced")
		}
		if next.Longest < p.Granted {
			return refuse("a lease of %s may still run", p.Granted)
		}
		a.event("lease", p.Node, 0, false, "%s is to accept writes under a lease of %s", a.name(p.Node), next.Length)
	} else {
		settled := next.Length == old.Length && next.Longest == next.Length
		if next.Longest < old.Longest && !settled {
			return refuse("a lease of %s may still run", old.Longest)
		}
		if old.Enforced && !next.Enforced {
			return refuse("what is enforced stays so, until there is no lease")
		}
		switch {
		case next.Enforced && !old.Enforced:
			a.event("lease", p.Node, 0, false, "%s holds its lease and its guard is armed: failover is automatic", a.name(p.Node))
		case next.Length != old.Length:
			a.event("lease", p.Node, 0, false, "%s takes a lease of %s instead of %s", a.name(p.Node), next.Length, old.Length)
		}
	}
	lease := *next
	if lease.Serial = a.s.LastEvent; old != nil {
		lease.Serial = old.Serial
	}
	a.s.Primary.Lease, a.s.Primary.Granted = &lease, 0
	return nil
}

// failover is a person's word about a lost primary.
func (a *applier) failover(r ferryman.Request) error {
	var to ferryman.NodeID
	if r.Node != "" {
		m, err := a.member(r.Node)
		if err != nil {
			return err
		}
		if m.Witness || m.Lost || m.ID == a.s.Primary.Node {
			return refuse("%s cannot become the primary in its own place: name another node with services", m.Name)
		}
		to = m.ID
	}
	a.s.Failovers = nil
	f := a.s.Failover
	switch {
	case f != nil && to == "" && !r.Dead:
		return refuse("a failover is under way already; to have it take less than was promised to be kept, name a node or say --primary-is-dead")
	case f != nil:
		f.By, f.To, f.Dead = r.By, to, f.Dead || r.Dead
		return nil
	case r.Dead:
		return a.beginFailover(ferryman.Failover{Why: "a person says that the primary is lost", By: r.By, To: to, Dead: true})
	case a.s.Primary.Lease == nil || !a.s.Primary.Lease.Enforced:
		return refuse("failover is manual, so that nothing here knows whether %s still accepts writes; make sure that it does not, then say so with --primary-is-dead", a.name(a.s.Primary.Node))
	}
	return nil // the plan replaces it if it is lost
}
