package conformance

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

func killedPrimaryComesBack(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	nodes[0].put(t, "a", "1")
	nodes[0].kill(t)
	nodes[0].start(t)
	in := nodes[0].status(t)
	if in.Writable || in.Healthy || in.Reason == "" || in.Initialised == s.Volatile || in.Epoch != 1 {
		t.Errorf("a primary of epoch 1 that was killed and came back: got %+v, want no writes, a reason, and initialised: %t", in, !s.Volatile)
	}
	nodes[0].refusesWrites(t)
	if s.Volatile {
		nodes[0].refuses(t, ferryman.OpPromote, ferryman.Args{Epoch: 1})
		nodes[0].blocked(t, ferryman.Args{Epoch: 2, Alone: true})
		return
	}
	nodes[0].must(t, ferryman.OpPromote, ferryman.Args{Epoch: 1})
	nodes[1].must(t, ferryman.OpFollow, ferryman.Args{Epoch: 1, From: nodes[0].cfg.Address})
	nodes[0].has(t, "a", "1")
	nodes[0].put(t, "b", "2")
}

// fencedWhileDown: a guard writes the fence into the marker beside the data, and the process that comes up next finds it there.
func fencedWhileDown(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	down := func(epoch uint64) {
		t.Helper()
		if s.Volatile {
			nodes[0].stop(t)
		} else {
			nodes[0].kill(t)
		}
		fence(t, nodes[0].cfg.Dir, epoch)
		nodes[0].start(t)
		if in := nodes[0].status(t); in.Writable || !in.Fenced || !in.Initialised || in.Epoch != epoch {
			t.Errorf("fenced at epoch %d while it was down: got %+v, want it fenced, initialised and not writable", epoch, in)
		}
		_, err := nodes[0].try(t, ferryman.OpPromote, ferryman.Args{Epoch: epoch})
		if !errors.Is(err, dbhooks.ErrFenced) && !errors.Is(err, dbhooks.ErrEpoch) { // a program has one exit code for both
			t.Errorf("promote at the epoch of the fence: got %v, want %v", err, dbhooks.ErrFenced)
		}
		nodes[0].blocked(t, ferryman.Args{Epoch: epoch, Alone: true})
		nodes[0].refusesWrites(t)
	}
	promoted := func(epoch uint64, key string) {
		t.Helper()
		nodes[0].must(t, ferryman.OpPromote, ferryman.Args{Epoch: epoch})
		nodes[1].must(t, ferryman.OpFollow, ferryman.Args{Epoch: epoch, From: nodes[0].cfg.Address})
		nodes[0].put(t, key, "1")
	}
	down(1)
	nodes[0].must(t, ferryman.OpUnfence, ferryman.Args{Epoch: 1})
	nodes[0].refusesWrites(t)
	promoted(1, "unfenced")
	down(1)
	promoted(2, "promoted")
	down(2)
	nodes[1].must(t, ferryman.OpPromote, ferryman.Args{Epoch: 3})
	nodes[0].must(t, ferryman.OpFollow, ferryman.Args{Epoch: 3, From: nodes[1].cfg.Address})
	if in := nodes[0].status(t); in.Fenced || in.Writable || in.Epoch != 3 {
		t.Errorf("a fenced primary that follows: got %+v, want a replica of epoch 3 without a fence", in)
	}
	nodes[1].put(t, "followed", "1")
	for _, key := range []string{"unfenced", "promoted", "followed"} {
		nodes[0].has(t, key, "1")
	}
}

// fence does what a guard does: whatever else the marker holds stays.
func fence(t *testing.T, dir string, epoch uint64) {
	t.Helper()
	marker := map[string]any{}
	if err := dbhooks.LoadMarker(dir, &marker); err != nil {
		t.Fatal(err)
	}
	if len(marker) == 0 {
		t.Skip("this engine keeps no marker of package dbhooks in its data directory: a guard cannot fence it")
	}
	marker["epoch"], marker["fenced"] = epoch, true
	if err := dbhooks.SaveMarker(dir, marker); err != nil {
		t.Fatal(err)
	}
}

// lostPrimary is killed with a replica that has all writes and one that was down for the last: the plan must be able to tell them apart.
func lostPrimary(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 3)
	old, best, behind := nodes[0], nodes[1], nodes[2]
	old.put(t, "a", "1")
	at := old.status(t)
	behind.must(t, ferryman.OpVerify, ferryman.Args{History: at.History, Position: at.Position})
	behind.stop(t)
	old.put(t, "b", "2")
	old.kill(t)
	behind.start(t)
	best.until(t, "it lost the primary", func(in ferryman.Instance) bool { return !in.Streaming })
	best.blocked(t, ferryman.Args{Epoch: 2})
	best.blocked(t, ferryman.Args{Epoch: 1, Alone: true})
	is, other := best.alone(t, 2), behind.alone(t, 2)
	if is.History != other.History || is.Position <= other.Position {
		t.Errorf("preflight of the replica that has more, and of the other: got %+v and %+v; want one history, and a higher position of the first", is, other)
	}
	failover(t, old, best, behind, 2)
	for _, n := range nodes {
		n.has(t, "a", "1")
		n.has(t, "b", "2")
	}
}

// unreplicatedWrites: the lost primary has a write, never acknowledged, that its replicas have not.
func unreplicatedWrites(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 3)
	nodes[0].put(t, "a", "1")
	nodes[1].stop(t)
	nodes[2].stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Put(ctx, nodes[0].cfg, "lost", "1"); err == nil {
		t.Fatal("a write without any replica was acknowledged")
	}
	nodes[0].kill(t)
	nodes[1].start(t)
	nodes[2].start(t)
	best, other := nodes[1], nodes[2]
	if best.alone(t, 2).Position < other.alone(t, 2).Position {
		best, other = other, best
	}
	aside := failover(t, nodes[0], best, other, 2)
	switch {
	case s.Volatile && aside != "":
		t.Errorf("set aside: got %q, want nothing: the data were lost with the process", aside)
	case !s.Volatile:
		if _, err := os.Stat(aside); err != nil {
			t.Errorf("the data with the write that no replica has: %v; want them set aside", err)
		}
	}
	nodes[0].has(t, "a", "1")
}

// failover promotes one replica, has the other follow it, and lets the old primary come back as a replica. It returns where that set its data aside.
func failover(t *testing.T, old, to, other *node, epoch uint64) (aside string) {
	t.Helper()
	to.must(t, ferryman.OpPromote, ferryman.Args{Epoch: epoch})
	from := ferryman.Args{Epoch: epoch, From: to.cfg.Address}
	other.must(t, ferryman.OpFollow, from)
	to.put(t, "after", "1")
	old.start(t)
	old.refusesWrites(t)
	if _, err := old.try(t, ferryman.OpFollow, from); err != nil {
		result, err := old.try(t, ferryman.OpClone, from)
		if err != nil {
			t.Fatalf("clone of what was the primary: %v\n%s", err, old.output)
		}
		aside = result.SetAside
		old.must(t, ferryman.OpFollow, from)
	}
	old.refuses(t, ferryman.OpPromote, ferryman.Args{Epoch: epoch})
	old.refusesWrites(t)
	at := to.status(t)
	old.must(t, ferryman.OpVerify, ferryman.Args{History: at.History, Position: at.Position})
	old.has(t, "after", "1")
	return aside
}

// alone is the preflight of a promotion without the old primary, which must be possible.
func (n *node) alone(t *testing.T, epoch uint64) ferryman.Result {
	t.Helper()
	r := n.must(t, ferryman.OpPreflight, ferryman.Args{Epoch: epoch, Alone: true})
	if len(r.Blockers) > 0 || r.History == "" {
		t.Fatalf("preflight of %s without a primary: got %+v, want a history and no blockers", n.cfg.Address, r)
	}
	return r
}

// blocked expects a preflight to say why not.
func (n *node) blocked(t *testing.T, args ferryman.Args) {
	t.Helper()
	if r := n.must(t, ferryman.OpPreflight, args); len(r.Blockers) == 0 {
		t.Errorf("preflight of %s for %+v: no blockers", n.cfg.Address, args)
	}
}
