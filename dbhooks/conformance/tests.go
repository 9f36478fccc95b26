package conformance

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"ferryman"
)

func traitsAreKnown(t *testing.T, s Suite) {
	n := newNodes(t, s, 1)[0]
	traits := n.Traits()
	if traits.Primaries != 1 {
		t.Errorf("primaries: got %d, want 1: this suite is for engines with one primary", traits.Primaries)
	}
	for _, op := range traits.Ops {
		if !op.ByEngine() {
			t.Errorf("op %q is none that an engine carries out", op)
		}
	}
	for _, op := range []ferryman.Op{ferryman.OpInitialise, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFollow, ferryman.OpFence, ferryman.OpUnfence, ferryman.OpVerify, ferryman.OpPreflight} {
		if !traits.Can(op) {
			t.Errorf("op %q is missing", op)
		}
	}
}

func unknownOpIsUnsupported(t *testing.T, s Suite) {
	n := newNodes(t, s, 1)[0]
	if _, err := n.try(t, "no-such-op", ferryman.Args{}); !errors.Is(err, ferryman.ErrUnsupported) {
		t.Errorf("an unknown op: got %v, want %v", err, ferryman.ErrUnsupported)
	}
}

func comesUpWithoutWrites(t *testing.T, s Suite) {
	n := newNodes(t, s, 1)[0]
	in := n.status(t)
	if in.Writable || in.Initialised || in.Role == ferryman.RolePrimary {
		t.Errorf("a new instance: got %+v, want one that is neither initialised nor writable nor primary", in)
	}
	n.refusesWrites(t)
	n.refuses(t, ferryman.OpPromote, ferryman.Args{Epoch: 1}) // no data
	n.blocked(t, ferryman.Args{Epoch: 1, Alone: true})
	n.stop(t)
	if in := n.status(t); in.Running || in.Healthy {
		t.Errorf("a stopped instance: got %+v, want it not running", in)
	}
}

func initialisesOnce(t *testing.T, s Suite) {
	n := newNodes(t, s, 1)[0]
	n.must(t, ferryman.OpInitialise, ferryman.Args{})
	if in := n.status(t); !in.Initialised || in.Writable {
		t.Errorf("initialised: got %+v, want it initialised and not writable", in)
	}
	n.refusesWrites(t)
	nodes := newCluster(t, s, 2)
	nodes[0].put(t, "a", "1")
	for _, n := range nodes {
		n.refuses(t, ferryman.OpInitialise, ferryman.Args{})
		n.has(t, "a", "1")
	}
}

func promotesByEpoch(t *testing.T, s Suite) {
	nodes := newNodes(t, s, 2)
	n := nodes[0]
	n.must(t, ferryman.OpInitialise, ferryman.Args{})
	n.must(t, ferryman.OpPromote, ferryman.Args{Epoch: 5})
	in := n.status(t)
	if !in.Writable || in.Role != ferryman.RolePrimary || in.Epoch != 5 || !in.Healthy || in.History == "" {
		t.Errorf("promoted: got %+v, want a healthy, writable primary of epoch 5 with a history", in)
	}
	n.refuses(t, ferryman.OpPromote, ferryman.Args{Epoch: 4})
	n.refuses(t, ferryman.OpFence, ferryman.Args{Epoch: 4})
	if in := n.status(t); !in.Writable || in.Epoch != 5 {
		t.Errorf("after orders of an old epoch: got %+v, want a writable primary of epoch 5", in)
	}
	from := ferryman.Args{From: n.cfg.Address, Epoch: 5}
	nodes[1].must(t, ferryman.OpClone, from)
	nodes[1].must(t, ferryman.OpFollow, from)
	nodes[1].refuses(t, ferryman.OpPromote, ferryman.Args{Epoch: 5}) // that epoch has another primary
	nodes[1].refuses(t, ferryman.OpFollow, ferryman.Args{From: n.cfg.Address, Epoch: 4})
	nodes[1].refusesWrites(t)
}

func restartedPrimaryWaits(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	nodes[0].put(t, "a", "1")
	nodes[0].stop(t)
	nodes[0].start(t)
	if in := nodes[0].status(t); in.Writable || in.Role == ferryman.RolePrimary {
		t.Errorf("a restarted primary: got %+v, want it without writes", in)
	}
	nodes[0].refusesWrites(t)
	nodes[0].must(t, ferryman.OpPromote, ferryman.Args{Epoch: 1})
	nodes[1].must(t, ferryman.OpFollow, ferryman.Args{Epoch: 1, From: nodes[0].cfg.Address})
	nodes[0].has(t, "a", "1")
	nodes[0].put(t, "b", "2")
}

func followNeedsData(t *testing.T, s Suite) {
	nodes := newNodes(t, s, 2)
	nodes[0].must(t, ferryman.OpInitialise, ferryman.Args{})
	nodes[0].must(t, ferryman.OpPromote, ferryman.Args{Epoch: 1})
	nodes[1].refuses(t, ferryman.OpFollow, ferryman.Args{Epoch: 1, From: nodes[0].cfg.Address})
}

func acknowledgedWritesArrive(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 3)
	nodes[0].put(t, "a", "1")
	nodes[0].put(t, "b", "2")
	at := nodes[0].status(t)
	for _, n := range nodes[1:] {
		n.must(t, ferryman.OpVerify, ferryman.Args{History: at.History, Position: at.Position})
		n.has(t, "a", "1")
		n.has(t, "b", "2")
		n.refusesWrites(t)
		in := n.until(t, "it streams, without lag", func(in ferryman.Instance) bool { return in.Streaming && in.Lag == 0 })
		if !in.Healthy || in.Following != nodes[0].cfg.Address || in.Role != ferryman.RoleReplica || in.History != at.History || in.Epoch != 1 || in.Diverged {
			t.Errorf("a replica: got %+v, want it healthy, following %s at epoch 1 in history %s", in, nodes[0].cfg.Address, at.History)
		}
	}
	if at.SyncReplicas != s.SyncReplicas {
		t.Errorf("sync replicas: got %d, want %d", at.SyncReplicas, s.SyncReplicas)
	}
	nodes[0].until(t, "it sees its replicas", func(in ferryman.Instance) bool { return len(in.Replicas) == 2 })
}

func fenceIsFinal(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	w := startWriter(t, s, nodes[:1])
	w.untilMore(t, 20)
	fence := ferryman.Args{Epoch: 1}
	first := nodes[0].must(t, ferryman.OpFence, fence)
	nodes[0].refusesWrites(t)
	acknowledged := w.stop(t)
	if in := nodes[0].status(t); in.Writable || !in.Fenced {
		t.Errorf("fenced: got %+v, want it fenced and not writable", in)
	}
	second := nodes[0].must(t, ferryman.OpFence, fence)
	if first.History != second.History || first.Position == 0 {
		t.Errorf("fence: got %+v, then %+v; want a position in one history", first, second)
	}
	nodes[1].must(t, ferryman.OpVerify, ferryman.Args{History: first.History, Position: first.Position})
	acknowledged.check(t, nodes[1])

	nodes[0].stop(t)
	nodes[0].start(t)
	if in := nodes[0].status(t); in.Writable || !in.Fenced {
		t.Errorf("fenced and restarted: got %+v, want it fenced and not writable", in)
	}
	nodes[0].refusesWrites(t)
	nodes[0].refuses(t, ferryman.OpPromote, ferryman.Args{Epoch: 1})
	nodes[0].must(t, ferryman.OpPromote, ferryman.Args{Epoch: 2})
	nodes[1].must(t, ferryman.OpFollow, ferryman.Args{Epoch: 2, From: nodes[0].cfg.Address})
	nodes[0].put(t, "again", "1")
}

func unfenceGivesBack(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	nodes[0].must(t, ferryman.OpFence, ferryman.Args{Epoch: 1})
	nodes[0].refusesWrites(t)
	nodes[0].must(t, ferryman.OpUnfence, ferryman.Args{Epoch: 1})
	if in := nodes[0].status(t); !in.Writable || in.Fenced {
		t.Errorf("unfenced: got %+v, want it writable", in)
	}
	nodes[0].put(t, "a", "1")
	nodes[1].must(t, ferryman.OpUnfence, ferryman.Args{Epoch: 1})
	nodes[1].refusesWrites(t)
}

func verifyWaits(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	nodes[0].put(t, "a", "1")
	at := nodes[0].status(t)
	later := ferryman.Args{History: at.History, Position: at.Position + 1_000_000}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := nodes[1].Do(ctx, ferryman.OpVerify, later); err == nil {
		t.Error("verify of a position that does not exist: got nil, want an error")
	}
	answer := make(chan error, 1)
	next := ferryman.Args{History: at.History, Position: at.Position + 1}
	go func() {
		_, err := nodes[1].try(t, ferryman.OpVerify, next)
		answer <- err
	}()
	nodes[0].put(t, "b", "2")
	if err := <-answer; err != nil {
		t.Errorf("verify of the next position: %v", err)
	}
	nodes[1].has(t, "b", "2")
	version := nodes[1].status(t).Version
	nodes[1].must(t, ferryman.OpVerify, ferryman.Args{Version: version})
	nodes[1].refuses(t, ferryman.OpVerify, ferryman.Args{Version: version + "-other"})
}

func switchoverThereAndBack(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 3)
	w := startWriter(t, s, nodes)
	w.untilMore(t, 20)
	switchover(t, nodes, 0, 1, 1)
	w.untilMore(t, 20)
	switchover(t, nodes, 1, 2, 2)
	w.untilMore(t, 20)
	switchover(t, nodes, 2, 0, 3)
	w.untilMore(t, 20)
	settle(t, nodes, 0, w.stop(t))
	t.Logf("longest time between two acknowledged writes: %s", w.gap)
	if s.AfterSwitchovers != nil {
		s.AfterSwitchovers(t, configs(nodes))
	}
}

// settle expects every acknowledged write on every instance, and writes at the primary only.
func settle(t *testing.T, nodes []*node, primary int, writes acknowledged) {
	t.Helper()
	at := nodes[primary].status(t)
	for i, n := range nodes {
		n.must(t, ferryman.OpVerify, ferryman.Args{History: at.History, Position: at.Position})
		writes.check(t, n)
		if in := n.status(t); in.Writable != (i == primary) {
			t.Errorf("%s: writable is %t", n.cfg.Address, in.Writable)
		}
	}
}

// rollingUpgrade carries replicas first, then the primary after one switchover, as a rollout does.
func rollingUpgrade(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 3)
	w := startWriter(t, s, nodes)
	carry := func(n *node, primary *node, epoch uint64) {
		t.Helper()
		w.untilMore(t, 20)
		r := n.must(t, ferryman.OpPreflight, ferryman.Args{Version: s.NextVersion})
		if len(r.Blockers) > 0 {
			t.Fatalf("preflight: blocked by %q", r.Blockers)
		}
		n.stop(t)
		n.home = s.NextHome
		n.start(t)
		n.must(t, ferryman.OpFollow, ferryman.Args{Epoch: epoch, From: primary.cfg.Address})
		n.must(t, ferryman.OpVerify, ferryman.Args{Version: s.NextVersion})
	}
	carry(nodes[1], nodes[0], 1)
	carry(nodes[2], nodes[0], 1)
	w.untilMore(t, 20)
	switchover(t, nodes, 0, 1, 1)
	carry(nodes[0], nodes[1], 2)
	w.untilMore(t, 20)
	settle(t, nodes, 1, w.stop(t))
	t.Logf("longest time between two acknowledged writes: %s", w.gap)
}

// switchover as the plan does it; the epoch is that of the old primary.
func switchover(t *testing.T, nodes []*node, from, to int, epoch uint64) {
	t.Helper()
	if r := nodes[to].must(t, ferryman.OpPreflight, ferryman.Args{Epoch: epoch + 1}); len(r.Blockers) > 0 {
		t.Fatalf("preflight of the successor: blocked by %q", r.Blockers)
	}
	final := nodes[from].must(t, ferryman.OpFence, ferryman.Args{Epoch: epoch})
	nodes[to].must(t, ferryman.OpVerify, ferryman.Args{History: final.History, Position: final.Position})
	nodes[to].must(t, ferryman.OpPromote, ferryman.Args{Epoch: epoch + 1})
	for i, n := range nodes {
		if i != to {
			n.must(t, ferryman.OpFollow, ferryman.Args{Epoch: epoch + 1, From: nodes[to].cfg.Address})
		}
	}
}

func killedReplicaComesBack(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 3)
	nodes[0].put(t, "a", "1")
	nodes[1].kill(t)
	nodes[0].put(t, "b", "2")
	nodes[1].start(t)
	nodes[1].refusesWrites(t)
	from := ferryman.Args{Epoch: 1, From: nodes[0].cfg.Address}
	if _, err := nodes[1].try(t, ferryman.OpFollow, from); err != nil {
		nodes[1].must(t, ferryman.OpClone, from)
		nodes[1].must(t, ferryman.OpFollow, from)
	}
	nodes[1].has(t, "a", "1")
	nodes[1].has(t, "b", "2")
}

func divergedDataAreSetAside(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	nodes[0].put(t, "a", "1")
	nodes[1].stop(t)
	// A write that no replica gets: it is not acknowledged, but it is in the primary's data.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Put(ctx, nodes[0].cfg, "lost", "1"); err == nil {
		t.Fatal("a write without any replica was acknowledged")
	}
	nodes[0].stop(t)
	nodes[1].start(t)
	nodes[1].must(t, ferryman.OpPromote, ferryman.Args{Epoch: 2})
	nodes[0].start(t)
	from := ferryman.Args{Epoch: 2, From: nodes[1].cfg.Address}
	nodes[0].refuses(t, ferryman.OpFollow, from)
	nodes[0].has(t, "lost", "1")
	result, err := nodes[0].try(t, ferryman.OpClone, from)
	if err != nil {
		t.Fatalf("clone: %v", err)
	}
	if _, err := os.Stat(result.SetAside); err != nil {
		t.Errorf("the old data: %v; want them at SetAside", err)
	}
	if again, err := nodes[0].try(t, ferryman.OpClone, from); err != nil || again.SetAside != "" {
		t.Errorf("clone, repeated: got %+v, %v; want nothing set aside", again, err)
	}
	// It was told to follow, in vain. If it still says whom it follows it does so by now: nobody would tell it again.
	nodes[0].until(t, "it follows, or says that it does not", func(in ferryman.Instance) bool {
		return in.Following != from.From || in.Streaming
	})
	nodes[0].must(t, ferryman.OpFollow, from)
	nodes[1].put(t, "b", "2")
	at := nodes[1].status(t)
	nodes[0].must(t, ferryman.OpVerify, ferryman.Args{History: at.History, Position: at.Position})
	nodes[0].has(t, "b", "2")
}

func preflightChangesNothing(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	before := nodes[1].status(t)
	good := nodes[1].must(t, ferryman.OpPreflight, ferryman.Args{Epoch: 2, Version: before.Version})
	if len(good.Blockers) > 0 {
		t.Errorf("preflight of a promotion that is possible: blocked by %q", good.Blockers)
	}
	if bad := nodes[1].must(t, ferryman.OpPreflight, ferryman.Args{Epoch: 1}); len(bad.Blockers) == 0 {
		t.Error("preflight of a promotion at an epoch that has a primary: no blockers")
	}
	if after := nodes[1].status(t); after.Epoch != before.Epoch || after.Writable || !after.Streaming {
		t.Errorf("preflight changed the instance: %+v, then %+v", before, after)
	}
	nodes[0].put(t, "a", "1")
}

func configures(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	if len(s.Parameters) > 0 {
		nodes[0].must(t, ferryman.OpConfigure, ferryman.Args{Parameters: s.Parameters})
	}
	if len(s.Refused) > 0 {
		nodes[0].refuses(t, ferryman.OpConfigure, ferryman.Args{Parameters: s.Refused})
		if r := nodes[0].must(t, ferryman.OpPreflight, ferryman.Args{Parameters: s.Refused}); len(r.Blockers) == 0 {
			t.Error("preflight of parameters that are refused: no blockers")
		}
	}
	nodes[0].put(t, "a", "1")
}
