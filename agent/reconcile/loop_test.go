package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/reconcile"
	"ferryman/agent/state"
)

// group is a Raft group of one process: what is proposed is applied.
type group struct {
	store *state.Store

	mu      sync.Mutex
	index   uint64
	servers map[ferryman.NodeID]ferryman.Suffrage
	// fail is asked before each change of the group.
	fail func(op ferryman.Op) error
	at   map[ferryman.Op]int // how often each was asked for
	busy int
	most int // changes at the same time
}

func newGroup(t *testing.T, commands ...state.Command) *group {
	g := &group{
		store:   state.NewStore(slog.New(slog.DiscardHandler), func(err error) { t.Error(err) }),
		servers: map[ferryman.NodeID]ferryman.Suffrage{"n1": ferryman.Voter},
		at:      map[ferryman.Op]int{},
	}
	for _, c := range commands {
		g.commit(t, c)
	}
	return g
}

// commit applies what somebody else had committed.
func (g *group) commit(t *testing.T, c state.Command) {
	t.Helper()
	c.At = time.Now()
	s, _ := g.store.State()
	data, err := state.Encode(s, c)
	if err != nil {
		t.Fatal(err)
	}
	_, result, _ := g.Propose(context.Background(), data)
	if err := result.(state.Applied).Err; err != nil {
		t.Fatal(err)
	}
}

func (g *group) Term() uint64 { return 7 }

func (g *group) Barrier(context.Context) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.index++
	return g.index, nil
}

func (g *group) Propose(_ context.Context, data []byte) (uint64, any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.index++
	return g.index, g.store.Apply(g.index, data), nil
}

func (g *group) Group() (map[ferryman.NodeID]ferryman.Suffrage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.servers), nil
}

func (g *group) change(op ferryman.Op, id string, to ferryman.Suffrage) (uint64, error) {
	g.mu.Lock()
	g.busy++
	g.most = max(g.most, g.busy)
	g.at[op]++
	fail := g.fail
	g.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
	if fail != nil {
		if err := fail(op); err != nil {
			return 0, err
		}
	}
	g.index++
	g.servers[ferryman.NodeID(id)] = to
	if to == "" {
		delete(g.servers, ferryman.NodeID(id))
	}
	return g.index, nil
}

func (g *group) AddNonvoter(_ context.Context, id, _ string) (uint64, error) {
	return g.change(ferryman.OpAdmit, id, ferryman.Nonvoter)
}
func (g *group) AddVoter(_ context.Context, id string) (uint64, error) {
	return g.change(ferryman.OpVote, id, ferryman.Voter)
}
func (g *group) DemoteVoter(_ context.Context, id string) (uint64, error) {
	return g.change(ferryman.OpDemote, id, ferryman.Nonvoter)
}
func (g *group) Remove(_ context.Context, id string) (uint64, error) {
	return g.change(ferryman.OpRemove, id, "")
}
func (g *group) Transfer(context.Context, string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at[ferryman.OpTransfer]++
	return errors.New("not here")
}

func (g *group) count(op ferryman.Op) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at[op]
}

// nodes are the agents, as far as the loop sees them.
type nodes struct {
	g *group

	mu    sync.Mutex
	calls map[uint64]int // RunStep, by step
	// run answers RunStep.
	run func(step uint64) (ferryman.Outcome, error)
	// deaf answers, and hears nothing of the log.
	deaf ferryman.NodeID
	// cutOff is who never answers, nor refuses to.
	cutOff ferryman.NodeID
}

func (n *nodes) Status(ctx context.Context, m ferryman.Member, since uint64, wait time.Duration) (ferryman.NodeStatus, error) {
	if m.ID == n.cutOff {
		<-ctx.Done()
		return ferryman.NodeStatus{}, ctx.Err()
	}
	n.g.mu.Lock()
	s := ferryman.NodeStatus{Seq: 1, ID: m.ID, Name: m.Name, BootID: "b", Applied: n.g.index, Term: n.g.Term(), Leader: "n1"}
	n.g.mu.Unlock()
	if m.ID == n.deaf {
		s.Applied = 0
	}
	if since == s.Seq {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
	return s, nil
}

func (n *nodes) RunStep(_ context.Context, _ ferryman.Member, step, index, term uint64) (ferryman.Outcome, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls[step]++
	return n.run(step)
}

// lead runs the loop until stop is called.
func lead(g *group, n *nodes, change func(*reconcile.Config)) (loop *reconcile.Loop, stop func()) {
	cfg := reconcile.Config{Self: "n1", Store: g.store, Peers: n, Log: slog.New(slog.DiscardHandler),
		Limits: ferryman.Limits{MaxVoters: 5, DeadAfter: ferryman.Duration(time.Hour), ProvisionTimeout: ferryman.Duration(time.Minute)}}
	if change != nil {
		change(&cfg)
	}
	loop = reconcile.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		loop.Lead(ctx, g)
	}()
	return loop, func() {
		cancel()
		<-done
	}
}

// frozen keeps the plan from wanting anything of its own.
func frozen() state.Command {
	return state.Command{Request: &ferryman.Request{Kind: ferryman.RequestFreeze, By: "test"}}
}

func stepOf(g *group, id uint64) ferryman.Step {
	s, _ := g.store.State()
	st, _ := s.Step(id)
	return st
}

func TestAStepIsAskedForUntilItsOutcomeComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, append(founded(), state.Command{Steps: []ferryman.Step{step("n2", ferryman.OpStart, nil)}}, frozen())...)
		n := &nodes{g: g, calls: map[uint64]int{}}
		n.run = func(id uint64) (ferryman.Outcome, error) {
			if n.calls[id] < 4 {
				return ferryman.Outcome{}, ferryman.ErrUnavailable
			}
			return done(id), nil
		}
		_, stop := lead(g, n, nil)
		defer stop()
		time.Sleep(20 * time.Second)
		if st := stepOf(g, 1); !st.Outcome.Done() || n.calls[1] != 4 {
			t.Errorf("after %d calls the step ended as %+v, want done after 4", n.calls[1], st.Outcome)
		}
	})
}

// Leadership goes to a node only that was just seen to follow the log.
func TestLeadershipGoesToNobodyWhoDoesNotHear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		deaf ferryman.NodeID
		want string
		asks bool
	}{
		{"it hears", "", "not here", true},
		{"it does not", "n2", "n2, to which leadership is to go, does not hear this leader", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				to := func(st *ferryman.Step) { st.Args.To = "n2" }
				g := newGroup(t, append(founded(), state.Command{Steps: []ferryman.Step{step("n1", ferryman.OpTransfer, to)}}, frozen())...)
				_, stop := lead(g, &nodes{g: g, calls: map[uint64]int{}, deaf: tt.deaf}, nil)
				defer stop()
				time.Sleep(20 * time.Second)
				st := stepOf(g, 1)
				if asked := g.count(ferryman.OpTransfer) > 0; asked != tt.asks || st.Open() || !strings.Contains(st.Outcome.Reason, tt.want) {
					t.Errorf("raft was asked (%v), and the step ended as %+v; want asked %v, and %q", asked, st.Outcome, tt.asks, tt.want)
				}
			})
		})
	}
}

// A new leader that cannot reach a node looks around for half a lease where the
// primary is replaced by itself, and for longer where nothing is in a hurry.
func TestANewLeaderLooksAroundForLessThanTheLease(t *testing.T) {
	t.Parallel()
	promoted := []state.Command{
		{Steps: []ferryman.Step{step("n1", ferryman.OpInitialise, nil)}},
		{Outcomes: []ferryman.Outcome{done(1)}},
		{Moves: []ferryman.Transition{{Kind: ferryman.MovePrimary, Node: "n1", Slot: "db", Epoch: 1}}},
	}
	lease := func(enforced bool) state.Command {
		l := ferryman.Duration(2 * time.Second)
		return state.Command{Moves: []ferryman.Transition{{Kind: ferryman.MoveLease, Node: "n1", Lease: &ferryman.Lease{Length: l, Longest: l, Enforced: enforced}}}}
	}
	for _, tt := range []struct {
		name     string
		commands []state.Command
		want     time.Duration
	}{
		{"manual", promoted, 3 * time.Second},
		{"not in force yet", append(slices.Clone(promoted), lease(false)), 3 * time.Second},
		{"automatic", append(slices.Clone(promoted), lease(false), lease(true)), time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, append(append(founded(), tt.commands...), frozen())...)
				loop, stop := lead(g, &nodes{g: g, calls: map[uint64]int{}, cutOff: "n3"}, nil)
				defer stop()
				began := time.Now()
				observing := func(w ferryman.Wait) bool { return w.Code == "observing" }
				for {
					r, ok := loop.Report()
					if ok && !slices.ContainsFunc(r.Decision.Waits, observing) {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				if got := time.Since(began).Round(100 * time.Millisecond); got != tt.want {
					t.Errorf("it looked around for %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestTheLeaderChangesTheGroupOneStepAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, append(founded(), state.Command{Steps: []ferryman.Step{step("n2", ferryman.OpAdmit, nil), step("n3", ferryman.OpAdmit, nil)}}, frozen())...)
		failed := false
		g.fail = func(ferryman.Op) error {
			if failed {
				return nil
			}
			failed = true
			return errors.New("raft is busy") // for a moment only
		}
		_, stop := lead(g, &nodes{g: g, calls: map[uint64]int{}}, nil)
		defer stop()
		time.Sleep(20 * time.Second)
		for id := uint64(1); id <= 2; id++ {
			if st := stepOf(g, id); !st.Outcome.Done() {
				t.Errorf("step %d: %+v, want done", id, st.Outcome)
			}
		}
		if g.most != 1 {
			t.Errorf("%d changes of the group at the same time", g.most)
		}
		if got := g.count(ferryman.OpAdmit); got != 3 {
			t.Errorf("%d changes, want 3: one was tried again", got)
		}
	})
}

// What this node does not allow as the leader, and what a node refuses, stays
// open and is told, until it is allowed.
func TestAStepThatIsRefusedIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, append(founded(), state.Command{Steps: []ferryman.Step{step("n2", ferryman.OpAdmit, nil), step("n3", ferryman.OpStart, nil)}}, frozen())...)
		var trusted atomic.Bool
		n := &nodes{g: g, calls: map[uint64]int{}}
		n.run = func(id uint64) (ferryman.Outcome, error) {
			if !trusted.Load() {
				return ferryman.Outcome{}, fmt.Errorf("step %d: %w: nobody signed it there", id, ferryman.ErrRefused)
			}
			return done(id), nil
		}
		loop, stop := lead(g, n, func(c *reconcile.Config) {
			c.Allows = func(_ ferryman.State, st ferryman.Step) error {
				if !trusted.Load() && st.Op == ferryman.OpAdmit {
					return errors.New("nobody signed it here")
				}
				return nil
			}
		})
		defer stop()
		told := func(what string) bool {
			r, _ := loop.Report()
			return slices.ContainsFunc(r.Decision.Waits, func(w ferryman.Wait) bool { return w.Code == "step-refused" && strings.Contains(w.Reason, what) })
		}
		time.Sleep(20 * time.Second)
		if g.count(ferryman.OpAdmit) != 0 || !told("admit on n2 is not carried out: nobody signed it here") {
			t.Errorf("the leader's own step was carried out %d times, or its refusal is not told", g.count(ferryman.OpAdmit))
		}
		if !stepOf(g, 2).Open() || !told("start on n3 is not carried out: step 2: nobody signed it there") {
			t.Errorf("the node's refusal is not told; its step is %+v", stepOf(g, 2).Outcome)
		}
		trusted.Store(true)
		time.Sleep(20 * time.Second)
		if !stepOf(g, 1).Outcome.Done() || !stepOf(g, 2).Outcome.Done() || told("") {
			t.Errorf("allowed, and the steps ended as %+v and %+v", stepOf(g, 1).Outcome, stepOf(g, 2).Outcome)
		}
	})
}

// apiServer is the hosts' side.
type apiServer struct {
	mu      sync.Mutex
	asked   []reconcile.Ask
	minimal bool
	err     error
}

func (a *apiServer) Current(context.Context) ([]string, bool, error) {
	return []string{"n1:7440", "n2"}, a.minimal, nil
}
func (a *apiServer) Ask(_ context.Context, ask reconcile.Ask) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, ask)
	return a.err
}
func (a *apiServer) Report(context.Context, ferryman.Report) error { return nil }

func TestAHostRequestIsPutOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		minimal   bool
		inherited bool
		err       error
		asked     int
		done      bool
	}{
		{"answered", false, false, nil, 1, true},
		{"failed: it may have been heard all the same", false, false, errors.New("timed out"), 1, false},
		{"it makes no hosts", false, false, fmt.Errorf("%w: no provisioner", ferryman.ErrUnsupported), 1, false},
		{"of the leader before, a total counts once", false, true, nil, 1, true},
		{"of the leader before, a minimal server would count again", true, true, nil, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, founded()...)
				request := state.Command{Steps: []ferryman.Step{step("n1", ferryman.OpRequestHosts, func(st *ferryman.Step) { st.Args.Total = 5 })}}
				api := &apiServer{minimal: test.minimal, err: test.err}
				n := &nodes{g: g, calls: map[uint64]int{}}
				if test.inherited {
					g.commit(t, request)
					g.commit(t, frozen())
					time.Sleep(time.Second)
				}
				loop, stop := lead(g, n, func(c *reconcile.Config) { c.Hosts = api })
				defer stop()
				if !test.inherited {
					time.Sleep(time.Millisecond)
					g.commit(t, request)
					g.commit(t, frozen())
				}
				time.Sleep(20 * time.Second)
				s, _ := g.store.State()
				i := slices.IndexFunc(s.Ledger, func(st ferryman.Step) bool { return st.Op == ferryman.OpRequestHosts })
				st := s.Ledger[i]
				if len(api.asked) != test.asked || st.Open() || st.Outcome.Done() != test.done {
					t.Errorf("asked %d times, outcome %+v; want %d and done %v", len(api.asked), st.Outcome, test.asked, test.done)
				}
				if test.asked > 0 && (api.asked[0].Total != 5 || api.asked[0].Term != 7) {
					t.Errorf("asked %+v", api.asked[0])
				}
				if r, ok := loop.Report(); !ok || len(r.View.Hosts.Names) != 2 || r.View.Hosts.Names[0] != "n1" {
					t.Errorf("hosts in the view: %+v", r.View.Hosts)
				} else if none := errors.Is(test.err, ferryman.ErrUnsupported); r.View.Hosts.Unmade.IsZero() == none {
					t.Errorf("it makes no hosts since %v, want %v", r.View.Hosts.Unmade, none)
				}
			})
		})
	}
}

func TestAnIdleLeaderCommitsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, append(founded(), frozen())...)
		_, stop := lead(g, &nodes{g: g, calls: map[uint64]int{}}, nil)
		defer stop()
		time.Sleep(time.Minute)
		g.mu.Lock()
		before := g.index
		g.mu.Unlock()
		time.Sleep(time.Hour)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.index != before {
			t.Errorf("%d entries in an idle hour", g.index-before)
		}
	})
}

// flaky is a source that fails once, although its document stays the same.
type flaky struct {
	mu     sync.Mutex
	failed bool
}

func (f *flaky) Fetch(ctx context.Context, etag string) ([]byte, string, error) {
	if etag == "" {
		return []byte("document"), "tag", nil
	}
	f.mu.Lock()
	fail := !f.failed
	f.failed = true
	f.mu.Unlock()
	if fail {
		time.Sleep(time.Minute)
		return nil, etag, errors.New("nobody listens")
	}
	<-ctx.Done() // it has not changed
	return nil, etag, ctx.Err()
}

// A source that answers again is no trouble any more, also when it says what it
// said before.
func TestASourceThatIsBackIsNotComplainedAbout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, append(founded(), frozen())...)
		f := &flaky{}
		loop, stop := lead(g, &nodes{g: g, calls: map[uint64]int{}}, func(c *reconcile.Config) {
			c.Source = f
			c.Parse = func([]byte) (ferryman.Accepted, error) {
				return ferryman.Accepted{Document: ferryman.Document{Generation: 9}}, errors.New("it is of no interest here")
			}
		})
		defer stop()
		complains := func() bool {
			r, _ := loop.Report()
			return slices.ContainsFunc(r.Decision.Waits, func(w ferryman.Wait) bool { return w.Code == "source" })
		}
		time.Sleep(time.Minute + 50*time.Millisecond)
		if !complains() {
			t.Error("a source that fails is not told of")
		}
		if r, _ := loop.Report(); r.View.Source.Error != "nobody listens" || r.View.Source.Generation != 9 || r.View.Source.Answered.IsZero() {
			t.Errorf("got %+v, want why it fails, and the generation that it gave before", r.View.Source)
		}
		time.Sleep(10 * time.Second)
		if complains() {
			t.Error("a source that answers again is still complained about")
		}
	})
}
