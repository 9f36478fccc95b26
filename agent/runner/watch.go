package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ferryman"
	"ferryman/systemd"
)

// watcher observes one service. There is never more than one question to its database at a time, however long that takes.
type watcher struct {
	r   *Runner
	svc Service

	wake chan struct{}
	asks chan chan struct{}

	// late is a question that was not answered in time; run alone touches it.
	late chan answer

	mu       sync.Mutex
	instance ferryman.Instance
	unit     ferryman.UnitState
	problem  string
	heard    bool // the database itself was heard since this agent began
}

type answer struct {
	instance ferryman.Instance
	err      error
}

func newWatcher(r *Runner, s Service) *watcher {
	w := &watcher{
		r: r, svc: s, wake: make(chan struct{}, 1), asks: make(chan chan struct{}),
		// What was not looked at yet counts as holding a database: nothing may be made in its place.
		instance: ferryman.Instance{Initialised: true, Reason: "not observed yet"},
	}
	if s.Unfit != nil {
		w.unit.Unfit = fmt.Sprintf("unit %s was not looked at yet", s.Unit)
	}
	return w
}

// nudge asks for a look soon, without waiting for it.
func (w *watcher) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// look returns what an observation saw that began after the call.
func (w *watcher) look(ctx context.Context) (ferryman.ServiceStatus, error) {
	done := make(chan struct{})
	select {
	case w.asks <- done:
	case <-ctx.Done():
		return ferryman.ServiceStatus{}, context.Cause(ctx)
	}
	select {
	case <-done:
		return w.status(), nil
	case <-ctx.Done():
		return ferryman.ServiceStatus{}, context.Cause(ctx)
	}
}

// status is the newest observation, with what is selected and launched now.
func (w *watcher) status() ferryman.ServiceStatus {
	sel := w.r.journal.selection(w.svc.Slot)
	w.mu.Lock()
	defer w.mu.Unlock()
	return ferryman.ServiceStatus{Service: w.svc.Service, Traits: w.svc.Engine.Traits(), Instance: w.instance, Unit: w.unit,
		Selected: sel.Selected, Launched: sel.Launched}
}

func (w *watcher) run(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	defer func() {
		// The engine's contract is to return when its context ends.
		if w.late != nil {
			<-w.late
		}
	}()
	for {
		var done chan struct{}
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-w.wake:
		case done = <-w.asks:
		}
		w.observe(ctx)
		if done != nil {
			close(done)
		}
		every := w.r.deps.Poll
		if w.r.busy(w.svc.Slot) {
			every = w.r.deps.Busy
		}
		next.Reset(every)
	}
}

// observe looks once, at the unit and then at the database, and publishes what it saw.
func (w *watcher) observe(ctx context.Context) {
	unit, problem := w.observeUnit(ctx)
	instance, err := w.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	instance = w.judge(instance, err)
	w.instance, w.unit, w.problem = instance, unit, problem
	w.mu.Unlock()
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.publish()
}

// judge is what the answer means. What is on disk did not change because nobody answers: forgetting it could make an old database look like an empty
// directory. Every database that answers tells its version. w.mu is held.
func (w *watcher) judge(i ferryman.Instance, err error) ferryman.Instance {
	last := w.instance
	switch {
	case err != nil || i.Running && i.Version == "":
		last.Running, last.Healthy, last.Streaming, last.Replicas = false, false, false, nil
		last.Reason = i.Reason
		if err != nil {
			last.Reason = err.Error()
		}
		return last
	case !i.Running && i.History == "" && w.heard:
		// This engine sees nothing of a database that does not run.
		i.Initialised, i.Epoch, i.History, i.Position = last.Initialised, last.Epoch, last.History, last.Position
		i.Fenced, i.Group = last.Fenced, last.Group
	case i.Running:
		w.heard = true
	}
	return i
}

// observeUnit asks the service manager, and notes under which target a start was made that nobody noted yet. Whoever starts the unit, this runner, a
// person or systemd, starts what is selected; and a selection changes only after a look. So a new start runs what is selected now.
func (w *watcher) observeUnit(ctx context.Context) (ferryman.UnitState, string) {
	ctx, cancel := context.WithTimeout(ctx, w.r.deps.Answer)
	defer cancel()
	name := w.svc.Unit
	st, err := w.r.deps.Units.Status(ctx, name)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		unit := w.unit
		if errors.Is(err, systemd.ErrNoUnit) {
			unit.Missing = err.Error()
		}
		return unit, fmt.Sprintf("the state of unit %s is not known: %v", name, err)
	}
	unit := ferryman.UnitState{Active: st.Active, StartID: st.StartID, Since: st.Since, Result: st.Result}
	if w.svc.Unfit != nil {
		unit.Unfit = w.svc.Unfit(st)
	}
	if !st.Active || st.StartID == "" || w.r.journal.selection(w.svc.Slot).StartID == st.StartID {
		return unit, ""
	}
	// When this fails, the journal says so among the problems, and the next look tries again.
	_ = w.r.journal.change(func(b *book) {
		b.service(w.svc.Slot, func(s *selection) { s.Launched, s.StartID = s.Selected, st.StartID })
	})
	return unit, ""
}

// ask returns what the database says of itself, or why it does not within the time it has. A call that does not even end with its context is left
// behind, alone, until it does.
func (w *watcher) ask(ctx context.Context) (ferryman.Instance, error) {
	limit := w.r.deps.Answer
	silent := fmt.Errorf("does not answer within %s", limit)
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	if w.late != nil {
		select {
		case <-w.late: // of another time
			w.late = nil
		case <-timeout.C:
			return ferryman.Instance{}, silent
		case <-ctx.Done():
			return ferryman.Instance{}, context.Cause(ctx)
		}
	}
	asked, cancel := context.WithTimeoutCause(ctx, limit, silent)
	got := make(chan answer, 1)
	go func() {
		// It is waited for here or, when it is late, by the next question or by run.
		defer cancel()
		i, err := w.svc.Engine.Status(asked)
		got <- answer{i, err}
	}()
	select {
	case a := <-got:
		if a.err != nil && errors.Is(context.Cause(asked), silent) {
			a.err = silent
		}
		return a.instance, a.err
	case <-timeout.C:
	case <-ctx.Done():
	}
	w.late = got
	return ferryman.Instance{}, silent
}
