package plan

import (
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// leases keeps the committed lease what the document wants: none in manual
// mode; with automatic failover first offered, then enforced once the primary
// holds it under an armed guard; longer while its agent is away on purpose.
func leases(x *situation, p *proposal) {
	old := x.s.Primary.Lease
	n, ok := x.node(x.s.Primary.Node)
	switch {
	case x.s.Accepted == nil || !ok:
		return
	case !x.automatic() && old != nil:
		p.move(ferryman.Transition{Kind: ferryman.MoveLease})
		return
	case !x.automatic():
		return
	case old == nil && x.voters() < 3:
		p.wait("two-voters", "", "failover.mode is automatic and not in force: with %d of Raft's votes the loss of one node stops the group, so that nothing could be decided; add a node, or a witness that only votes", x.voters())
		return
	case old == nil:
		ttl := x.ttl()
		p.move(ferryman.Transition{Kind: ferryman.MoveLease, Node: n.ID(), Lease: &ferryman.Lease{Length: ttl, Longest: max(ttl, x.s.Primary.Granted)}})
		return
	}
	if x.voters() < 3 {
		p.wait("two-voters", n.ID(), "only %d of Raft's votes are left: the loss of one more node ends the primary %s, and nobody takes its place; add a node, or a witness", x.voters(), n.Name())
	}
	next := *old
	held := n.View.Status.Lease
	if !old.Enforced {
		switch {
		case !n.View.Reachable || held == nil || held.Epoch != x.s.Primary.Epoch || held.Serial != old.Serial:
			p.wait("lease", n.ID(), "failover is automatic as soon as %s holds its lease and its guard is armed%s", n.Name(), problem(n))
		case !x.primaryService().Instance.Writable || x.gaining(n.ID()):
			p.wait("lease", n.ID(), "failover is automatic as soon as %s accepts writes", n.Name())
		default:
			next.Enforced = true
		}
	}
	if next.Length = x.leaseLength(p, n, *old); next.Length != old.Length {
		next.Longest = max(old.Longest, next.Length)
	} else if old.Longest > old.Length && x.steady() >= old.Over() {
		next.Longest = old.Length
	}
	if next != *old {
		p.move(ferryman.Transition{Kind: ferryman.MoveLease, Node: n.ID(), Lease: &next})
	}
	keepLeaderAway(x, p, n)
	syncReplicas(x, p, n)
}

func problem(n upgrade.Node) string {
	if !n.View.Reachable {
		return ": it does not answer"
	}
	if len(n.View.Status.Problems) > 0 {
		return ": " + n.View.Status.Problems[0]
	}
	return ""
}

// automatic tells that the document wants failover without a person.
func (x *situation) automatic() bool {
	return x.single && x.s.Accepted != nil && x.s.Accepted.Document.Database.Failover.Mode == ferryman.FailoverAutomatic
}

// enforced tells that failover is automatic in force.
func (x *situation) enforced() bool { return x.s.Primary.Lease != nil && x.s.Primary.Lease.Enforced }

func (x *situation) ttl() ferryman.Duration {
	return x.s.Accepted.Document.WithDefaults().Database.Failover.LeaseTTL
}

// steady is how long this leader has seen the committed length be what it is. A
// view of before it was changed says that of another.
func (x *situation) steady() time.Duration {
	if l := x.s.Primary.Lease; l == nil || x.v.Lease.Length != l.Length {
		return 0
	}
	return x.v.Lease.Steady.Std()
}

func (x *situation) voters() (n int) {
	for _, s := range x.v.Raft {
		if s == ferryman.Voter {
			n++
		}
	}
	return n
}

// gaining tells that a step is open which may make the service writable.
func (x *situation) gaining(id ferryman.NodeID) bool {
	for _, st := range x.s.Ledger {
		if st.Open() && st.Node == id && (st.Op == ferryman.OpPromote || st.Op == ferryman.OpUnfence) {
			return true
		}
	}
	return false
}

// leaseLength is what a grant is to run for: the document's length, more while
// the primary's agent is restarted by a rollout, and all of an absence that was
// announced and for which nobody could take the primary's place.
func (x *situation) leaseLength(p *proposal, n upgrade.Node, old ferryman.Lease) ferryman.Duration {
	ttl := x.ttl()
	if m := n.Member.Maintenance; n.Member.Want == ferryman.WantMaintenance && m != nil {
		left := ferryman.Duration(m.Until.Sub(x.now)).Round(time.Second)
		stays := n.View.Reachable && n.View.Status.BootID == m.BootID
		if stays && x.s.Switchover == nil {
			to, why, ok := upgrade.Successor(x.nodes, x.s.Primary, x.primaryService(), x.primaryService().Selected)
			if ok && old.Enforced {
				p.move(ferryman.Transition{Kind: ferryman.MoveBeginSwitchover, Node: to.ID(), By: n.Name() + " stops"})
				return old.Length
			}
			if old.Length < left {
				p.wait("switchover-candidate", n.ID(), "%s is the primary, stops, and nobody can take its place (%s): it keeps its lease for %s", n.Name(), why, left)
				return left
			}
		}
		return old.Length
	}
	if pg, carried := x.passages()[n.ID()]; carried && pg.Part == ferryman.PartAgents {
		return max(ttl, ferryman.RestartLease)
	}
	return ttl
}

// keepLeaderAway moves Raft's leadership off the primary's node: the loss of
// that one host would otherwise cost an election before the lease, and the new
// leader's wait for the longest lease after it.
func keepLeaderAway(x *situation, p *proposal, n upgrade.Node) {
	if !x.enforced() || !n.Leader || x.s.Switchover != nil || len(x.passages()) > 0 || n.Member.Want != ferryman.WantActive {
		return
	}
	to, ok := upgrade.Heir(x.nodes, n.ID())
	if !ok {
		return
	}
	x.again(p, ferryman.Step{Op: ferryman.OpTransfer, Node: n.ID(), Args: ferryman.Args{To: to}, Deadline: ferryman.Duration(30 * time.Second)}, 0)
}

// syncReplicas has it committed how many others hold each write that is
// acknowledged. A greater number counts once that many hold all that was
// acknowledged before it was seen in force.
func syncReplicas(x *situation, p *proposal, n upgrade.Node) {
	primary, old := x.primaryService().Instance, x.s.Primary.SyncReplicas
	if !n.View.Reachable || !primary.Writable || primary.SyncReplicas == old || x.s.Switchover != nil {
		return
	}
	if primary.SyncReplicas > old && x.holdAll("") < primary.SyncReplicas {
		return
	}
	p.move(ferryman.Transition{Kind: ferryman.MoveSyncReplicas, Node: n.ID(), Epoch: x.s.Primary.Epoch, SyncReplicas: primary.SyncReplicas})
}
