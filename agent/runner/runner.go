package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"ferryman"
)

// Runner carries steps out on this node and observes its services.
type Runner struct {
	deps    Deps
	log     *slog.Logger
	journal *journal
	// generation is the agent's restart generation when this process began.
	generation uint64
	watchers   []*watcher

	mu      sync.Mutex
	ctx     context.Context // parent of all attempts; nil while Loop does not run
	running map[uint64]*attempt
	work    sync.WaitGroup // attempts and watchers; only added to under mu while ctx is set

	board board
}

// attempt is a step that is being carried out.
type attempt struct {
	step   ferryman.Step
	began  time.Time
	cancel context.CancelCauseFunc
}

var (
	errShutdown = errors.New("the agent is being stopped")
	errDeadline = errors.New("its deadline passed")
)

// New reads the journal. It starts nothing: Loop does.
func New(deps Deps) (*Runner, error) {
	r := &Runner{deps: deps.withDefaults(), log: deps.Log, running: map[uint64]*attempt{}}
	var slots []string
	for _, s := range deps.Services {
		if slices.Contains(slots, s.Slot) {
			return nil, fmt.Errorf("two services have the slot %q: %w", s.Slot, ferryman.ErrInvalid)
		}
		slots = append(slots, s.Slot)
		r.watchers = append(r.watchers, newWatcher(r, s))
	}
	var err error
	if r.journal, err = openJournal(deps.Journal, slots); err != nil {
		return nil, err
	}
	if err := r.inherit(); err != nil {
		return nil, err
	}
	r.journal.read(func(b *book) { r.generation = b.Agent })
	r.board.init()
	r.observeStore()
	r.publish()
	return r, nil
}

// RestartGeneration is the one that this process of the agent came up under.
func (r *Runner) RestartGeneration() uint64 { return r.generation }

// Departed says why this node left its cluster for good; "" while it did not. An agent that departed must not come up again on this data directory.
func (r *Runner) Departed() string {
	var why string
	r.journal.read(func(b *book) { why = b.Departed })
	return why
}

// Loop observes until ctx ends, and owns every goroutine of the Runner: it returns when the last is gone. Attempts that are cut off by it keep their
// record as begun; the agent that comes next settles them.
func (r *Runner) Loop(ctx context.Context) error {
	// A context of its own, so that an attempt sees errShutdown as the cause and not just that something ended.
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r.mu.Lock()
	r.ctx = inner
	for _, w := range r.watchers {
		r.work.Go(func() { w.run(inner) })
	}
	if len(r.watchers) > 0 {
		r.work.Go(func() { r.relay(inner) })
	}
	r.mu.Unlock()

	<-ctx.Done()
	r.mu.Lock()
	r.ctx = nil
	cancel(errShutdown)
	r.mu.Unlock()
	r.work.Wait()
	return nil
}

// relay wakes every watcher when the state of any unit may have changed.
func (r *Runner) relay(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-r.deps.Units.Changed():
			if !ok {
				return
			}
			for _, w := range r.watchers {
				w.nudge()
			}
		}
	}
}

// Run starts the attempt, or returns its record; it never waits for it. The caller made sure that the step is committed, for this node, and still
// open. An error means that nothing was begun and nothing is known: ask again. ErrConflict: another step still runs on the same service.
func (r *Runner) Run(s ferryman.Step) (ferryman.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.running[s.ID]; ok {
		return ferryman.Outcome{Step: s.ID, Status: ferryman.StatusRunning, Began: a.began}, nil
	}
	before, known := r.journal.entry(s.ID)
	if known && before.ended() {
		return before.Outcome, nil
	}
	if s.Op.ByLeader() {
		return ferryman.Outcome{}, fmt.Errorf("step %d: %s is the leader's to carry out: %w", s.ID, s.Op, ferryman.ErrInvalid)
	}
	if r.ctx == nil {
		return ferryman.Outcome{}, fmt.Errorf("step %d (%s): %w: this agent is starting or stopping", s.ID, s.Op, ferryman.ErrUnavailable)
	}
	if why := r.Departed(); why != "" {
		return ferryman.Outcome{}, fmt.Errorf("step %d (%s): %w: this node departed (%s)", s.ID, s.Op, ferryman.ErrConflict, why)
	}
	if other := r.occupies(s); other != nil {
		return ferryman.Outcome{}, fmt.Errorf("step %d (%s): %w: step %d (%s) still runs on %s", s.ID, s.Op, ferryman.ErrConflict,
			other.step.ID, other.step.Op, s.Service)
	}

	// What was begun before this process is of unknown fate, and so is a first step after the journal was lost.
	var doubt error
	if known {
		doubt = errInterrupted
	}
	began := time.Now()
	e := entry{Step: s.ID, Op: s.Op, Service: s.Service, Attempt: s.Attempt,
		Outcome: ferryman.Outcome{Step: s.ID, Status: ferryman.StatusRunning, Began: began}}
	r.journal.read(func(b *book) {
		if !known && slices.Contains(b.Doubt, s.Service) {
			doubt = errLost
		}
	})
	if !known {
		if err := r.journal.change(func(b *book) { b.begin(e) }); err != nil {
			r.publish()
			return ferryman.Outcome{}, fmt.Errorf("step %d (%s) was not begun: %w", s.ID, s.Op, err)
		}
	} else {
		began = before.Outcome.Began
	}
	r.start(s, began, doubt)
	return ferryman.Outcome{Step: s.ID, Status: ferryman.StatusRunning, Began: began}, nil
}

// occupies returns the attempt that runs on the service of s. Steps on the node itself run beside everything.
func (r *Runner) occupies(s ferryman.Step) *attempt {
	if s.Service == "" {
		return nil
	}
	for _, a := range r.running {
		if a.step.Service == s.Service {
			return a
		}
	}
	return nil
}

// start runs the attempt in a goroutine that Loop waits for. r.mu is held.
func (r *Runner) start(s ferryman.Step, began time.Time, doubt error) {
	limit := s.Deadline
	if limit <= 0 {
		limit = ferryman.DefaultStepDeadline
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	r.running[s.ID] = &attempt{step: s, began: began, cancel: cancel}
	r.publish()
	if w := r.watcher(s.Service); w != nil {
		w.nudge()
	}
	r.work.Go(func() {
		defer cancel(nil)
		ctx, stop := context.WithTimeoutCause(ctx, limit.Std(), errDeadline)
		defer stop()
		r.carry(ctx, s, began, doubt)
	})
}

// Cancel ends an attempt whose step the leader closed; one that does not run is no error. Without it a step that was given up would hold its service
// until its own deadline.
func (r *Runner) Cancel(step uint64, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.running[step]; ok {
		a.cancel(fmt.Errorf("the leader closed the step: %s", why))
	}
}

// carry is one attempt, from its record as begun to its record as ended.
func (r *Runner) carry(ctx context.Context, s ferryman.Step, began time.Time, doubt error) {
	log := r.log.With("step", s.ID, "op", s.Op, "service", s.Service, "attempt", s.Attempt)
	log.Info("step begins", "again", doubt != nil)
	e, err := r.attempt(ctx, s, doubt)
	if err != nil && errors.Is(context.Cause(ctx), errShutdown) {
		log.Info("step is cut off by the agent's end; its record stays begun", "err", err)
		r.drop(s.ID)
		return
	}
	// The leader must not learn of an end before it can see the effect: it would plan on what was true before.
	r.lookAfter(s)

	out := ferryman.Outcome{Step: s.ID, Status: ferryman.StatusDone, Result: e.result, Began: began, Ended: time.Now()}
	if err == nil && e.note != nil {
		// What the step changed counts only when it is durable, together with its end.
		err = r.journal.change(func(b *book) { e.note(b); b.end(out) })
	} else if err == nil {
		r.keep(out)
	}
	if err != nil {
		out.Status, out.Reason = ferryman.StatusFailed, reason(ctx, err)
		r.keep(out)
	}
	log.Info("step ended", "status", out.Status, "reason", out.Reason, "took", out.Ended.Sub(out.Began))
	r.drop(s.ID)
	if err == nil && e.then != nil {
		e.then()
	}
}

// keep records an end. When the disk fails, the end is told all the same: after a crash the step is asked for again and settled by looking.
func (r *Runner) keep(out ferryman.Outcome) {
	if err := r.journal.note(func(b *book) { b.end(out) }); err != nil {
		r.log.Error("the end of a step could not be recorded", "step", out.Step, "err", err)
	}
}

func (r *Runner) drop(step uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, step)
	r.publish()
}

// maxReason caps what is committed in Raft of a step's failure.
const maxReason = 3 << 10

func reason(ctx context.Context, err error) string {
	text := err.Error()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		// The engine only saw its context end; a person wants to know why it did.
		text = fmt.Sprintf("%v: %s", cause, text)
	}
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason/3], "") + " … " + ferryman.LastLines(text, maxReason/2)
	}
	return text
}

func (r *Runner) watcher(slot string) *watcher {
	for _, w := range r.watchers {
		if w.svc.Slot == slot {
			return w
		}
	}
	return nil
}

// lookAfter observes what the step may have changed: its service, all of them when the node departs, and which releases there are.
func (r *Runner) lookAfter(s ferryman.Step) {
	for _, w := range r.watchers {
		if w.svc.Slot == s.Service || s.Op == ferryman.OpDepart {
			_, _ = w.look(r.loopContext())
		}
	}
	// A start installs what is selected, where the host has another.
	if s.Op == ferryman.OpStage || s.Op == ferryman.OpSwitch || s.Op == ferryman.OpStart {
		r.observeStore()
	}
}

// loopContext is for observations that an attempt's own deadline must not cut off.
func (r *Runner) loopContext() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		return ended
	}
	return r.ctx
}

// runs returns the ids of the attempts that run. r.mu is held.
func (r *Runner) runs() []uint64 { return slices.Sorted(maps.Keys(r.running)) }

// busy tells whether a step runs on the service.
func (r *Runner) busy(slot string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.running {
		if a.step.Service == slot {
			return true
		}
	}
	return false
}
