// Package fake is a service manager in memory, for tests in virtual time: its programs are values, not processes.
package fake

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"ferryman/systemd"
)

// Program is what a unit runs.
type Program interface {
	// Start is told the unit's command. An error ends the program at once, as if it had exited with a code. Later it ends by itself by calling exit,
	// not from within Start.
	Start(exec []string, exit func(code int)) error
	// Stop ends it; after its return it does nothing more.
	Stop()
}

// kill ends a program as a crash does: one that has a method Kill loses what only a clean stop keeps.
func (n *unit) kill() {
	if p, ok := n.program.(interface{ Kill() }); ok {
		p.Kill()
		return
	}
	n.program.Stop()
}

func (n *unit) stop() { n.program.Stop() }

// Units are a host's service manager; they outlive its agent. They are systemd.Units.
type Units struct {
	// StopTakes is how long a graceful stop lasts; read at each Stop.
	StopTakes time.Duration

	changed chan struct{}

	mu    sync.Mutex
	units map[string]*unit
}

type unit struct {
	program Program
	status  systemd.UnitStatus
	starts  int
}

var _ systemd.Units = (*Units)(nil)

// New returns a manager that knows no unit.
func New() *Units {
	return &Units{changed: make(chan struct{}, 1), units: map[string]*unit{}}
}

// Install makes name a unit that runs p.
func (u *Units) Install(name string, p Program) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.units[name] = &unit{program: p, status: systemd.UnitStatus{State: systemd.StateStopped, ExitCode: -1}}
}

// Starts is how often the unit was started.
func (u *Units) Starts(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := u.units[name]; n != nil {
		return n.starts
	}
	return 0
}

// Exit ends the unit's program from outside, as a crash does.
func (u *Units) Exit(name string, code int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := u.units[name]; n != nil && n.status.Active {
		n.kill()
		u.ended(n, systemd.StateFailed, "exit-code", code)
	}
}

// Crash ends every program, as the host's end does.
func (u *Units) Crash() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, n := range u.units {
		if n.status.Active {
			n.kill()
			u.ended(n, systemd.StateStopped, systemd.ResultUnknown, -1)
		}
	}
}

// Changed is described at systemd.Units.
func (u *Units) Changed() <-chan struct{} { return u.changed }

// Start is described at systemd.Units.
func (u *Units) Start(ctx context.Context, want systemd.Unit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.units[want.Name]
	if n == nil {
		return fmt.Errorf("start unit %s: %w", want.Name, systemd.ErrNoUnit)
	}
	if n.status.Active {
		return nil
	}
	n.starts++
	start := n.starts
	n.status = systemd.UnitStatus{State: systemd.StateRunning, Active: true, PID: 1000 + start, StartID: fmt.Sprintf("%s#%d", want.Name, start),
		Since: time.Now(), ExitCode: -1}
	exit := func(code int) {
		u.mu.Lock()
		defer u.mu.Unlock()
		if n.status.Active && n.starts == start {
			n.kill()
			u.ended(n, systemd.StateFailed, "exit-code", code)
		}
	}
	if err := n.program.Start(want.Exec, exit); err != nil {
		u.ended(n, systemd.StateFailed, "exit-code", 1)
		return nil // that it ended is for Status to see, as with Type=exec
	}
	u.wake()
	return nil
}

// Stop is described at systemd.Units.
func (u *Units) Stop(ctx context.Context, name string) error {
	if u.StopTakes > 0 && u.active(name) {
		t := time.NewTimer(u.StopTakes)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("stop unit %s: %w: %w", name, systemd.ErrNotEmpty, context.Cause(ctx))
		}
	}
	return u.end(ctx, name, (*unit).stop, "success", 0)
}

// Kill is described at systemd.Units.
func (u *Units) Kill(ctx context.Context, name string) error {
	return u.end(ctx, name, (*unit).kill, "signal", 128+int(syscall.SIGKILL))
}

func (u *Units) end(ctx context.Context, name string, how func(*unit), result string, code int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.units[name]
	if n == nil || !n.status.Active {
		return nil
	}
	how(n)
	u.ended(n, systemd.StateStopped, result, code)
	return nil
}

// Restart is described at systemd.Units.
func (u *Units) Restart(ctx context.Context, want systemd.Unit) error {
	if err := u.Stop(ctx, want.Name); err != nil {
		return err
	}
	return u.Start(ctx, want)
}

// Status is described at systemd.Units.
func (u *Units) Status(_ context.Context, name string) (systemd.UnitStatus, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.units[name]
	if n == nil {
		return systemd.UnitStatus{}, fmt.Errorf("unit %s: %w", name, systemd.ErrNoUnit)
	}
	return n.status, nil
}

// Target is described at systemd.Units. It names nothing that exists: who wants to kill a fake's program calls Kill.
func (u *Units) Target(_ context.Context, name string) (systemd.Target, error) {
	return systemd.Target{Record: "/nonexistent/" + name + ".json"}, nil
}

func (u *Units) active(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.units[name]
	return n != nil && n.status.Active
}

// ended notes the end of a unit. u.mu is held.
func (u *Units) ended(n *unit, state systemd.State, result string, code int) {
	n.status.State, n.status.Active, n.status.PID = state, false, 0
	n.status.Since, n.status.Result, n.status.ExitCode = time.Now(), result, code
	u.wake()
}

func (u *Units) wake() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}
