package runner_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/runner"
	disk "ferryman/agent/runner/fake"
	database "ferryman/dbhooks/fake"
	units "ferryman/systemd/fake"
	store "ferryman/upgrade/install/fake"
)

// host is what outlives an agent: a disk, a service manager, a store, and one database "db" beside another, the primary "p".
type host struct {
	file    disk.File
	units   *units.Units
	store   store.Store
	cluster *database.Cluster
	db, p   *database.Engine
	// exits are the reasons with which agents were asked to end, and whether the journal held a step's end by then.
	exits    []string
	recorded []bool
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{units: units.New(), cluster: database.NewCluster()}
	h.db, h.p = h.cluster.Engine("db"), h.cluster.Engine("p")
	h.units.Install("db", h.db)
	if err := h.p.Start([]string{"fakedb", "1.0"}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	for _, op := range []ferryman.Op{ferryman.OpInitialise, ferryman.OpPromote} {
		if _, err := h.p.Do(t.Context(), op, ferryman.Args{Epoch: 1}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *host) deps() runner.Deps {
	return runner.Deps{
		Services: []runner.Service{{
			Service: ferryman.Service{Slot: "db", Engine: "fakedb", Address: "db"}, Engine: h.db, Unit: "db", Log: h.db.Log,
		}},
		Units: h.units, Store: &h.store, Journal: &h.file, Log: slog.New(slog.DiscardHandler),
		Exit: func(reason string) {
			raw, _ := h.file.Load()
			h.exits = append(h.exits, reason)
			h.recorded = append(h.recorded, bytes.Contains(raw, []byte(`"status":"done"`)))
		},
	}
}

// agent is one process of an agent on a host.
type agent struct {
	*runner.Runner
	end func()
}

func run(t *testing.T, d runner.Deps) agent {
	t.Helper()
	r, err := runner.New(d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Loop(ctx) }()
	synctest.Wait()
	done := false
	a := agent{Runner: r, end: func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("loop: %v", err)
		}
	}}
	t.Cleanup(a.end)
	return a
}

func (h *host) run(t *testing.T) agent { t.Helper(); return run(t, h.deps()) }

// carry runs a step to its end.
func (a agent) carry(t *testing.T, s ferryman.Step) ferryman.Outcome {
	t.Helper()
	for {
		seq := a.Status().Seq
		out, err := a.Run(s)
		if err != nil {
			t.Fatalf("run step %d (%s): %v", s.ID, s.Op, err)
		}
		if out.Status != ferryman.StatusRunning {
			return out
		}
		select {
		case <-a.Changed(seq):
		case <-time.After(time.Hour):
			t.Fatalf("step %d (%s) did not end within an hour", s.ID, s.Op)
		}
	}
}

func (a agent) must(t *testing.T, s ferryman.Step) ferryman.Outcome {
	t.Helper()
	out := a.carry(t, s)
	if out.Status != ferryman.StatusDone {
		t.Fatalf("step %d (%s): got %s (%s), want done", s.ID, s.Op, out.Status, out.Reason)
	}
	return out
}

func (a agent) service(t *testing.T) ferryman.ServiceStatus {
	t.Helper()
	s, ok := a.Status().Service("db")
	if !ok {
		t.Fatal("no status of db")
	}
	return s
}

// step is a step on db.
func step(id uint64, op ferryman.Op, args ferryman.Args) ferryman.Step {
	return ferryman.Step{ID: id, Op: op, Service: "db", Args: args, Attempt: 1, Deadline: ferryman.Duration(10 * time.Minute)}
}

// node is a step on the node itself.
func node(id uint64, op ferryman.Op, args ferryman.Args) ferryman.Step {
	s := step(id, op, args)
	s.Service = ""
	return s
}

func release(digit string) *ferryman.Release {
	return &ferryman.Release{Archive: &ferryman.Archive{URL: "https://example.com/" + digit, SHA256: strings.Repeat(digit, 64), Size: 1}}
}

// follower brings db up as a replica, by steps from id on.
func (a agent) follower(t *testing.T, id uint64) uint64 {
	t.Helper()
	a.must(t, step(id, ferryman.OpStart, ferryman.Args{}))
	a.must(t, step(id+1, ferryman.OpClone, ferryman.Args{From: "p"}))
	a.must(t, step(id+2, ferryman.OpFollow, ferryman.Args{From: "p", Epoch: 1}))
	return id + 3
}
