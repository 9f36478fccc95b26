package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// Leader is what leadership lends for as long as it lasts.
type Leader interface {
	Term() uint64
	// Barrier returns an index at which everything committed before is applied
	// here, after a majority confirmed this leader.
	Barrier(ctx context.Context) (uint64, error)
	state.Proposer
	// Group is the Raft group's committed configuration.
	Group() (map[ferryman.NodeID]ferryman.Suffrage, error)

	AddNonvoter(ctx context.Context, id, address string) (index uint64, err error)
	AddVoter(ctx context.Context, id string) (index uint64, err error)
	DemoteVoter(ctx context.Context, id string) (index uint64, err error)
	Remove(ctx context.Context, id string) (index uint64, err error)
	Transfer(ctx context.Context, id string) error
}

// Peers calls the agents of the cluster, this node's own among them.
type Peers interface {
	// Status returns once the node's sequence differs from since, or after wait.
	Status(ctx context.Context, m ferryman.Member, since uint64, wait time.Duration) (ferryman.NodeStatus, error)
	// RunStep has the node carry out the step that its own state holds at
	// index, for the leader of term. It returns the attempt's record, which may
	// still be running.
	RunStep(ctx context.Context, m ferryman.Member, step, index, term uint64) (ferryman.Outcome, error)
}

// Source is where documents come from; Fetch blocks until there is another.
type Source interface {
	Fetch(ctx context.Context, etag string) (raw []byte, next string, err error)
}

// answering is a Source that says when it last answered, also that there is no
// other document.
type answering interface{ Answered() time.Time }

// Hosts is the api-server's side of hosts and reports.
type Hosts interface {
	// Current returns the names of the hosts that the api-server has, and
	// whether it has the three conventional endpoints only.
	Current(ctx context.Context) (names []string, minimal bool, err error)
	Ask(ctx context.Context, a Ask) error
	// Report fails with ferryman.ErrUnsupported where nobody takes reports.
	Report(ctx context.Context, r ferryman.Report) error
}

// Ask is a host request as it goes to the api-server.
type Ask struct {
	Total        int
	Remove, Lost []string
	Term         uint64
	Generation   uint64
}

// Store is the replicated state on this node.
type Store interface {
	State() (ferryman.State, uint64)
	Changed() <-chan struct{}
}

// Lease is the granting end of the primary's lease.
type Lease interface {
	// Lead begins a leadership, after its first barrier.
	Lead()
	// View is what the plan is told of the lease in s, which was read before.
	View(s ferryman.State) ferryman.LeaseView
}

// Config is what a Loop needs, on the node that may come to lead.
type Config struct {
	Self   ferryman.NodeID
	Limits ferryman.Limits
	Store  Store
	Peers  Peers
	// Source and Parse bring documents; without a Source the accepted one stays.
	Source Source
	// Parse reads a document. With an error it may still say the digest.
	Parse func(raw []byte) (ferryman.Accepted, error)
	// Renews tells whether a document that says what the one in force says is to
	// replace it, for its signatures. Nil means never.
	Renews func(old, now ferryman.Accepted) bool
	// Allows says why this node does not carry out a step that is the leader's.
	// Nil allows all.
	Allows func(ferryman.State, ferryman.Step) error
	// Hosts is nil when no api-server is configured.
	Hosts Hosts
	// Lease is nil where no primary has one.
	Lease Lease
	// Wake carries hints that something may have changed; they are no proof.
	Wake <-chan struct{}
	Log  *slog.Logger
}

// The loop's own times. None of them decides anything: they only say how soon
// something is looked at again.
const (
	tick        = time.Second     // a look without any cause
	pollWait    = time.Second     // how long a node may hold a status call
	pollSlack   = 2 * time.Second // beyond that the call has failed
	pollPause   = time.Millisecond
	retryFirst  = 100 * time.Millisecond
	retryLast   = 2 * time.Second
	stepTimeout = 10 * time.Second
	observeFor  = 3 * time.Second // how long a new leader looks around at most before it plans
	hostsEvery  = 2 * time.Second
	reportEvery = 2 * time.Second
	reportIdle  = 30 * time.Second
	refuseEvery = 10 * time.Second
	// mostCommands a second are far more than any rollout needs. A plan that
	// does not come to rest must not fill the log.
	mostCommands = 200
)

// Loop leads a cluster while its node does.
type Loop struct {
	cfg    Config
	report atomic.Pointer[ferryman.Report]
}

// New returns a loop that does nothing until it leads.
func New(cfg Config) *Loop { return &Loop{cfg: cfg} }

// Report is what this leader knows; false while this node does not lead, or
// has not yet looked around once.
func (l *Loop) Report() (ferryman.Report, bool) {
	if r := l.report.Load(); r != nil {
		return *r, true
	}
	return ferryman.Report{}, false
}

// Lead runs until ctx ends, which it must when leadership does. The state must
// be up to date: a barrier of this term was passed. When Lead returns, all that
// it started has ended.
func (l *Loop) Lead(ctx context.Context, leader Leader) {
	barrier, ok := l.barrier(ctx, leader)
	if !ok {
		return
	}
	if l.cfg.Lease != nil {
		l.cfg.Lease.Lead()
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &term{
		Config:  l.cfg,
		log:     l.cfg.Log.With("term", leader.Term()),
		leader:  leader,
		barrier: barrier,
		ctx:     ctx,
		began:   time.Now(),
		view: ferryman.View{
			Self:   l.cfg.Self,
			Term:   leader.Term(),
			Since:  time.Now(),
			Nodes:  map[ferryman.NodeID]ferryman.NodeView{},
			Limits: l.cfg.Limits,
			Hosts:  ferryman.HostsView{None: l.cfg.Hosts == nil},
		},
		watched:   map[ferryman.NodeID]*watch{},
		attempts:  map[uint64]*attempt{},
		operating: map[uint64]context.CancelFunc{},
		results:   map[uint64]ferryman.Outcome{},
		inbox:     make(chan func(*term)),
		reports:   make(chan struct{}, 1),
		loop:      l,
	}
	defer l.report.Store(nil)
	defer t.owned.Wait()
	defer cancel()
	t.start()
	t.run()
}

// barrier tries until leadership ends: that a barrier fails has passing causes.
func (l *Loop) barrier(ctx context.Context, leader Leader) (uint64, bool) {
	for ctx.Err() == nil {
		index, err := leader.Barrier(ctx)
		if err == nil {
			return index, true
		}
		select {
		case <-time.After(retryFirst):
		case <-ctx.Done():
		}
	}
	return 0, false
}

// term is one leadership. Its fields belong to the goroutine of run; others
// reach it through the inbox.
type term struct {
	Config
	log     *slog.Logger
	leader  Leader
	loop    *Loop
	barrier uint64
	ctx     context.Context
	owned   sync.WaitGroup
	began   time.Time

	view      ferryman.View
	watched   map[ferryman.NodeID]*watch
	attempts  map[uint64]*attempt           // of steps that nodes carry out
	operating map[uint64]context.CancelFunc // steps that this leader carries out now
	results   map[uint64]ferryman.Outcome   // outcomes that are not committed yet

	pending   *document // fetched and not judged yet
	sourceErr string
	hostsErr  string
	refusedAt time.Time

	second   time.Time // since when commands are counted
	commands int

	decision ferryman.Decision
	changed  bool // something happened that the plan should hear of
	again    time.Time
	inbox    chan func(*term)
	reports  chan struct{}
}

func (t *term) start() {
	if t.Source != nil {
		t.owned.Go(t.fetch)
	}
	if t.Hosts != nil {
		t.owned.Go(t.pollHosts)
		t.owned.Go(t.push)
	}
}

// tell hands something to the loop's goroutine; false when leadership ended.
func (t *term) tell(f func(*term)) bool {
	select {
	case t.inbox <- f:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// run is the loop: a turn whenever something changed, and one a second.
func (t *term) run() {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for t.ctx.Err() == nil {
		moved := t.Store.Changed() // before the turn reads the state
		t.again = time.Now().Add(tick)
		t.changed = false
		t.turn()
		timer.Reset(time.Until(t.again))
		for !t.changed {
			select {
			case <-t.ctx.Done():
				return
			case f := <-t.inbox:
				f(t)
			case <-moved:
				t.changed = true
			case <-t.Wake:
				t.changed = true
			case <-timer.C:
				t.changed = true
			}
		}
		t.drain()
	}
}

// drain takes what else is there, so that one turn serves it all.
func (t *term) drain() {
	for {
		select {
		case f := <-t.inbox:
			f(t)
		default:
			return
		}
	}
}

// by has the next turn come no later than at.
func (t *term) by(at time.Time) {
	if at.Before(t.again) {
		t.again = at
	}
}

func (t *term) turn() {
	now := time.Now()
	s, index := t.Store.State()
	if group, err := t.leader.Group(); err == nil {
		t.view.Raft = group
	}
	t.watch(s)
	t.forget(s)
	if s.Cluster == "" {
		return // this node is about to found it
	}
	if t.judge(s, now) {
		return // the state has changed, or will be tried again
	}
	if !t.lookedAround(s, now) {
		t.decision = ferryman.Decision{Waits: []ferryman.Wait{{Rule: ruleLeader, Code: "observing", Reason: "the leader is new and looks at every node first"}}}
		t.by(t.began.Add(lookFor(s)))
		t.publish(s, now)
		return
	}
	t.lease(s)
	cmd, d := Batch(s, t.view, t.outcomes(s), now)
	d.Waits = append(d.Waits, t.troubles(s)...)
	switch {
	case cmd.Empty():
	case t.restless(now):
		t.by(t.second.Add(time.Second))
	default:
		if err := t.propose(cmd); err != nil {
			t.log.Warn("a decision was not committed; it is made anew", "error", err)
			t.by(now.Add(retryFirst))
		}
		s, index = t.Store.State()
		t.forget(s)
	}
	t.decision = d
	t.leaseEnds(s, now)
	t.operate(s)
	t.dispatch(s, max(index, t.barrier), now)
	t.publish(s, now)
}

// lease takes the lease into the view. A view of before a failover was committed
// says nothing of the grants that may come until then; Closed tells it apart.
func (t *term) lease(s ferryman.State) {
	if t.Lease != nil {
		t.view.Lease = t.Lease.View(s)
	}
}

// leaseEnds has the loop turn when the plan may wait for the end of a lease.
func (t *term) leaseEnds(s ferryman.State, now time.Time) {
	l := s.Primary.Lease
	if t.Lease == nil || l == nil {
		return
	}
	v := t.Lease.View(s)
	for _, rest := range []time.Duration{l.Length.Std() - v.Quiet.Std(), l.Over() - v.Quiet.Std(), l.Over() - v.Steady.Std()} {
		if rest > 0 {
			t.by(now.Add(rest))
		}
	}
}

// restless counts a command and tells whether there were too many.
func (t *term) restless(now time.Time) bool {
	if now.Sub(t.second) >= time.Second {
		t.second, t.commands = now, 0
	}
	t.commands++
	if t.commands == mostCommands+1 {
		t.log.Error("the plan does not come to rest; it is slowed down", "commands", mostCommands, "within", time.Second)
	}
	return t.commands > mostCommands
}

// ruleLeader stands in waits that come from the loop and not from the plan.
const ruleLeader ferryman.Rule = "leader"

// troubles are what the leader cannot reach outside of the cluster, and steps
// that are refused where they are to be carried out.
func (t *term) troubles(s ferryman.State) []ferryman.Wait {
	var waits []ferryman.Wait
	if t.sourceErr != "" {
		waits = append(waits, ferryman.Wait{Rule: ruleLeader, Code: "source", Reason: "the desired state cannot be fetched, so the accepted one stays in force: " + t.sourceErr})
	}
	if t.hostsErr != "" {
		waits = append(waits, ferryman.Wait{Rule: ruleLeader, Code: "hosts", Reason: "the api-server does not say which hosts there are: " + t.hostsErr})
	}
	for _, st := range s.Ledger {
		if !st.Open() {
			continue
		}
		why := t.forbids(s, st)
		if a := t.attempts[st.ID]; a != nil && a.refusals >= toldAfter {
			why = a.why
		}
		if why != "" {
			waits = append(waits, ferryman.Wait{Rule: st.Rule, Code: "step-refused", Node: st.Node,
				Reason: fmt.Sprintf("%s on %s is not carried out: %s", st.Op, s.Members[st.Node].Name, why)})
		}
	}
	return waits
}

// toldAfter is how often in a row a node refuses a step before that is told: it
// may only be about to learn of a new term.
const toldAfter = 3

// forbids says why this node does not carry out a step of its own as the leader.
func (t *term) forbids(s ferryman.State, st ferryman.Step) string {
	if t.Allows == nil || !st.Op.ByLeader() {
		return ""
	}
	if err := t.Allows(s, st); err != nil {
		return err.Error()
	}
	return ""
}

// propose commits one command.
func (t *term) propose(cmd state.Command) error {
	s, _ := t.Store.State()
	return state.Propose(t.ctx, s, t.leader, cmd)
}
