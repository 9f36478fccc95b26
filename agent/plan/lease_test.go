package plan_test

import (
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/plan"
)

const second = ferryman.Duration(time.Second)

// automatic is calm, led by n2, and wants failover without a person under a
// lease of 5s; it is not in force.
func automatic(nodes int) *sit {
	x := calm(nodes).document(mode(ferryman.FailoverAutomatic))
	x.v.Self = "n2"
	return x
}

func mode(m ferryman.FailoverMode) func(*ferryman.Document) {
	return func(d *ferryman.Document) {
		d.Database.Failover.Mode, d.Database.Failover.LeaseTTL = m, 5*second
	}
}

// lease commits one; this leader has known its length for an hour, and its last
// grant was a second ago.
func (x *sit) lease(length, longest ferryman.Duration, enforced bool) *sit {
	x.s.Primary.Lease = &ferryman.Lease{Length: length, Longest: longest, Enforced: enforced}
	x.v.Lease = ferryman.LeaseView{Epoch: x.s.Primary.Epoch, Quiet: second, Steady: 3600 * second, Length: length}
	return x
}

// holds has the primary's agent say that it holds a lease.
func (x *sit) holds(epoch uint64, length ferryman.Duration) *sit {
	return x.view("n1", func(v *ferryman.NodeView) { v.Status.Lease = &ferryman.LeaseStatus{Epoch: epoch, Length: length} })
}

// watched is automatic, in force, with a primary that began history h.
func watched(nodes int) *sit {
	x := automatic(nodes).lease(5*second, 5*second, true).holds(3, 5*second)
	x.s.Primary.History = "h"
	return x
}

func (x *sit) lead(name string) *sit { x.v.Self = ferryman.NodeID(name); return x }

func (x *sit) steady(d time.Duration) *sit { x.v.Lease.Steady = ferryman.Duration(d); return x }

func TestLease(t *testing.T) {
	t.Parallel()
	offered := func() *sit { return automatic(3).lease(5*second, 5*second, false) }
	held := func() *sit { return offered().holds(3, 5*second) }
	ttl := func(x *sit, d ferryman.Duration) *sit {
		return x.document(func(doc *ferryman.Document) { doc.Database.Failover.LeaseTTL = d })
	}
	agents := func(x *sit) *sit {
		return x.rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration = 1 })
	}
	voters := func(x *sit, names ...string) *sit {
		for name := range x.v.Raft {
			x.v.Raft[name] = ferryman.Nonvoter
		}
		for _, name := range names {
			x.v.Raft[ferryman.NodeID(name)] = ferryman.Voter
		}
		x.v.Limits.MaxVoters = 0 // nobody gets a vote meanwhile
		return x
	}
	bare := calm(3).lease(5*second, 5*second, true)
	bare.s.Accepted = nil
	t.Run("begins", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"none in manual mode", calm(3), "", "complete"},
			{"what there is ends in manual mode", calm(3).lease(5*second, 5*second, true), "lease", ""},
			{"without a document it stays", bare, "", "no-document"},
			{"it is offered in automatic mode", automatic(3), "lease n1 5s of 5s", ""},
			{"with the document's length", ttl(automatic(3), 20*second), "lease n1 20s of 20s", ""},
			{"and what was granted before it ended in manual mode", func() *sit { x := automatic(3); x.s.Primary.Granted = 30 * second; return x }(), "lease n1 5s of 30s", ""},
			{"not with two voters", voters(automatic(3), "n1", "n2"), "", "two-voters"},
			{"a witness is a voter", voters(automatic(3).member("n3", func(m *ferryman.Member) { m.Witness, m.Services = true, nil }).document(nodes(2)), "n1", "n2", "n3"), "lease n1 5s of 5s", ""},
			{"not before there is a primary", func() *sit { x := unborn().document(mode(ferryman.FailoverAutomatic)); return x }(), "primary n2 1 epoch 1", ""},
			{"it is in force when it is held", held(), "lease n1 5s of 5s enforced", ""},
			{"not before", offered(), "", "lease"},
			{"not when another epoch's is", offered().holds(2, 5*second), "", "lease"},
			{"not when its node does not answer", held().silent("n1", time.Second), "", "lease"},
			{"not while it accepts no writes", held().instance("n1", func(in *instance) { in.Writable = false }), "promote n1 epoch 3", "lease"},
			{"nor while that is being changed", held().open(ferryman.OpPromote, "n1", nil), "", "lease"},
			{"nor while its fence is taken away", held().open(ferryman.OpUnfence, "n1", nil), "", "lease"},
			{"another's promotion does not matter", held().open(ferryman.OpPromote, "n3", nil), "lease n1 5s of 5s enforced", ""},
		})
	})
	t.Run("is as long as it must be", func(t *testing.T) {
		t.Parallel()
		stops := func(until time.Duration) *sit { return watched(3).member("n1", maintenance(until)) }
		alone := func(x *sit) *sit { return x.instance("n2", still).instance("n3", still) }
		follows := "follow n2 epoch 3 from n1:5000; follow n3 epoch 3 from n1:5000"
		try(t, []row{
			{"it stays", watched(3), "", "complete"},
			{"the document makes it longer", ttl(watched(3), 20*second), "lease n1 20s of 20s enforced", ""},
			{"and shorter, while a longer one may run", ttl(watched(3), 2*second), "lease n1 2s of 5s enforced", ""},
			{"also before it is in force", ttl(offered(), 20*second), "lease n1 20s of 20s", "lease"},
			{"which then settles", watched(3).lease(5*second, 30*second, true).steady(33 * time.Second), "lease n1 5s of 5s enforced", ""},
			{"not before none can run any more", watched(3).lease(5*second, 30*second, true).steady(33*time.Second - 1), "", ""},
			{"an agent that is carried takes a longer one", agents(watched(3)).carrying(ferryman.PartAgents, "n1"), "lease n1 30s of 30s enforced", "passage"},
			{"unless the document's is longer", agents(ttl(watched(3).lease(40*second, 40*second, true).holds(3, 40*second), 40*second)).carrying(ferryman.PartAgents, "n1"), "exit n1", ""},
			{"then it ends", agents(watched(3).lease(30*second, 30*second, true).holds(3, 30*second)).carrying(ferryman.PartAgents, "n1"), "exit n1", ""},
			{"and comes back to the document's", watched(3).lease(30*second, 30*second, true), "lease n1 5s of 30s enforced", ""},
			{"another's agent needs none", agents(watched(3)).carrying(ferryman.PartAgents, "n3"), "exit n3", ""},

			{"a primary that stops hands over", stops(15 * time.Minute), "begin-switchover n3", "maintenance"},
			{"or keeps its lease for all of its absence", alone(stops(15 * time.Minute)), "lease n1 15m0s of 15m0s enforced; " + follows, "maintenance switchover-candidate"},
			{"which does not get shorter meanwhile", alone(stops(time.Minute).lease(900*second, 900*second, true)), follows, "maintenance"},
			{"once it is gone nothing more is decided", stops(15*time.Minute).silent("n1", time.Second), "", "maintenance"},
			{"nor when it has come back", stops(15*time.Minute).lease(900*second, 900*second, true).view("n1", func(v *ferryman.NodeView) { v.Status.BootID = "b2" }), "want n1 active", ""},
			{"nor while it hands over", stops(15*time.Minute).switching(nil).open(ferryman.OpFence, "n1", nil), "", "maintenance"},
			{"a lease that is not in force is made as long too", stops(15*time.Minute).lease(5*second, 5*second, false), "lease n1 15m0s of 15m0s enforced", "maintenance"},
		})
	})
	t.Run("is away from Raft's leader", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"the leader beside the primary hands over", watched(3).lead("n1"), "transfer n1 to n2", ""},
			{"not in manual mode", calm(3), "", "complete"},
			{"not before the lease is in force", offered().lead("n1"), "", "lease"},
			{"not while a node is carried", agents(watched(3)).lead("n1").carrying(ferryman.PartAgents, "n3"), "exit n3", ""},
			{"not in a switchover", watched(3).lead("n1").switching(nil).open(ferryman.OpFence, "n1", nil), "", "step"},
			{"not to one that is behind", watched(3).lead("n1").view("n2", func(v *ferryman.NodeView) { v.CaughtUp = false }), "transfer n1 to n3", ""},
			{"not to nobody", watched(3).lead("n1").view("n2", func(v *ferryman.NodeView) { v.CaughtUp = false }).view("n3", func(v *ferryman.NodeView) { v.CaughtUp = false }), "", "complete"},
			{"again after a while if that failed", watched(3).lead("n1").failed(ferryman.OpTransfer, "n1", nil), "", "backoff"},
		})
	})

	t.Run("says what the primary's node lacks", func(t *testing.T) {
		t.Parallel()
		x := offered().view("n1", func(v *ferryman.NodeView) { v.Status.Problems = []string{"the guard does not answer"} })
		if d := plan.Next(x.s, x.v, t0); !strings.Contains(waits(d), "the guard does not answer") {
			t.Errorf("waits %s", waits(d))
		}
	})
}

func TestSyncReplicas(t *testing.T) {
	t.Parallel()
	syncs := func(x *sit, n int) *sit {
		return x.instance("n1", func(in *instance) { in.SyncReplicas = n })
	}
	committed := func(n int) *sit { x := watched(3); x.s.Primary.SyncReplicas = n; return syncs(x, n) }
	behind := func(in *instance) { in.Position = 69 }
	other := func(in *instance) { in.History = "g" }
	try(t, []row{
		{"nothing changes", committed(1), "", "complete"},
		{"one is seen in force", syncs(watched(3), 1), "sync-replicas n1 epoch 3 1", ""},
		{"when one holds all that was acknowledged before", syncs(watched(3), 1).instance("n2", behind), "sync-replicas n1 epoch 3 1", ""},
		{"when none does, not yet", syncs(watched(3), 1).instance("n2", behind).instance("n3", behind), "", "complete"},
		{"two need two", syncs(watched(3), 2).instance("n2", behind), "", "complete"},
		{"and have them", syncs(watched(3), 2), "sync-replicas n1 epoch 3 2", ""},
		{"who does not stream is none", syncs(watched(3), 2).instance("n2", func(in *instance) { in.Streaming = false }), "", ""},
		{"who holds another history is none", syncs(watched(3), 2).instance("n2", other), "", "complete"},
		{"not before the promotion has told its history", func() *sit { x := syncs(watched(3), 1); x.s.Primary.History = ""; return x }(), "history n1 epoch 3", ""},
		{"nor under another history than that", syncs(watched(3), 1).instance("n1", other).instance("n2", other).instance("n3", other), "history n1 epoch 3", ""},
		{"fewer count at once", syncs(committed(2), 1), "sync-replicas n1 epoch 3 1", ""},
		{"whoever holds what", syncs(committed(1), 0).instance("n2", behind).instance("n3", other), "sync-replicas n1 epoch 3 0", ""},
		{"not when the primary does not answer", syncs(committed(1), 0).silent("n1", time.Second), "", "primary-lost"},
		{"not while it accepts no writes", syncs(committed(1), 0).instance("n1", func(in *instance) { in.Writable = false }), "promote n1 epoch 3", ""},
		{"not in a switchover", syncs(committed(1), 0).switching(nil).open(ferryman.OpFence, "n1", nil), "", "step"},
		{"not in manual mode", syncs(calm(3), 1), "", "complete"},
	})
}
