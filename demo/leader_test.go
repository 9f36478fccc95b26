package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
)

// In the middle of every kind of step the agent of Raft's leader is killed.
// Another leads, and goes on with the same step under the same attempt; the
// agent that comes back adopts its database.
func TestALeaderThatDiesAtAnyStepIsSucceeded(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "cluster: {dead_after: 60s}\n") // who was killed comes back
	c.open(t)
	for _, s := range []struct {
		name   string
		during []ferryman.Op
		change func(n int)
		starts int // of each database, with each change
	}{
		{"upgrade", []ferryman.Op{ferryman.OpPreflight, ferryman.OpStage, ferryman.OpStop, ferryman.OpSwitch, ferryman.OpStart,
			ferryman.OpVerify, ferryman.OpFollow, ferryman.OpFence, ferryman.OpPromote},
			func(n int) { c.release(t, lightVersion(n)) }, 1},
		{"restart of agents", []ferryman.Op{ferryman.OpExit, ferryman.OpTransfer},
			func(int) { c.doc.Agent.RestartGeneration++ }, 0},
	} {
		if !t.Run(s.name, func(t *testing.T) { c.killDuring(t, s.during, s.change, s.starts) }) {
			return
		}
	}
	c.checkWrites(t)
}

// tries is how often a leader is killed for one operation: some end in the very
// moment in which it dies, and were over for the others.
const tries = 2

// killDuring makes the change, again and again, until a leader died in each of
// the operations. Each change is complete in the end, and each database was
// started as often as that takes, no more.
func (c *company) killDuring(t *testing.T, ops []ferryman.Op, change func(n int), starts int) {
	left, tried := map[ferryman.Op]bool{}, map[ferryman.Op]int{}
	for _, op := range ops {
		left[op] = true
	}
	struck := 0
	defer func() {
		if !t.Failed() && struck*2 < len(ops) {
			t.Errorf("only %d of %d operations were open when their leader died", struck, len(ops))
		}
	}()
	for n := 1; len(left) > 0; n++ {
		if n > lightUpgrades {
			t.Fatalf("in %d changes no leader was killed while one of these ran: %v", n-1, slices.Collect(maps.Keys(left)))
		}
		before := c.settle(t)
		started := c.starts(t, names(before))
		begin := func() {
			change(n)
			c.change(t)
		}
		for {
			step, leader, caught := c.catch(t, begin, func(st ferryman.Step, _ ferryman.NodeID) bool { return left[st.Op] }, c.kill)
			if !caught {
				break
			}
			begin = func() {}
			open := c.succeeded(t, step, leader)
			if tried[step.Op]++; open {
				struck++
			}
			if open || tried[step.Op] == tries {
				delete(left, step.Op)
			}
		}
		after := c.settle(t)
		for name, now := range c.starts(t, names(after)) {
			if now != started[name]+starts {
				t.Errorf("the database of %s was started %d times, want %d\n%s", name, now-started[name], starts, history(after))
			}
		}
		for _, part := range ferryman.Parts {
			if got := after.State.Rollout.Part(part); got.Status != ferryman.PartComplete {
				t.Errorf("the rollout of the %s is %s: %s\n%s", part, got.Status, got.Reason, history(after))
			}
		}
	}
}

// catch lets a change begin, under the eyes of whom it will strike, and strikes
// the leader as soon as its own state holds an open step that is wanted. It
// catches none when the rollout has ended.
func (c *company) catch(t *testing.T, begin func(), wanted func(st ferryman.Step, leader ferryman.NodeID) bool, strike func(*testing.T, string)) (ferryman.Step, string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		r := c.wait(t, "all there", func(r ferryman.Report) error {
			for id, m := range r.State.Members {
				if !r.View.Nodes[id].Reachable || !r.View.Nodes[id].CaughtUp {
					return fmt.Errorf("%s has not caught up", m.Name)
				}
			}
			return nil
		})
		leader := nameOf(r, r.View.Self)
		client, err := rpc.DialControl(c.stage.socket(leader))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Local(ctx); err != nil {
			continue
		}
		begin()
		begin = func() {}
		step, ended := c.follow(ctx, client, leader, func(st ferryman.Step) bool { return wanted(st, r.View.Self) })
		switch {
		case ended:
			return ferryman.Step{}, "", false
		case step.ID != 0:
			strike(t, leader)
			return step, leader, true
		}
	}
	t.Fatal("neither a step was caught nor did the rollout end")
	return ferryman.Step{}, "", false
}

// follow looks at one node's own state as often as it can, until a step is
// wanted, the rollout has ended, or the node leads no longer.
func (c *company) follow(ctx context.Context, client *rpc.ControlClient, name string, wanted func(ferryman.Step) bool) (step ferryman.Step, ended bool) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		l, err := client.Local(ctx)
		if err != nil || l.Leader.Name != name {
			return step, false
		}
		for _, st := range l.State.Ledger {
			if st.Open() && wanted(st) {
				return st, false
			}
		}
		if a := l.State.Accepted; a.Document.Generation == c.doc.Generation && !l.State.Rollout.Open() && !l.State.Stale() {
			return step, true
		}
	}
	return step, false
}

// succeeded sees another lead, brings the dead agent back, and sees the step
// end well. It reports whether the step was really open when its leader died.
func (c *company) succeeded(t *testing.T, step ferryman.Step, dead string) bool {
	t.Helper()
	// Until there is another leader nothing more is committed.
	open := true
	hosts, err := c.stage.hosts()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if l, err := c.local(t.Context(), h); err == nil {
			if st, ok := l.State.Step(step.ID); ok && !st.Open() {
				open = false
			}
		}
	}
	r := c.wait(t, "another leads", func(r ferryman.Report) error {
		if nameOf(r, r.View.Self) == dead {
			return fmt.Errorf("%s leads, which was killed", dead)
		}
		return nil
	})
	next := nameOf(r, r.View.Self)
	c.revive(t, dead)
	where := nameOf(r, step.Node)
	r = c.wait(t, "the step goes on", func(r ferryman.Report) error {
		if st, ok := r.State.Step(step.ID); !ok || st.Open() {
			return fmt.Errorf("step %d, %s, is still open", step.ID, step.Op)
		}
		return nil
	})
	st, _ := r.State.Step(step.ID)
	if !st.Outcome.Done() || st.Attempt != step.Attempt {
		t.Errorf("%s on %s, attempt %d, was open when its leader %s died; it ended as attempt %d: %+v\n%s", step.Op, where, step.Attempt, dead, st.Attempt, st.Outcome, history(r))
	}
	t.Logf("%s was killed during %s on %s (attempt %d, open %v); %s went on", dead, step.Op, where, step.Attempt, open, next)
	return open
}

// The leader is stopped while a step runs, as by a hypervisor, until another
// leads and has seen that step through. What it had in flight is refused when
// it goes on; it follows.
func (c *company) pausedLeader(t *testing.T) {
	before := c.settle(t)
	started := c.starts(t, names(before))
	begin := func() {
		c.doc.Database.RestartGeneration++
		c.change(t)
	}
	step, paused, caught := c.catch(t, begin, func(st ferryman.Step, leader ferryman.NodeID) bool {
		return st.Node != leader && (st.Op == ferryman.OpStop || st.Op == ferryman.OpStart || st.Op == ferryman.OpVerify)
	}, func(t *testing.T, name string) { c.signal(t, name, syscall.SIGSTOP) })
	if !caught {
		t.Fatal("the rollout ended without a step on another node")
	}
	stopped := true
	defer func() {
		if stopped {
			c.signal(t, paused, syscall.SIGCONT)
		}
	}()
	where := nameOf(before, step.Node)
	var r ferryman.Report
	eventually(t, "another leader sees the step through", func() (err error) {
		if r, err = c.stage.ask(t.Context(), where); err != nil {
			return err
		}
		if r.View.Term <= before.View.Term {
			return fmt.Errorf("term %d goes on", r.View.Term)
		}
		if st, _ := r.State.Step(step.ID); st.Open() {
			return fmt.Errorf("step %d, %s, is open", st.ID, st.Op)
		}
		return nil
	})
	st, _ := r.State.Step(step.ID)
	if !st.Outcome.Done() || st.Attempt != step.Attempt {
		t.Errorf("%s, attempt %d, ended as attempt %d: %+v", step.Op, step.Attempt, st.Attempt, st.Outcome)
	}

	// A call that it sent before, as its node gets it now.
	id, err := identity.Open(filepath.Join(c.host(paused), "tls"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	clients := rpc.NewClients(id)
	defer clients.Close()
	peer, err := clients.Peer(where, r.State.Members[step.Node].Address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.RunStep(t.Context(), rpc.StepRef{Step: step.ID, Index: 1, Term: before.View.Term}); !errors.Is(err, ferryman.ErrRefused) {
		t.Errorf("a step that the paused leader asks for: %v, want a refusal", err)
	}

	c.signal(t, paused, syscall.SIGCONT)
	stopped = false
	after := c.settle(t)
	l, err := c.local(t.Context(), paused)
	if err != nil {
		t.Fatal(err)
	}
	if l.Status.Term <= before.View.Term {
		t.Errorf("%s is still in term %d", paused, l.Status.Term)
	}
	for name, now := range c.starts(t, names(after)) {
		if now != started[name]+1 {
			t.Errorf("the database of %s was started %d times in one rollout, want once\n%s", name, now-started[name], history(after))
		}
	}
}
