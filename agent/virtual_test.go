package agent_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent"
	"ferryman/agent/cluster"
	"ferryman/agent/rpc"
)

var (
	three = []string{"n1", "n2", "n3"}
	four  = []string{"n1", "n2", "n3", "n4"}
	five  = []string{"n1", "n2", "n3", "n4", "n5"}
)

func TestHostsBecomeOneCluster(t *testing.T) {
	for _, names := range [][]string{{"n1"}, three, five} {
		t.Run(fmt.Sprint(len(names)), func(t *testing.T) {
			inLab(t, 1, names, func(t *testing.T, l *lab) {
				r, _ := l.form()
				if r.State.Cluster != clusterID {
					t.Errorf("cluster = %q, want %q", r.State.Cluster, clusterID)
				}
				for name, h := range l.hosts {
					if got := h.db.Calls(ferryman.OpInitialise); (got == 1) != (r.State.Members[r.State.Primary.Node].Name == name) {
						t.Errorf("the database was initialised %d times on %s", got, name)
					}
				}
			})
		})
	}
}

func TestANodeThatComesLaterJoins(t *testing.T) {
	inLab(t, 2, three, func(t *testing.T, l *lab) {
		l.form()
		for _, name := range []string{"n4", "n5"} {
			l.host(name).start()
		}
		l.doc.set(document(5, 2, ""))
		l.until("five nodes", 5*time.Minute, settled(5))
	})
}

// The leader's host goes silent; the others go on, and it comes back with what
// it had.
func TestALostLeaderIsSucceededAndComesBack(t *testing.T) {
	inLab(t, 3, three, func(t *testing.T, l *lab) {
		before, leader := l.form()
		leader.crash()
		r, next := l.until("another leader", time.Minute, func(r ferryman.Report) bool { return r.View.Term > before.View.Term })
		if next == leader {
			t.Fatalf("%s leads again, and it does not run", leader.name)
		}
		if got, want := r.State.Primary, before.State.Primary; got != want {
			t.Errorf("primary = %+v, want %+v: in manual mode the loss of an agent moves nothing", got, want)
		}
		leader.start()
		after, _ := l.until("whole again", 5*time.Minute, settled(3))
		if got, want := l.id(after, leader.name), l.id(before, leader.name); got != want {
			t.Errorf("%s came back as node %s, want %s", leader.name, got, want)
		}
		if got := leader.units.Starts("db"); got != 1 {
			t.Errorf("its database was started %d times, want 1: an agent that dies does not take it down", got)
		}
	})
}

func TestTheWholeClusterStopsAndStarts(t *testing.T) {
	inLab(t, 4, three, func(t *testing.T, l *lab) {
		before, _ := l.form()
		for _, h := range l.hosts {
			if err := h.stop(); err != nil {
				t.Errorf("stop %s: %v", h.name, err)
			}
		}
		for _, h := range l.hosts {
			h.start()
		}
		after, _ := l.until("whole again", 5*time.Minute, settled(3))
		if !maps.Equal(ids(before), ids(after)) {
			t.Errorf("members = %v, want %v", ids(after), ids(before))
		}
		if after.State.Primary != before.State.Primary {
			t.Errorf("primary = %+v, want %+v", after.State.Primary, before.State.Primary)
		}
	})
}

func ids(r ferryman.Report) map[string]ferryman.NodeID {
	m := map[string]ferryman.NodeID{}
	for id, member := range r.State.Members {
		m[member.Name] = id
	}
	return m
}

// A leader that is cut off commits nothing more, and what it asks for is not
// carried out once the others have another.
func TestACutOffLeaderIsNotObeyed(t *testing.T) {
	inLab(t, 5, three, func(t *testing.T, l *lab) {
		before, old := l.form()
		oldBackend, _ := old.backend()
		l.links.Isolate(old.cfg.Node.Address)

		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := oldBackend.Request(ctx, ferryman.Request{Kind: ferryman.RequestPause, By: "test"}); err == nil {
			t.Error("the leader that was cut off took a request")
		}
		r, _ := l.until("another leader", time.Minute, func(r ferryman.Report) bool { return r.View.Term > before.View.Term })
		if r.State.Paused != nil {
			t.Error("the request of the leader that was cut off holds")
		}

		// An open step of the new leader, asked for under the old term.
		other := l.others(old)[0]
		other.db.Takes(func(ferryman.Op) time.Duration { return time.Hour })
		b, _ := other.backend()
		_, err := b.RunStep(context.Background(), rpc.StepRef{Step: 1, Index: 1, Term: before.View.Term})
		if !errors.Is(err, ferryman.ErrRefused) || !strings.Contains(err.Error(), "term") {
			t.Errorf("a step under the old term: %v, want a refusal that names the term", err)
		}
		other.db.Takes(nil)

		l.links.Rejoin(old.cfg.Node.Address)
		after, _ := l.until("whole again", 5*time.Minute, settled(3))
		if after.State.Paused != nil {
			t.Error("the request came true after all")
		}
	})
}

// A disk that was lost makes a new node: it counts as caught up only once it
// really is, although it has applied all of its empty log at once.
func TestAWipedNodeIsANewNode(t *testing.T) {
	inLab(t, 6, three, func(t *testing.T, l *lab) {
		before, leader := l.form()
		wiped := l.others(leader)[0]
		if l.id(before, wiped.name) == before.State.Primary.Node {
			wiped = l.others(leader)[1]
		}
		wiped.crash()
		wiped.wipe()
		// It hears nothing of Raft, and answers the leader all the same.
		l.net.onlyRaft(wiped.cfg.Node.Address, true)
		l.links.Cut(leader.cfg.Node.Address, wiped.cfg.Node.Address)
		wiped.start()
		answered := false
		deadline := time.Now().Add(30 * time.Second)
		for time.Now().Before(deadline) {
			if r, _, ok := l.report(); ok {
				m, ok := member(r, wiped.name)
				v := r.View.Nodes[m.ID]
				answered = answered || ok && m.ID != l.id(before, wiped.name) && v.Reachable
				if answered && (v.CaughtUp || r.View.Raft[m.ID] == ferryman.Voter) {
					t.Fatalf("the wiped node counts as caught up, and it heard nothing\n%s", describe(r, true))
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !answered {
			t.Fatal("the wiped node never answered the leader")
		}
		l.links.Heal(leader.cfg.Node.Address, wiped.cfg.Node.Address)
		after, _ := l.until("whole again", 5*time.Minute, settled(3))
		if l.id(after, wiped.name) == l.id(before, wiped.name) {
			t.Errorf("%s is still node %s", wiped.name, l.id(before, wiped.name))
		}
		if _, ok := after.State.Members[l.id(before, wiped.name)]; ok {
			t.Error("the node that was lost is still a member")
		}
	})
}

// The first host comes back with an empty disk while nobody can be reached: it
// waits, and makes no second cluster.
func TestAWipedFirstHostMakesNoSecondCluster(t *testing.T) {
	inLab(t, 7, three, func(t *testing.T, l *lab) {
		l.form()
		first := l.hosts["n1"]
		first.crash()
		first.wipe()
		l.links.Isolate(first.cfg.Node.Address)
		first.start()
		// Isolate knows only nodes that are on the network.
		time.Sleep(time.Millisecond)
		l.links.Isolate(first.cfg.Node.Address)
		time.Sleep(5 * time.Minute)
		b, ok := first.backend()
		if !ok {
			t.Fatal("the first host does not serve")
		}
		if _, err := b.Report(context.Background()); !errors.Is(err, ferryman.ErrNotLeader) {
			t.Errorf("report of the wiped first host: %v, want that it does not lead", err)
		}
		if s, _ := b.Status(); s.Applied != 0 {
			t.Errorf("it has applied %d entries of a cluster of its own", s.Applied)
		}
	})
}

// The leader dies while a step runs. The next one waits for the same attempt.
func TestAStepRunsOnceAlthoughTheLeaderChanges(t *testing.T) {
	inLab(t, 8, four, func(t *testing.T, l *lab) {
		l.hosts["n4"].db.Takes(func(op ferryman.Op) time.Duration {
			if op == ferryman.OpClone {
				return 30 * time.Second
			}
			return 0
		})
		l.hosts["n1"].found()
		for _, name := range three {
			l.hosts[name].start()
		}
		l.doc.set(document(3, 1, ""))
		before, leader := l.until("formed", 5*time.Minute, settled(3))
		l.doc.set(document(4, 2, ""))
		l.hosts["n4"].start()
		clone := func(r ferryman.Report) (ferryman.Step, bool) {
			i := slices.IndexFunc(r.State.Ledger, func(st ferryman.Step) bool {
				return st.Op == ferryman.OpClone && r.State.Members[st.Node].Name == "n4"
			})
			if i < 0 {
				return ferryman.Step{}, false
			}
			return r.State.Ledger[i], true
		}
		r, _ := l.until("the clone runs", time.Minute, func(r ferryman.Report) bool {
			st, ok := clone(r)
			return ok && slices.Contains(r.View.Nodes[st.Node].Status.Running, st.ID)
		})
		begun, _ := clone(r)
		leader.crash()
		l.until("another leader", time.Minute, func(r ferryman.Report) bool { return r.View.Term > before.View.Term })
		leader.start()
		after, _ := l.until("whole again", 5*time.Minute, settled(4))
		ended, _ := clone(after)
		if ended.ID != begun.ID || !ended.Outcome.Done() {
			t.Errorf("the clone that began as step %d ended as %+v", begun.ID, ended)
		}
		if got := l.hosts["n4"].db.Calls(ferryman.OpClone); got != 1 {
			t.Errorf("the clone ran %d times, want once", got)
		}
	})
}

// SIGTERM is a stop: the node stays a member, is away on purpose, and hands
// leadership over first.
func TestAStopIsAnnounced(t *testing.T) {
	inLab(t, 9, three, func(t *testing.T, l *lab) {
		before, leader := l.form()
		began := time.Now()
		if err := leader.stop(); err != nil {
			t.Errorf("stop: %v, want nil", err)
		}
		r, next := l.until("another leader", time.Minute, func(r ferryman.Report) bool { return r.View.Term > before.View.Term })
		m, _ := member(r, leader.name)
		if m.Want != ferryman.WantMaintenance || m.Maintenance.Until.Sub(began) < 14*time.Minute {
			t.Errorf("the node is wanted %s (%+v), want maintenance for 15 minutes", m.Want, m.Maintenance)
		}
		if n := l.others(next); len(n) != 2 || next == leader {
			t.Errorf("%s leads", next.name)
		}
		leader.start()
		l.until("whole again, and maintenance over", 5*time.Minute, func(r ferryman.Report) bool {
			m, _ := member(r, leader.name)
			return settled(3)(r) && m.Want == ferryman.WantActive
		})
	})
}

func TestLeaveOnTerminateIsForGood(t *testing.T) {
	inLab(t, 10, four, func(t *testing.T, l *lab) {
		for _, h := range l.hosts {
			h.cfg.LeaveOnTerminate = true
		}
		r, leader := l.form()
		leaving := l.others(leader)[0]
		if l.id(r, leaving.name) == r.State.Primary.Node {
			leaving = l.others(leader)[1]
		}
		err := leaving.stop()
		l.doc.set(document(3, 2, "")) // not before: the leader would pick a node by itself
		if !errors.Is(err, agent.ErrDeparted) {
			after, _, ok := l.report()
			t.Fatalf("stop of %s: %v, want that it departed\n%s", leaving.name, err, describe(after, ok))
		}
		l.until("three nodes", 5*time.Minute, settled(3))
		leaving.start()
		<-leaving.running.done
		if err := leaving.running.err; !errors.Is(err, agent.ErrDeparted) {
			t.Errorf("started again: %v, want that it departed", err)
		}
		for _, h := range l.hosts {
			h.cfg.LeaveOnTerminate = false
		}
	})
}

// A node is taken out of the cluster while it is silent. When it comes back on
// its old disk it hears that it left, stops its database, and ends.
func TestANodeThatLeftWhileItWasAwayEnds(t *testing.T) {
	inLab(t, 18, four, func(t *testing.T, l *lab) {
		r, leader := l.form()
		lost := l.others(leader)[0]
		if l.id(r, lost.name) == r.State.Primary.Node {
			lost = l.others(leader)[1]
		}
		lost.crash()
		backend, ok := leader.backend()
		if !ok {
			t.Fatal("the leader does not serve")
		}
		l.doc.set(document(3, 2, ""))
		if err := backend.Request(t.Context(), ferryman.Request{Kind: ferryman.RequestLeave, Node: lost.name, By: "a person"}); err != nil {
			t.Fatal(err)
		}
		l.until("three nodes", 5*time.Minute, settled(3))
		l.links.Rejoin(lost.cfg.Node.Address)
		lost.start()
		<-lost.running.done
		if err := lost.running.err; !errors.Is(err, agent.ErrDeparted) {
			t.Errorf("it ended with %v, want that it departed", err)
		}
		if in, err := lost.db.Status(t.Context()); err != nil || in.Running {
			t.Errorf("its database runs on (%v, %v)", in.Running, err)
		}
		l.until("three nodes", time.Minute, settled(3))
	})
}

// The leader, which is beside the primary as well, leaves: both go elsewhere
// first.
func TestTheLeaderLeaves(t *testing.T) {
	inLab(t, 16, four, func(t *testing.T, l *lab) {
		before, leader := l.form()
		if l.id(before, leader.name) != before.State.Primary.Node {
			t.Fatalf("%s leads and is not beside the primary\n%s", leader.name, describe(before, true))
		}
		if err := l.db.Write(leader.cfg.Database.Address, "kept"); err != nil {
			t.Fatal(err)
		}
		leader.cfg.LeaveOnTerminate = true
		if err := leader.stop(); err != nil { // it takes the new setting at its next start
			t.Fatal(err)
		}
		leader.start()
		l.until("whole again", 5*time.Minute, settled(4))
		err := leader.stop()
		l.doc.set(document(3, 2, ""))
		after, _ := l.until("three nodes", 5*time.Minute, settled(3))
		if !errors.Is(err, agent.ErrDeparted) {
			t.Errorf("stop: %v, want that it departed\n%s", err, describe(after, true))
		}
		primary := after.State.Members[after.State.Primary.Node]
		if after.State.Primary.Epoch != 2 || primary.Name == leader.name {
			t.Errorf("primary = %+v", after.State.Primary)
		}
		if missing := l.db.Missing(primary.Services[0].Address); len(missing) > 0 {
			t.Errorf("the new primary misses %q", missing)
		}
	})
}

func TestAgentsRestartOneAfterTheOther(t *testing.T) {
	inLab(t, 11, three, func(t *testing.T, l *lab) {
		before, _ := l.form()
		l.doc.set(document(3, 2, "agent: {restartGeneration: 1}"))
		after, _ := l.until("restarted", 10*time.Minute, func(r ferryman.Report) bool {
			return settled(3)(r) && r.State.Rollout.Generation == 2
		})
		for name, h := range l.hosts {
			id := l.id(after, name)
			now, then := after.View.Nodes[id].Status, before.View.Nodes[id].Status
			if now.BootID == then.BootID || now.Agent.RestartGeneration != 1 {
				t.Errorf("%s runs boot %s of generation %d; before it was %s", name, now.BootID, now.Agent.RestartGeneration, then.BootID)
			}
			if got := h.units.Starts("db"); got != 1 {
				t.Errorf("the database of %s was started %d times, want 1", name, got)
			}
		}
		if after.State.Primary != before.State.Primary {
			t.Errorf("primary = %+v, want %+v: the restart of agents moves nothing", after.State.Primary, before.State.Primary)
		}
	})
}

func TestTheDatabaseIsUpgraded(t *testing.T) {
	inLab(t, 12, three, func(t *testing.T, l *lab) {
		l.form()
		before, _, _ := l.report()
		if err := l.db.Write(before.State.Members[before.State.Primary.Node].Services[0].Address, "before"); err != nil {
			t.Fatal(err)
		}
		l.doc.set(fmt.Sprintf(`
generation: 2
nodes: 3
database: {engine: fake, version: "2.0"}
releases:
  fake/2.0: {archive: {url: "https://example.com/fake-2.0.tar.gz", sha256: "%s", size: 1}}
rollout: {canary: 0, minHealthy: 1s}
`, strings.Repeat("2", 64)))
		after, _ := l.until("upgraded", 10*time.Minute, func(r ferryman.Report) bool {
			return settled(3)(r) && r.State.Rollout.Generation == 2
		})
		for id, v := range after.View.Nodes {
			if got := v.Status.Services[0].Instance.Version; got != "2.0" {
				t.Errorf("%s runs %s, want 2.0", after.State.Members[id].Name, got)
			}
		}
		primary := after.State.Members[after.State.Primary.Node].Services[0].Address
		if missing := l.db.Missing(primary); len(missing) > 0 {
			t.Errorf("the primary misses %q", missing)
		}
	})
}

func TestASecondAgentOnOneDataDirectoryIsRefused(t *testing.T) {
	inLab(t, 13, []string{"n1"}, func(t *testing.T, l *lab) {
		l.form()
		a, err := agent.New(l.hosts["n1"].cfg, l.hosts["n1"].deps())
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(context.Background()); !errors.Is(err, cluster.ErrInUse) {
			t.Errorf("run: %v, want %v", err, cluster.ErrInUse)
		}
	})
}

func TestANameBelongsToOneLiveNode(t *testing.T) {
	inLab(t, 14, three, func(t *testing.T, l *lab) {
		_, leader := l.form()
		b, _ := leader.backend()
		time.Sleep(10 * time.Second)
		_, err := b.Join(context.Background(), rpc.JoinRequest{ID: "other", Name: "n2", Address: "elsewhere:7440", Format: 1})
		if !errors.Is(err, ferryman.ErrConflict) || !strings.Contains(err.Error(), "alive") {
			t.Errorf("join under a name that is taken: %v", err)
		}
	})
}

func TestARefusedDocumentIsSaidOnce(t *testing.T) {
	inLab(t, 15, []string{"n1"}, func(t *testing.T, l *lab) {
		l.form()
		for range 20 {
			l.doc.set("generation: 9\nnodes: 3\nsurprise: true\n")
			time.Sleep(time.Second)
		}
		l.doc.set(document(1, 1, "agent: {restartGeneration: 7}")) // the same generation, other content
		r, _ := l.until("the second refusal", time.Minute, func(r ferryman.Report) bool {
			return r.State.Refused != nil && strings.Contains(r.State.Refused.Reason, "raise the generation")
		})
		refusals := 0
		for _, e := range r.State.Events {
			if strings.Contains(e.Text, "a document was refused") {
				refusals++
			}
		}
		if refusals != 2 {
			t.Errorf("%d refusals are recorded, want 2\n%s", refusals, describe(r, true))
		}
		if r.State.Accepted.Document.Generation != 1 || r.State.Accepted.Document.Agent.RestartGeneration != 0 {
			t.Errorf("accepted = %+v", r.State.Accepted.Document)
		}
	})
}

func number(t *testing.T, variable string, fallback uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// Faults that end: lost messages, links cut in one direction or both, agents
// that die. Every other seed has automatic failover in force and a client that
// writes to every instance; there hosts die with all that runs on them, and
// guards. Nobody helps, and in the end all is well, and every write that was
// acknowledged is there. FERRYMAN_SEEDS=n tries n seeds, FERRYMAN_SEED=s only
// that one.
func TestAfterFaultsTheClusterConverges(t *testing.T) {
	seeds := number(t, "FERRYMAN_SEEDS", 4)
	first := number(t, "FERRYMAN_SEED", 0)
	if first > 0 {
		seeds = 1
	}
	var mu sync.Mutex
	var struck faults
	t.Cleanup(func() {
		if missed := struck.missed(seeds > 1); !t.Failed() && len(missed) > 0 {
			t.Errorf("a fault never struck: %q", missed)
		}
	})
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inLab(t, seed, five, func(t *testing.T, l *lab) {
				c := &chaos{lab: l, rng: rand.New(rand.NewPCG(seed, 1)), generation: 2}
				l.form()
				if c.automatic = seed%2 == 1; c.automatic {
					l.db.Sync(1)
					c.publish()
					l.until("automatic failover is in force", 5*time.Minute, guarded(5))
				}
				l.links.Lose(0.03)
				for range 25 {
					c.strike()
					c.pass(100)
				}
				c.struck.lost, c.struck.held = l.links.Faults()
				l.links.Lose(0)
				c.heal()
				r, _ := l.until("whole again", 30*time.Minute, c.whole())
				if c.automatic {
					l.lostNone(r)
					c.struck.failovers = int(r.State.Primary.Epoch) - 1
					c.struck.writes = l.db.Acknowledged()
				}
				t.Logf("seed %d: %+v", seed, c.struck)
				mu.Lock()
				struck.add(c.struck)
				mu.Unlock()
				for _, st := range r.State.Ledger {
					if st.Op == ferryman.OpInitialise && st.ID > 2 {
						t.Errorf("step %d initialises the database again", st.ID)
					}
				}
			})
		})
	}
}

// chaos strikes a lab with faults.
type chaos struct {
	*lab
	rng        *rand.Rand
	automatic  bool
	generation uint64
	writes     int
	struck     faults
}

// strike makes one fault, or a new document.
func (c *chaos) strike() {
	kinds := 5
	if c.automatic {
		kinds = 10
	}
	a, b := c.hosts[five[c.rng.IntN(5)]], c.hosts[five[c.rng.IntN(5)]]
	switch c.rng.IntN(kinds) {
	case 0:
		a.crash()
		c.pass(c.rng.IntN(100))
		a.start()
		c.struck.agents++
	case 1:
		c.links.Cut(a.cfg.Node.Address, b.cfg.Node.Address)
		c.struck.cuts++
	case 2:
		c.links.Isolate(a.cfg.Node.Address)
		c.struck.cuts++
	case 3:
		c.heal()
	case 4:
		c.publish()
	case 5:
		a.die()
		c.pass(c.rng.IntN(500))
		a.boots()
		c.struck.hosts++
	case 6:
		a.guard.Die()
		c.pass(c.rng.IntN(300))
		a.guard.Revive()
		c.struck.guards++
	case 7: // the primary's, with which most is at stake
		if r, _, ok := c.report(); ok && r.State.Primary.Epoch > 0 {
			a = c.primary(r)
		}
		a.die()
		c.pass(c.rng.IntN(500))
		a.boots()
		c.struck.hosts++
	default: // an instance hears only one or two others, so that some hold what others do not
		for _, name := range five {
			if o := c.hosts[name]; o != a && c.rng.IntN(3) > 0 {
				c.db.Cut(a.cfg.Database.Address, o.cfg.Database.Address, true)
			}
		}
		c.struck.replication++
	}
}

// publish sets the next document.
func (c *chaos) publish() {
	more := fmt.Sprintf("  restartGeneration: %d", c.generation)
	if c.automatic {
		more += fmt.Sprintf("\n  failover: {mode: automatic, leaseTTL: %ds}", 2+c.rng.IntN(8))
	}
	c.doc.set(document(5, c.generation, more))
	c.generation++
}

// pass lets time go by, about 30 ms a turn, in which a client writes to every
// instance that takes it.
func (c *chaos) pass(turns int) {
	for range turns {
		c.holds()
		if c.automatic {
			c.writes++
			for _, name := range five {
				_ = c.db.Write(c.hosts[name].cfg.Database.Address, fmt.Sprint(name, " ", c.writes))
			}
		}
		time.Sleep(time.Duration(c.rng.IntN(60)) * time.Millisecond)
	}
}

// heal ends what cuts began.
func (c *chaos) heal() {
	for _, h := range c.hosts {
		c.links.Rejoin(h.cfg.Node.Address)
		for _, o := range c.hosts {
			c.db.Cut(h.cfg.Database.Address, o.cfg.Database.Address, false)
		}
	}
}

func (c *chaos) whole() func(ferryman.Report) bool {
	if c.automatic {
		return guarded(5)
	}
	return settled(5)
}

// faults are how often each struck, and what they came to.
type faults struct {
	lost, held, cuts, agents, hosts, guards, replication, failovers, writes int
}

func (f *faults) add(o faults) {
	f.lost += o.lost
	f.held += o.held
	f.cuts += o.cuts
	f.agents += o.agents
	f.hosts += o.hosts
	f.guards += o.guards
	f.replication += o.replication
	f.failovers += o.failovers
	f.writes += o.writes
}

// missed are those that never struck; some strike only where failover is automatic.
func (f *faults) missed(automatic bool) (names []string) {
	counts := map[string]int{"messages lost": f.lost, "messages held by cuts": f.held, "agents that died": f.agents}
	if automatic {
		maps.Copy(counts, map[string]int{"hosts that died": f.hosts, "guards that died": f.guards, "replication that was cut": f.replication, "failovers": f.failovers, "writes": f.writes})
	}
	for name, n := range counts {
		if n == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
