// Package fake is a guard in memory, for tests in virtual time: it outlives its agent, as the real one does, and not its host.
package fake

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Guard is a lease.Guard. Clock and Kill must be set before it is used.
type Guard struct {
	// Clock is the one that deadlines are told by.
	Clock func() time.Duration
	// Kill ends the database and marks it as fenced at that epoch.
	Kill func(epoch uint64)

	mu    sync.Mutex
	dead  bool
	epoch uint64
	timer *time.Timer
	kills int
}

// ErrDead is what a guard answers that was killed and cannot be started.
var ErrDead = errors.New("the guard is dead")

// Check implements lease.Guard.
func (g *Guard) Check(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return ErrDead
	}
	return ctx.Err()
}

// Arm implements lease.Guard.
func (g *Guard) Arm(ctx context.Context, epoch uint64, deadline time.Duration) error {
	if err := g.Check(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if epoch < g.epoch {
		return errors.New("an older epoch")
	}
	g.stop()
	g.epoch = epoch
	var t *time.Timer
	t = time.AfterFunc(deadline-g.Clock(), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.timer == t {
			g.timer = nil
			g.kills++
			g.Kill(epoch)
		}
	})
	g.timer = t
	return nil
}

func (g *Guard) stop() {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

// Disarm implements lease.Guard.
func (g *Guard) Disarm(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop()
	return nil
}

// Dismiss implements lease.Guard.
func (g *Guard) Dismiss(context.Context) error { return nil }

// Quit ends it for good.
func (g *Guard) Quit(ctx context.Context) error { return g.Disarm(ctx) }

// Die ends the guard: it holds no deadline any more and cannot be started until Revive.
func (g *Guard) Die() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop()
	g.dead = true
}

// Revive lets it be started again.
func (g *Guard) Revive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dead = false
}

// Armed tells whether it holds a deadline.
func (g *Guard) Armed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.timer != nil
}

// Kills is how often a deadline passed.
func (g *Guard) Kills() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.kills
}
