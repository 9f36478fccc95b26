package cluster_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/cluster"
)

func TestReplicates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		m, l := g.leader()
		if s := m.node.Status(); l.Term() != s.Term || l.Term() == 0 {
			t.Errorf("term of the leadership is %d, of the node %d", l.Term(), s.Term)
		}
		if other, ok := m.node.Leader(); !ok || other != l {
			t.Errorf("Node.Leader is %v, %v; want the leader of the function", other, ok)
		}
		index, result, err := l.Propose(t.Context(), []byte("a"))
		if err != nil || result != 1 {
			t.Fatalf("propose: result %v, error %v", result, err)
		}
		for _, c := range g.members {
			if err := c.node.WaitApplied(t.Context(), index); err != nil {
				t.Fatal(err)
			}
			if !c.machine.has("a") {
				t.Errorf("%s says that it applied %d and has not", c.id, index)
			}
			s := c.node.Status()
			if s.LeaderID != m.id || s.LeaderAddress != m.address || s.Applied < index {
				t.Errorf("status of %s: %+v", c.id, s)
			}
			if age := time.Since(s.LastContact); age > g.cfg.Heartbeat {
				t.Errorf("%s heard its leader %v ago", c.id, age)
			}
			if _, ok := c.node.Leader(); ok != (c == m) {
				t.Errorf("%s: Node.Leader says %v", c.id, ok)
			}
		}
	})
}

// A barrier is seen to be applied by every node, which raft's own is not.
func TestBarrierReachesEveryNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		_, l := g.leader()
		index, err := l.Barrier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range g.members {
			if err := c.node.WaitApplied(t.Context(), index); err != nil {
				t.Errorf("%s: %v", c.id, err)
			}
			if got := c.machine.len(); got != 0 {
				t.Errorf("%s: %d barriers reached the machine", c.id, got)
			}
		}
	})
}

func TestProposalsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1)
		_, l := g.leader()
		for size, want := range map[int]error{0: cluster.ErrTooLarge, 1: nil, cluster.MaxEntry: nil, cluster.MaxEntry + 1: cluster.ErrTooLarge} {
			if _, _, err := l.Propose(t.Context(), make([]byte, size)); !errors.Is(err, want) {
				t.Errorf("propose %d bytes: %v, want %v", size, err, want)
			}
		}
	})
}

func TestCutOffLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		old, l := g.leader()
		ctx := old.leads.Load().ctx
		g.propose(l, "before")
		g.network.Isolate(old.address)

		// What the cut-off leader is asked for is not carried out, and it
		// says that it cannot know.
		_, _, err := l.Propose(t.Context(), []byte("alone"))
		if !errors.Is(err, cluster.ErrUnknownOutcome) || errors.Is(err, ferryman.ErrNotLeader) {
			t.Errorf("propose while cut off: %v, want %v", err, cluster.ErrUnknownOutcome)
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, ferryman.ErrNotLeader) {
			t.Errorf("the context ended because of %v", cause)
		}
		next, nl := g.leader(old)
		if nl.Term() <= l.Term() {
			t.Errorf("term %d after term %d", nl.Term(), l.Term())
		}
		if !next.machine.has("before") {
			t.Errorf("%s leads without what was committed", next.id)
		}
		index := g.propose(nl, "after")

		for what, err := range map[string]error{
			"propose":      func() error { _, _, err := l.Propose(t.Context(), []byte("late")); return err }(),
			"barrier":      func() error { _, err := l.Barrier(t.Context()); return err }(),
			"add nonvoter": func() error { _, err := l.AddNonvoter(t.Context(), "n9", "n9:1"); return err }(),
			"demote":       func() error { _, err := l.DemoteVoter(t.Context(), next.id); return err }(),
			"transfer":     l.Transfer(t.Context(), next.id),
			"configuration": func() error {
				_, err := l.Configuration()
				return err
			}(),
		} {
			if !errors.Is(err, ferryman.ErrNotLeader) {
				t.Errorf("%s after leadership was lost: %v, want %v", what, err, ferryman.ErrNotLeader)
			}
		}

		time.Sleep(time.Minute) // in which it would campaign, without pre-votes
		g.network.Rejoin(old.address)
		if err := old.node.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		if old.machine.has("alone") || old.machine.has("late") {
			t.Errorf("%s kept what no majority ever had", old.id)
		}
		if term := old.node.Status().Term; term != nl.Term() {
			t.Errorf("the return of a cut-off node raised the term from %d to %d", nl.Term(), term)
		}
	})
}

// What a leader decided must not slip in when it leads again later.
func TestOldLeadershipIsOverAlsoWhenTheNodeLeadsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		m, first := g.leader()
		for _, to := range []*member{g.others(m)[0], m} {
			_, l := g.leader()
			if err := l.Transfer(t.Context(), to.id); err != nil {
				t.Fatal(err)
			}
			g.until("leads", func() bool { c, _ := g.leader(); return c == to })
		}
		if _, _, err := first.Propose(t.Context(), []byte("stale")); !errors.Is(err, ferryman.ErrNotLeader) {
			t.Errorf("propose in an earlier leadership of the same node: %v", err)
		}
	})
}

// A one-way cut: the leader hears its followers, they do not hear it.
func TestOneWayCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		old, _ := g.leader()
		for _, o := range g.others(old) {
			g.network.Cut(old.address, o.address)
		}
		_, l := g.leader(old)
		g.propose(l, "x")
		if _, cut := g.network.Faults(); cut == 0 {
			t.Error("the cut never struck")
		}
	})
}

func TestLossyNetworkStillCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 5, 5)
		g.network.Lose(0.1)
		done := 0
		g.until("twenty commits over a lossy network", func() bool {
			_, l := g.leader()
			if _, _, err := l.Propose(t.Context(), []byte("x")); err == nil {
				done++
			}
			return done >= 20
		})
		g.network.Lose(0)
		_, l := g.leader()
		index, err := l.Barrier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := -1
		for _, c := range g.members {
			if err := c.node.WaitApplied(t.Context(), index); err != nil {
				t.Fatal(err)
			}
			if want < 0 {
				want = c.machine.len()
			}
			if got := c.machine.len(); got != want || got < done {
				t.Errorf("%s has %d items, the first node %d, acknowledged are %d", c.id, got, want, done)
			}
		}
		if lost, _ := g.network.Faults(); lost == 0 {
			t.Error("no message was lost")
		}
	})
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 4, 3)
		m, l := g.leader()
		if _, err := l.AddNonvoter(t.Context(), "n4", "n4:7400"); err != nil {
			t.Fatal(err)
		}
		for _, refused := range []string{"n4", "n9", ""} {
			if err := l.Transfer(t.Context(), refused); !errors.Is(err, ferryman.ErrConflict) {
				t.Errorf("transfer to %q: %v, want %v", refused, err, ferryman.ErrConflict)
			}
		}
		if err := l.Transfer(t.Context(), m.id); err != nil {
			t.Errorf("transfer to the leader itself: %v", err)
		}
		if c, _ := g.leader(); c != m {
			t.Fatalf("%s leads after refused transfers, want %s", c.id, m.id)
		}

		// The leadership's own context, as a function that leads has it: its
		// end is the success.
		ctx := m.leads.Load().ctx
		i := slices.IndexFunc(g.members, func(c *member) bool { return c != m && c.id != "n4" })
		to := g.members[i]
		if err := l.Transfer(ctx, to.id); err != nil {
			t.Fatal(err)
		}
		if s := m.node.Status(); s.LeaderID != to.id {
			t.Errorf("transfer to %s returned nil; %s sees %q lead", to.id, m.id, s.LeaderID)
		}
	})
}

func TestTransferToAnUnreachableVoterFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		m, l := g.leader()
		away := g.others(m)[0]
		g.network.Isolate(away.address)
		if err := l.Transfer(t.Context(), away.id); err == nil {
			t.Errorf("transfer to %s, which is cut off, returned nil", away.id)
		}
		g.leader(away)
	})
}

func TestTransferEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		m, l := g.leader()
		g.network.Isolate(g.others(m)[0].address)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := l.Transfer(ctx, g.others(m)[0].id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestMembership(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 4, 3)
		m, l := g.leader()
		ctx := t.Context()
		voter := g.others(m)[0]
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ferryman.ErrConflict) {
				t.Errorf("%s: %v, want %v", what, err, ferryman.ErrConflict)
			}
		}
		_, err := l.AddVoter(ctx, "n4")
		refused("a vote for a node that is not in the configuration", err)
		_, err = l.AddNonvoter(ctx, "n5", voter.address)
		refused("an address in use", err)
		if err == nil || !strings.Contains(err.Error(), voter.id) {
			t.Errorf("the error does not name %s, whose address it is: %v", voter.id, err)
		}
		_, err = l.AddNonvoter(ctx, voter.id, voter.address)
		refused("adding a voter without a vote", err)
		_, err = l.DemoteVoter(ctx, m.id)
		refused("demoting the leader", err)
		_, err = l.Remove(ctx, m.id)
		refused("removing the leader", err)
		_, err = l.DemoteVoter(ctx, "n9")
		refused("demoting a stranger", err)

		// Grow, give a vote, demote, remove: each twice, since each is
		// idempotent.
		steps := []struct {
			name string
			do   func() (uint64, error)
			want map[string]cluster.Suffrage
		}{
			{"add", func() (uint64, error) { return l.AddNonvoter(ctx, "n4", "n4:7400") },
				map[string]cluster.Suffrage{"n1": cluster.Voter, "n2": cluster.Voter, "n3": cluster.Voter, "n4": cluster.Nonvoter}},
			{"vote", func() (uint64, error) { return l.AddVoter(ctx, "n4") },
				map[string]cluster.Suffrage{"n1": cluster.Voter, "n2": cluster.Voter, "n3": cluster.Voter, "n4": cluster.Voter}},
			{"demote", func() (uint64, error) { return l.DemoteVoter(ctx, "n4") },
				map[string]cluster.Suffrage{"n1": cluster.Voter, "n2": cluster.Voter, "n3": cluster.Voter, "n4": cluster.Nonvoter}},
			{"remove", func() (uint64, error) { return l.Remove(ctx, "n4") },
				map[string]cluster.Suffrage{"n1": cluster.Voter, "n2": cluster.Voter, "n3": cluster.Voter}},
		}
		for _, step := range steps {
			index, err := step.do()
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if got := suffrages(t, l); !maps.Equal(got, step.want) {
				t.Fatalf("%s: configuration %v, want %v", step.name, got, step.want)
			}
			if step.name != "remove" {
				if err := g.members[3].node.WaitApplied(ctx, index); err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
				for _, s := range g.members[3].node.Configuration() {
					if s.Suffrage != step.want[s.ID] {
						t.Errorf("%s: n4 itself has %v", step.name, s)
					}
				}
			}
			again, err := step.do()
			if err != nil || again != index {
				t.Errorf("%s again: index %d, error %v; want %d and nil", step.name, again, err, index)
			}
		}
		if c, now := g.leader(); c != m || now.Term() != l.Term() {
			t.Errorf("the changes cost the leader its place: %s in term %d, then %s in term %d", m.id, l.Term(), c.id, now.Term())
		}
	})
}

// A demoted node does not campaign when it is cut off, and leaves the term
// alone when it returns.
func TestDemotedNodeDoesNotCampaign(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		m, l := g.leader()
		away := g.others(m)[0]
		index, err := l.DemoteVoter(t.Context(), away.id)
		if err != nil {
			t.Fatal(err)
		}
		if err := away.node.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		g.network.Isolate(away.address)
		time.Sleep(time.Minute)
		if s := away.node.Status(); s.State != "Follower" || s.Term != l.Term() {
			t.Errorf("cut off, the demoted node is %s in term %d; the leader's is %d", s.State, s.Term, l.Term())
		}
		g.network.Rejoin(away.address)
		if err := away.node.WaitApplied(t.Context(), g.propose(l, "x")); err != nil {
			t.Fatal(err)
		}
	})
}

// A change is judged by the configuration that it changes: of two at once one
// waits for the other and sees its result.
func TestChangesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1)
		_, l := g.leader()
		errs := make(chan error, 2)
		for _, id := range []string{"n5", "n6"} {
			go func() {
				_, err := l.AddNonvoter(t.Context(), id, "same:1")
				errs <- err
			}()
		}
		a, b := <-errs, <-errs
		if (a == nil) == (b == nil) {
			t.Errorf("two nodes with one address: %v and %v, want one refused", a, b)
		}
	})
}

func TestRestartAndSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		g.cfg.SnapshotThreshold, g.cfg.SnapshotInterval = 20, 100*time.Millisecond
		for _, m := range g.members { // with the new settings
			g.halt(m)
			g.start(m)
		}
		m, l := g.leader()
		away := g.others(m)[0]
		g.halt(away)
		for range 100 {
			g.propose(l, "x")
		}
		g.until("a snapshot", func() bool {
			first, err := m.stores.Logs.FirstIndex()
			return err == nil && first > 20
		})
		// The one that was away gets the snapshot; the leader starts from its
		// own. Both then know the configuration, with its index.
		g.start(away)
		index, err := l.Barrier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := away.node.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		if got := away.machine.len(); got != 100 {
			t.Errorf("after a snapshot %d items, want 100", got)
		}
		g.halt(m)
		g.start(m)
		if got := m.node.Status().Applied; got == 0 {
			t.Error("a node that starts from a snapshot says that it applied nothing")
		}
		_, l = g.leader()
		if err := l.Transfer(t.Context(), away.id); err != nil {
			t.Fatal(err)
		}
		c, l := g.leader()
		if c != away {
			t.Fatalf("%s leads, want %s", c.id, away.id)
		}
		if _, err := l.DemoteVoter(t.Context(), g.others(away)[0].id); err != nil {
			t.Errorf("a change by a leader that knows the configuration from a snapshot: %v", err)
		}
	})
}

// A node that lost its disk has applied all of nothing, and does not found a
// cluster of its own.
func TestWipedNodeJoinsWhatIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		first := g.members[0]
		_, l := g.leader()
		g.propose(l, "a")
		g.halt(first)
		g.until("a leader without the first", func() bool { _, l = g.leader(first); return true })

		first.stores = cluster.InMemory()
		g.network.Isolate(first.address)
		g.start(first)
		g.network.Isolate(first.address)
		time.Sleep(time.Minute)
		s := first.node.Status()
		if has, err := first.node.HasState(); err != nil || has {
			t.Errorf("a wiped node: HasState %v, %v", has, err)
		}
		if s.State != "Follower" || s.Term != 0 || s.Applied != s.LastIndex || len(first.node.Configuration()) != 0 {
			t.Errorf("a wiped node that nobody reached: %+v", s)
		}
		g.network.Rejoin(first.address)
		if err := first.node.WaitApplied(t.Context(), g.propose(l, "b")); err != nil {
			t.Fatal(err)
		}
		if !first.machine.has("a") {
			t.Error("the wiped node lacks what was committed before")
		}
	})
}

// Under a leader that always has something to append, a node that was away may
// always hold an entry of which it was not told that it is committed. That it
// holds what it had when it was opened is seen soon, and for good.
func TestANodeThatIsBackUnderABusyLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		at, l := g.leader()
		g.propose(l, "a")
		away := g.members[0]
		if at == away {
			away = g.members[1]
		}
		g.halt(away)
		g.propose(l, "b")
		g.start(away)
		had := away.node.Status()
		if had.Opened == 0 || had.Opened > had.LastIndex {
			t.Fatalf("it was opened with entries up to %d of %d", had.Opened, had.LastIndex)
		}
		g.propose(l, "c")
		if err := away.node.WaitApplied(t.Context(), had.Opened); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := l.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			s := away.node.Status()
			if s.Applied < s.Opened || s.Opened > had.Opened {
				t.Fatalf("it applied %d, and was opened with entries up to %d", s.Applied, s.Opened)
			}
		}
	})
}

func TestBootstrapTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1)
		g.leader()
		m := g.members[0]
		self := cluster.Server{ID: m.id, Address: m.address}
		if err := m.node.Bootstrap(self); !errors.Is(err, cluster.ErrHasState) {
			t.Errorf("bootstrap of a leader: %v, want %v", err, cluster.ErrHasState)
		}
		g.halt(m)
		g.start(m)
		if has, err := m.node.HasState(); err != nil || !has {
			t.Errorf("HasState after a restart: %v, %v", has, err)
		}
		if err := m.node.Bootstrap(self); !errors.Is(err, cluster.ErrHasState) {
			t.Errorf("bootstrap after a restart: %v, want %v", err, cluster.ErrHasState)
		}
		if err := m.node.Bootstrap(cluster.Server{ID: "n9", Address: "n9:1"}); err == nil {
			t.Error("bootstrap of a cluster without this node: nil")
		}
	})
}

// An entry that the machine cannot carry out ends the node with a reason.
func TestFatalEntryStopsTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1)
		m, l := g.leader()
		g.propose(l, "known")
		synctest.Wait() // the entry that spreads the commit is applied as well
		at := m.node.Status().Applied
		if _, _, err := l.Propose(t.Context(), []byte("unknown")); err == nil {
			t.Error("an unknown command was proposed without an error")
		}
		<-m.node.Done()
		var want fatal
		if err := m.node.Err(); !errors.As(err, &want) {
			t.Errorf("Err is %v, want %v", err, want)
		}
		if err := m.node.WaitApplied(t.Context(), at+1); !errors.As(err, &want) {
			t.Errorf("WaitApplied: %v, want %v", err, want)
		}
		if got := m.node.Status().Applied; got != at {
			t.Errorf("applied %d, want %d, the last known one", got, at)
		}
		<-m.leads.Load().ctx.Done()
	})
}

func TestLead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1)
		m, _ := g.leader()
		none := func(context.Context, cluster.Leader) error { return nil }
		if err := m.node.Lead(t.Context(), none); err == nil {
			t.Error("a second Lead at once: nil")
		}
		m.stop()
		if err := <-m.ended; err != nil {
			t.Errorf("Lead when its context ends: %v", err)
		}
		m.ended <- nil // for the clean-up

		want := errors.New("no way")
		err := m.node.Lead(t.Context(), func(context.Context, cluster.Leader) error { return want })
		if !errors.Is(err, want) {
			t.Errorf("Lead of a function that fails: %v, want %v", err, want)
		}
		runs := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := m.node.Lead(ctx, func(context.Context, cluster.Leader) error { runs++; return nil }); err != nil || runs != 1 {
			t.Errorf("Lead of a function that returns at once: %d runs, %v; want 1 and nil", runs, err)
		}
		if err := m.node.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.node.Lead(t.Context(), none); !errors.Is(err, cluster.ErrClosed) {
			t.Errorf("Lead on a closed node: %v, want %v", err, cluster.ErrClosed)
		}
	})
}

// A function that is slow to notice is waited for, and not run again meanwhile.
func TestLeadWaitsForASlowFunction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		m, _ := g.leader()
		m.stop() // Lead with a function of our own instead
		<-m.ended
		ctx, cancel := context.WithCancel(t.Context())
		var running, runs atomic.Int32
		go func() {
			m.ended <- m.node.Lead(ctx, func(ctx context.Context, _ cluster.Leader) error {
				runs.Add(1)
				if running.Add(1) != 1 {
					t.Error("the function runs twice at once")
				}
				<-ctx.Done()
				time.Sleep(time.Minute)
				running.Add(-1)
				return nil
			})
		}()
		m.stop = cancel
		g.until("the function runs", func() bool { return runs.Load() == 1 })
		l, _ := m.node.Leader()
		to := g.others(m)[0]
		if err := l.Transfer(t.Context(), to.id); err != nil {
			t.Fatal(err)
		}
		_, l = g.leader(m)
		if err := l.Transfer(t.Context(), m.id); err != nil {
			t.Fatal(err)
		}
		g.until("the function runs again", func() bool { return runs.Load() == 2 })
	})
}

func TestChangesWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		m, _ := g.leader()
		time.Sleep(time.Minute)
		select {
		case <-m.node.Changes():
		default:
		}
		g.network.Isolate(g.others(m)[0].address)
		<-m.node.Changes() // or the test deadlocks, and says so
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := cluster.NewConfig()
	good.ID, good.Address = "n1", "n1:1"
	tests := map[string]func(*cluster.Config){
		"no id":                 func(c *cluster.Config) { c.ID = "" },
		"no address":            func(c *cluster.Config) { c.Address = "" },
		"lease over heartbeat":  func(c *cluster.Config) { c.Lease = c.Heartbeat + 1 },
		"heartbeat > election":  func(c *cluster.Config) { c.Heartbeat = c.Election + 1 },
		"no lease":              func(c *cluster.Config) { c.Lease = 0 },
		"no snapshots":          func(c *cluster.Config) { c.SnapshotThreshold = 0 },
		"transport's address":   func(c *cluster.Config) { c.Address = "n2:1" },
		"snapshots all the day": func(c *cluster.Config) { c.SnapshotInterval = 0 },
	}
	for name, spoil := range tests {
		cfg := good
		spoil(&cfg)
		if _, err := cluster.Open(cfg, &list{}, cluster.Deps{Transport: cluster.NewNetwork(nil).Transport("n1:1"), Stores: cluster.InMemory()}); err == nil {
			t.Errorf("%s: nil", name)
		}
	}
}

func TestTimingsFollowTheLease(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, time.Hour} {
		c := cluster.NewConfig()
		c.ID, c.Address = "n1", "n1:1"
		c = c.ForLease(ttl)
		if err := c.Validate(); err != nil {
			t.Errorf("for %v: %v", ttl, err)
		}
		if worst := 3*c.Heartbeat + 2*c.Election; worst > ttl/2 {
			t.Errorf("for %v an election takes up to %v", ttl, worst)
		}
	}
}
