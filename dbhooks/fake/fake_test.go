package fake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/dbhooks/fake"
)

func must(t *testing.T, e *fake.Engine, op ferryman.Op, args ferryman.Args) ferryman.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 { // every operation may be repeated
		if _, err := e.Do(ctx, op, args); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	r, err := e.Do(ctx, op, args)
	if err != nil {
		t.Fatalf("%s, again: %v", op, err)
	}
	return r
}

func start(t *testing.T, e *fake.Engine, home string) {
	t.Helper()
	c, err := e.Command(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(c.Exec, func(int) {}); err != nil {
		t.Fatal(err)
	}
}

// cluster returns n instances; a is the primary of epoch 1.
func cluster(t *testing.T, c *fake.Cluster, addresses ...string) []*fake.Engine {
	t.Helper()
	var all []*fake.Engine
	for i, address := range addresses {
		e := c.Engine(address)
		start(t, e, "")
		if i == 0 {
			must(t, e, ferryman.OpInitialise, ferryman.Args{})
			must(t, e, ferryman.OpPromote, ferryman.Args{Epoch: 1})
		} else {
			must(t, e, ferryman.OpClone, ferryman.Args{From: addresses[0]})
			must(t, e, ferryman.OpFollow, ferryman.Args{From: addresses[0], Epoch: 1})
		}
		all = append(all, e)
	}
	return all
}

func TestSwitchoverLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := fake.NewCluster()
		c.Lag(50 * time.Millisecond)
		n := cluster(t, c, "a", "b", "c")
		for i := range 10 {
			if err := c.Write("a", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(c.Missing("b")); got != 10 {
			t.Errorf("missing within the lag: got %d, want 10", got)
		}
		final := must(t, n[0], ferryman.OpFence, ferryman.Args{Epoch: 1})
		if err := c.Write("a", "late"); err == nil {
			t.Error("a fenced primary took a write")
		}
		must(t, n[1], ferryman.OpVerify, ferryman.Args{Position: final.Position, History: final.History})
		must(t, n[1], ferryman.OpPromote, ferryman.Args{Epoch: 2})
		must(t, n[0], ferryman.OpFollow, ferryman.Args{From: "b", Epoch: 2})
		must(t, n[2], ferryman.OpFollow, ferryman.Args{From: "b", Epoch: 2})
		if got := c.Primaries(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("primaries: got %q, want b", got)
		}
		if err := c.Write("b", "after"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		for _, address := range []string{"a", "b", "c"} {
			if got := c.Missing(address); len(got) > 0 {
				t.Errorf("%s misses %q", address, got)
			}
		}
		if _, err := n[0].Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 2}); !errors.Is(err, dbhooks.ErrEpoch) {
			t.Errorf("promote at another's epoch: got %v, want ErrEpoch", err)
		}
	})
}

func TestRestartedPrimaryWaitsForPromotion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := fake.NewCluster()
		n := cluster(t, c, "a", "b")
		n[0].Stop()
		start(t, n[0], "/releases/fakedb/2.0-0123456789ab")
		in, _ := n[0].Status(t.Context())
		if in.Writable || in.Version != "2.0" || in.Role != ferryman.RolePrimary {
			t.Errorf("restarted: got %+v, want a primary at 2.0 without writes", in)
		}
		must(t, n[0], ferryman.OpPromote, ferryman.Args{Epoch: 1})
		if err := c.Write("a", "x"); err != nil {
			t.Error(err)
		}
		if in, _ := n[1].Status(t.Context()); !in.Streaming || in.Diverged {
			t.Errorf("replica after the restart: got %+v, want it streaming", in)
		}
	})
}

func TestDivergedIsRefusedAndSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := fake.NewCluster()
		n := cluster(t, c, "a", "b")
		c.Cut("a", "b", true)
		if err := c.Write("a", "alone"); err != nil {
			t.Fatal(err)
		}
		n[0].Stop()
		must(t, n[1], ferryman.OpPromote, ferryman.Args{Epoch: 2})
		c.Cut("a", "b", false)
		start(t, n[0], "")
		args := ferryman.Args{From: "b", Epoch: 2}
		if _, err := n[0].Do(t.Context(), ferryman.OpFollow, args); !errors.Is(err, dbhooks.ErrDiverged) {
			t.Errorf("follow: got %v, want ErrDiverged", err)
		}
		r, err := n[0].Do(t.Context(), ferryman.OpClone, args)
		if err != nil || r.SetAside == "" {
			t.Errorf("clone: got %+v, %v; want the old data set aside", r, err)
		}
		must(t, n[0], ferryman.OpFollow, args)
		if got := c.Missing("b"); !slices.Equal(got, []string{"alone"}) {
			t.Errorf("the checker for lost writes: got %q, want the one that was lost", got)
		}
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := fake.NewCluster()
		n := cluster(t, c, "a", "b")
		n[1].Faults(fake.Faults{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if in, err := n[1].Status(ctx); err != nil || !in.Running || in.Healthy || in.Version != "" {
			t.Errorf("hung: got %+v, %v; want it running and silent", in, err)
		}
		n[1].Faults(fake.Faults{})
		n[1].Stop()
		c.Version("bad", fake.Faults{NoStart: "cannot read the catalogue"})
		if err := n[1].Start([]string{"fakedb", "bad"}, func(int) {}); err == nil {
			t.Error("a version that does not start started")
		}
		c.Version("weak", fake.Faults{CrashAfter: time.Minute})
		exits := make(chan int, 1)
		if err := n[1].Start([]string{"fakedb", "weak"}, func(code int) { exits <- code }); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-exits
		if got := time.Since(began); got != time.Minute {
			t.Errorf("crash: got it after %s, want a minute", got)
		}
	})
}

func TestCrashLosesDataWhereTheyAreInMemory(t *testing.T) {
	t.Parallel()
	for _, volatile := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := fake.NewCluster()
			c.Volatile(volatile)
			c.Sync(1)
			n := cluster(t, c, "a", "b")
			if err := c.Write("a", "x"); err != nil {
				t.Fatal(err)
			}
			n[1].Stop() // in good order
			start(t, n[1], "")
			n[0].Kill()
			start(t, n[0], "")
			if in, _ := n[0].Status(t.Context()); in.Initialised == volatile || in.Writable || in.Epoch != 1 || in.SyncReplicas != 1 {
				t.Errorf("volatile %t: a killed primary came back as %+v", volatile, in)
			}
			if _, err := n[0].Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 1}); (err != nil) != volatile {
				t.Errorf("volatile %t: promote of a killed primary: got %v", volatile, err)
			}
			if _, err := n[0].Do(t.Context(), ferryman.OpInitialise, ferryman.Args{}); !errors.Is(err, ferryman.ErrConflict) {
				t.Errorf("volatile %t: initialise where a database was: got %v, want %v", volatile, err, ferryman.ErrConflict)
			}
			if got := c.Missing("b"); len(got) > 0 {
				t.Errorf("volatile %t: the replica that was stopped misses %q", volatile, got)
			}
		})
	}
}

func TestLostPrimaryIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := fake.NewCluster()
		n := cluster(t, c, "a", "b")
		if err := c.Write("a", "x"); err != nil {
			t.Fatal(err)
		}
		n[0].Kill()
		if err := n[0].Fence(1); err != nil {
			t.Fatal(err)
		}
		if r := must(t, n[1], ferryman.OpPreflight, ferryman.Args{Epoch: 2}); len(r.Blockers) == 0 {
			t.Error("preflight of a replica that does not stream: no blockers")
		}
		for epoch, blocked := range map[uint64]bool{1: true, 2: false} {
			r := must(t, n[1], ferryman.OpPreflight, ferryman.Args{Epoch: epoch, Alone: true})
			if len(r.Blockers) > 0 != blocked || r.Position == 0 || r.History == "" {
				t.Errorf("preflight without the primary at epoch %d: got %+v, want blockers: %t", epoch, r, blocked)
			}
		}
		must(t, n[1], ferryman.OpPromote, ferryman.Args{Epoch: 2})
		start(t, n[0], "")
		if in, _ := n[0].Status(t.Context()); !in.Fenced || in.Writable || !in.Initialised {
			t.Errorf("fenced while it was down: got %+v", in)
		}
		if _, err := n[0].Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 1}); !errors.Is(err, dbhooks.ErrFenced) {
			t.Errorf("promote at the epoch of the fence: got %v, want %v", err, dbhooks.ErrFenced)
		}
		if err := n[0].Fence(0); !errors.Is(err, dbhooks.ErrEpoch) {
			t.Errorf("fence at an old epoch: got %v, want %v", err, dbhooks.ErrEpoch)
		}
		must(t, n[0], ferryman.OpFollow, ferryman.Args{From: "b", Epoch: 2})
	})
}

func TestOperationKeepsToItsProcess(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		slow func(*fake.Engine)
		args ferryman.Args
		op   ferryman.Op
	}{
		{"before its effect", func(e *fake.Engine) { e.Takes(func(ferryman.Op) time.Duration { return time.Minute }) }, ferryman.Args{Epoch: 1}, ferryman.OpPromote},
		{"while it waits", func(*fake.Engine) {}, ferryman.Args{History: "h1", Position: 100}, ferryman.OpVerify},
		{"while it hangs", func(e *fake.Engine) { e.Faults(fake.Faults{Hang: true}) }, ferryman.Args{Epoch: 1}, ferryman.OpPromote},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			c := fake.NewCluster()
			n := cluster(t, c, "a")
			n[0].Kill()
			start(t, n[0], "")
			test.slow(n[0])
			ended := make(chan error)
			go func() {
				_, err := n[0].Do(t.Context(), test.op, test.args)
				ended <- err
			}()
			synctest.Wait()
			n[0].Kill()
			start(t, n[0], "")
			if err := <-ended; !errors.Is(err, ferryman.ErrUnavailable) {
				t.Errorf("%s: got %v, want %v", test.name, err, ferryman.ErrUnavailable)
			}
			if got := c.Primaries(); len(got) > 0 {
				t.Errorf("%s: %q became writable", test.name, got)
			}
		})
	}
}
