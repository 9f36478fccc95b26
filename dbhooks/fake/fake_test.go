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
