package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// readAgain is how often a standby reads the deadline that the active guard holds.
const readAgain = 100 * time.Millisecond

// stand returns nil when this process got the lock, because the one that held it ended; errRetired when it is not needed.
func (g *guard) stand(ctx context.Context) error {
	locked := make(chan error, 1)
	go func() { locked <- g.wait() }() // ends with the process; see Run
	ctx, cancel := context.WithCancelCause(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel(nil)
	tasks.Go(func() {
		if err := g.shadow(ctx); err != nil {
			cancel(err)
		}
	})
	tasks.Go(func() {
		if err := g.watch(ctx); err != nil {
			cancel(err)
		}
	})
	select {
	case err := <-locked:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wait waits for the lock in the kernel, which gives it when its holder ends, whatever ended it.
func (g *guard) wait() error {
	for {
		err := unix.Flock(int(g.lock.Fd()), unix.LOCK_EX)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("guard: wait for the lock of %s: %w", g.Spec.Dir, err)
		}
	}
}

// shadow kills at the deadline beside the active guard, which may hang just then. Everything else of the fence is the active one's, or is this one's when
// it has the lock.
func (g *guard) shadow(ctx context.Context) error {
	a, err := newAlarm()
	if err != nil {
		return err
	}
	defer a.close()
	for {
		// What cannot be read is no deadline: see load.
		s, _ := load(g.Spec.Dir, g.boot)
		now := Boottime()
		next := now + readAgain
		switch {
		case s.due(now):
			g.kill(ctx)
		case s.Armed:
			next = min(next, s.Deadline)
		}
		if err := a.set(next); err != nil {
			return err
		}
		if err := a.wait(ctx); err != nil {
			return nil
		}
	}
}

// watch asks the active guard several times a second whether it is there, and kills it when it is silent for too long. The lock comes free with it.
func (g *guard) watch(ctx context.Context) error {
	pause := time.NewTicker(g.Hang / 4)
	defer pause.Stop()
	var l *line
	defer func() {
		if l != nil {
			l.close()
		}
	}()
	missed, since := 0, time.Time{}
	for {
		began := time.Now()
		rep, err := g.beat(ctx, &l)
		switch {
		case err == nil && rep.Retire, err == nil && !g.Standby:
			return fmt.Errorf("%w: process %d is the active one", errRetired, rep.PID)
		case err == nil:
			missed = 0
		case ctx.Err() != nil:
			return nil
		default:
			if missed == 0 {
				since = began
			}
			// Twice, and for a time: one that was itself stopped for long has not asked meanwhile.
			if missed++; missed >= 2 && time.Since(since) >= g.Hang {
				g.end(err)
				missed = 0
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// beat asks once, over the connection that there is or a new one.
func (g *guard) beat(ctx context.Context, l **line) (rep reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.Hang/2)
	defer cancel()
	if *l == nil {
		if *l, err = dial(ctx, g.Spec.socket()); err != nil {
			*l = nil
			return rep, err
		}
	}
	req := request{Op: opCheck}
	if g.Standby {
		req.Standby = g.pid
	}
	if rep, err = (*l).ask(ctx, req); err != nil {
		(*l).close()
		*l = nil
	}
	return rep, err
}

// end kills the guard that holds the lock.
func (g *guard) end(why error) {
	p, err := g.holder()
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		g.Log.Error("guard: the active one is silent, and cannot be killed; trying again", "silence", why, "error", err)
		return
	}
	g.Log.Warn("guard: the active one was silent; killed it", "holder", p.PID, "silence", why)
}
