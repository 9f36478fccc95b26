package guard

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// active is the guard that holds the lock: it answers, and it fences.
type active struct {
	*guard
	alarm *alarm
	pair  *pair
	tasks sync.WaitGroup
	leave context.CancelFunc // ends this guard

	changing sync.Mutex // held by whoever changes the file, which a disk may make wait
	quitting bool       // nobody would go on with another change; under changing

	mu    sync.Mutex // never held while something is waited for
	state state
}

// lead is the active guard's life.
func (g *guard) lead(ctx context.Context) error {
	if err := g.sign(); err != nil {
		g.Log.Error("guard: cannot note who holds the lock: a standby could not end this process if it hung", "error", err)
	}
	s, err := load(g.Spec.Dir, g.boot)
	if err != nil {
		g.Log.Error("guard: what an earlier guard held is void", "error", err)
	}
	alarm, err := newAlarm()
	if err != nil {
		return err
	}
	defer alarm.close()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	a := &active{guard: g, alarm: alarm, leave: leave, state: s}
	a.Log.Info("guard: active", "version", a.Version, "epoch", s.Epoch, "armed", s.Armed)
	var failed error
	a.tasks.Go(func() {
		if failed = a.enforce(ctx); failed != nil {
			leave()
		}
	})
	if !a.Alone {
		a.pair = newPair(g, a.tasks.Go)
		a.tasks.Go(func() { a.pair.keep(ctx) })
	}
	if a.Spec.Listen != "" {
		a.tasks.Go(func() { a.serveHealth(ctx) })
	}
	if a.Watchdog != nil {
		a.tasks.Go(func() {
			if err := a.Watchdog(ctx); err != nil {
				a.Log.Error("guard: the service manager is not told any more that the guard lives", "error", err)
			}
		})
	}
	a.tasks.Go(func() { a.serve(ctx) })
	<-ctx.Done()
	a.tasks.Wait()
	return failed
}

// enforce fences at each deadline.
func (a *active) enforce(ctx context.Context) error {
	for {
		s, err := a.expect()
		if err != nil {
			return err
		}
		if s.due(Boottime()) {
			if err := a.fence(ctx, s.Epoch); err != nil {
				return nil
			}
			a.finish()
			continue
		}
		if err := a.alarm.wait(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("guard: wait for the deadline: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// expect sets the alarm to the deadline.
func (a *active) expect() (state, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.state.Armed {
		return a.state, nil
	}
	return a.state, a.alarm.set(a.state.Deadline)
}

// now is the state at this moment.
func (a *active) now() state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// change makes a change by the rules and keeps it in the file before it counts. A deadline that comes while the disk makes it wait is not held up: then the
// change is refused.
func (a *active) change(rule func(s state, now time.Duration) (state, error)) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.quitting {
		return errLeaving
	}
	before := a.now()
	next, err := rule(before, Boottime())
	if err != nil || next == before {
		return err
	}
	if err := next.save(a.Spec.Dir); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != before || before.due(Boottime()) {
		return fmt.Errorf("%w: the deadline of epoch %d came first", ErrFencing, before.Epoch)
	}
	a.state = next
	if next.Armed {
		return a.alarm.set(next.Deadline)
	}
	return nil
}

// finish notes that the fence is complete. That the file cannot be written is no reason to go on killing: whoever takes over fences once more.
func (a *active) finish() {
	a.changing.Lock()
	defer a.changing.Unlock()
	done := a.now().done()
	if err := done.save(a.Spec.Dir); err != nil {
		a.Log.Error("guard: that the database is fenced was not kept", "epoch", done.Epoch, "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = done
}

// quit ends the standby. Afterwards nothing is changed any more, and this process can end too.
func (a *active) quit(ctx context.Context) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if s := a.now(); s.Armed {
		return fmt.Errorf("quit the guard: %w at epoch %d: disarm it first", ErrArmed, s.Epoch)
	}
	a.quitting = true
	if a.pair == nil {
		return nil
	}
	return a.pair.leaveTo(ctx, nil)
}

// status is what every reply says.
func (a *active) status() Status {
	s := a.now()
	st := Status{PID: a.pid, Version: a.Version, Spec: a.Spec.digest(), Epoch: s.Epoch, Armed: s.Armed, Deadline: s.Deadline, Fenced: s.Fenced}
	if a.pair != nil {
		st.Standby = a.pair.heardLately()
	}
	return st
}
