package demo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
)

// Agents are restarted, and Raft's leader is stopped and killed, beside a
// primary that takes every write meanwhile.
func TestAgentsComeAndGoBesideThePrimary(t *testing.T) {
	t.Parallel()
	// Raft's timings follow the lease: with a longer one nothing is lost only
	// because the machine is busy.
	c, e := watchedOf(t, light{}, 10*time.Second, backOnDisk, openDemodb)
	for _, s := range []struct {
		name string
		do   func(t *testing.T, leader string)
	}{
		{"the agent of Raft's leader stops", func(t *testing.T, leader string) {
			c.stop(t, leader)
			c.reviveAgent(t, leader)
		}},
		{"the agent of Raft's leader is killed", func(t *testing.T, leader string) {
			c.kill(t, leader)
			c.wait(t, "another leads", func(r ferryman.Report) error {
				if nameOf(r, r.View.Self) == leader {
					return fmt.Errorf("%s leads, which was killed", leader)
				}
				return nil
			})
			c.revive(t, leader)
		}},
		{"all agents are restarted in turn", func(t *testing.T, _ string) {
			c.doc.Agent.RestartGeneration++
			c.change(t)
		}},
	} {
		if !t.Run(s.name, func(t *testing.T) { c.undisturbed(t, e, s.do) }) {
			return
		}
	}
	e.verdict(t, c)
	c.checkWrites(t)
}

// undisturbed does something to agents. No database is started again, the
// primary stays, and it refuses no write and leaves none open.
func (c *company) undisturbed(t *testing.T, e *everyone, do func(t *testing.T, leader string)) {
	before, began := c.guard(t), time.Now()
	do(t, nameOf(before, before.View.Self))
	// The longer lease that a rollout takes runs for half a minute after it.
	after := c.wait(t, "all agents are back", c.watching())
	if got, want := after.State.Primary.Epoch, before.State.Primary.Epoch; got != want {
		t.Errorf("the epoch is %d, and before it was %d\n%s", got, want, history(after))
	}
	for _, name := range names(after) {
		if got, want := startID(t, after, name), startID(t, before, name); got != want {
			t.Errorf("the database of %s runs as %s, before as %s\n%s", name, got, want, history(after))
		}
	}
	writes := e.written()
	primary := before.State.Members[before.State.Primary.Node].Services[0].Address
	writes = slices.DeleteFunc(writes, func(w attempt) bool { return w.instance != primary || w.sent.Before(began) })
	if slices.ContainsFunc(writes, func(w attempt) bool { return w.outcome != acknowledged }) {
		t.Errorf("the primary did not acknowledge every write\n%s", history(after))
	}
	t.Logf("writes to the primary: %s; longest write gap %s", tallied(writes), e.gap(began).Round(time.Millisecond))
	e.lawful(t)
}

// The api-server is gone for good: the cluster stays as it is, replaces its
// primary without it, and says that it waits with the host.
func TestWithoutAnAPIServerThePrimaryIsReplaced(t *testing.T) {
	t.Parallel()
	c, e := watched(t, "cluster: {dead_after: 3s}\n")
	before := c.guard(t)
	if err := c.stage.server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.stage.done
	c.stage.server = nil
	alone := c.wait(t, "it is told that the api-server is gone", func(r ferryman.Report) error {
		if !asks(r, "leader", "source") {
			return errors.New("it is not")
		}
		return c.guarded()(r)
	})
	if alone.State.LastStep != before.State.LastStep || alone.State.Primary.Epoch != before.State.Primary.Epoch {
		t.Errorf("the loss of the api-server changed something: step %d and then %d, epoch %d and then %d\n%s",
			before.State.LastStep, alone.State.LastStep, before.State.Primary.Epoch, alone.State.Primary.Epoch, history(alone))
	}
	lost, began := alone.State.Members[alone.State.Primary.Node], time.Now()
	c.destroy(t, lost.Name)
	c.succeededBy(t, e, alone)
	t.Logf("without an api-server, longest write gap %s", e.gap(began).Round(time.Millisecond))
	c.wait(t, "it says that another host cannot be had", func(r ferryman.Report) error {
		if _, there := r.State.Members[lost.ID]; !there || len(r.State.Members) != 3 {
			t.Fatalf("%s was given up although nobody could give another host\n%s", lost.Name, history(r))
		}
		if !asks(r, "leader", "hosts") {
			return errors.New("it does not")
		}
		return nil
	})
	if err := c.stage.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := c.guard(t)
	if _, there := r.State.Members[lost.ID]; there {
		t.Errorf("%s is still a member", lost.Name)
	}
	e.verdict(t, c)
	c.checkWrites(t)
}

// Two of the three agents are killed and the databases go on, but for the
// primary's: it ends with its lease. The agent that is left says why and what to
// do, be it the primary's or another.
func TestWithoutAMajorityThePrimaryEnds(t *testing.T) {
	t.Parallel()
	c, e := watched(t, backOnDisk)
	for _, s := range []struct {
		name    string
		primary bool // its agent is the one that is left
	}{{"the primary's agent is left", true}, {"another one's agent is left", false}} {
		if !t.Run(s.name, func(t *testing.T) { c.minority(t, e, s.primary) }) {
			return
		}
	}
	e.verdict(t, c)
	c.checkWrites(t)
}

func (c *company) minority(t *testing.T, e *everyone, primary bool) {
	before, began := c.guard(t), time.Now()
	host, left := primaryHost(before), primaryHost(before)
	if !primary {
		left = others(before)[0]
	}
	for _, name := range names(before) {
		if name != left {
			c.kill(t, name)
		}
	}
	eventually(t, "the primary's database ends", func() error {
		if _, err := c.process(host, theDatabase); err == nil {
			return errors.New("it runs")
		}
		return nil
	})
	over := time.Now()
	for _, name := range others(before) {
		if _, err := c.process(name, theDatabase); err != nil {
			t.Errorf("a replica ended, too: %v", err)
		}
	}
	eventually(t, "the agent that is left says why and what to do", func() error {
		l, err := c.local(t.Context(), left)
		if err != nil {
			return err
		}
		if l.Leader.ID != "" {
			return fmt.Errorf("it believes to know a leader, %s", l.Leader.Name)
		}
		if lease := l.State.Primary.Lease; lease == nil || !lease.Enforced {
			return fmt.Errorf("it does not know that the primary needs a lease: %+v", lease)
		}
		text := strings.Join(l.Status.Problems, "; ")
		if primary && (!strings.Contains(text, "ran out") || !strings.Contains(text, "majority") || !strings.Contains(text, "look at")) {
			return fmt.Errorf("its problems are %q", text)
		}
		if _, err := c.stage.ask(t.Context(), left); err == nil || !strings.Contains(err.Error(), "leader") {
			return fmt.Errorf("asked for the cluster it says %v, want that it knows no leader", err)
		}
		return nil
	})
	for _, w := range e.written() {
		if w.taken() && w.sent.After(over) {
			t.Errorf("%s was sent after the primary's database had ended, and acknowledged by %s", w.key, w.instance)
		}
	}
	for _, name := range names(before) {
		if name != left {
			c.revive(t, name)
		}
	}
	after := c.guard(t)
	c.write(t)
	e.lawful(t)
	t.Logf("epoch %d, and then %d; longest write gap %s", before.State.Primary.Epoch, after.State.Primary.Epoch, e.gap(began).Round(time.Millisecond))
}
