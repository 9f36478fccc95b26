package systemd

import (
	"context"
	"fmt"
	"time"
)

// unsaid is the result of a job that ended while nobody could tell us: its unit has to.
const unsaid = "unsaid"

// glance is how often a unit is asked whether it still has a job: what systemd says when that ends is lost with the connection, and when systemd is
// executed anew.
const glance = time.Second

// verb is one job as systemd is asked for it, and how a unit looks for which the job was begun, or need not be.
type verb struct {
	name string
	ask  func(m manager, ctx context.Context, unit, mode string, ch chan<- string) (int, error)
	done func(before, now UnitStatus) bool
}

var (
	starts = verb{"start", manager.StartUnitContext, func(before, now UnitStatus) bool {
		return now.State == StateRunning || now.StartID != before.StartID
	}}
	restarts = verb{"restart", manager.RestartUnitContext, func(before, now UnitStatus) bool { return now.StartID != before.StartID }}
	stops    = verb{"stop", manager.StopUnitContext, func(_, now UnitStatus) bool { return !now.Active }}
)

// do carries out one job and returns systemd's result for it: done, failed, timeout, canceled, dependency, skipped; unsaid where the unit alone tells.
// A bus that is restarted meanwhile is waited for. A job that was not begun by then is asked for again, and one that was is not: a second restart would
// be one too many.
func (b *Bus) do(ctx context.Context, v verb, what, name string, before UnitStatus) (string, error) {
	for {
		result, err := b.ask(ctx, v, name)
		if err == nil {
			return result, nil
		}
		if !away(err) {
			return "", fmt.Errorf("%s unit %s: %w", what, name, explain(err))
		}
		b.log.Warn("the bus went away during a job; what became of that is looked at when it is back", "unit", name, "job", what, "err", err)
		now, err := b.settled(ctx, name)
		if err != nil {
			return "", fmt.Errorf("%s unit %s: the system bus went away meanwhile, and what became of it is not known: %w", what, name, err)
		}
		if v.done(before, now) {
			return unsaid, nil
		}
	}
}

// ask begins the job and waits for its end.
func (b *Bus) ask(ctx context.Context, v verb, name string) (string, error) {
	var conn manager
	err := patient(ctx, func() (err error) {
		conn, err = b.connection(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	result := make(chan string, 1) // buffered: go-systemd sends under its lock, also when we are gone
	if _, err := v.ask(conn, ctx, service(name), "replace", result); err != nil {
		return "", err
	}
	look := time.NewTicker(glance)
	defer look.Stop()
	for idle := false; ; {
		select {
		case r := <-result:
			return r, nil
		case <-ctx.Done():
			return "", fmt.Errorf("no answer from systemd: %w", context.Cause(ctx))
		case <-look.C:
		}
		if idle { // and was at the last glance: its result would have come by now
			return unsaid, nil
		}
		unit, _, err := b.properties(ctx, name) // by another connection, if this one was lost
		if err != nil {
			return "", err
		}
		idle = !hasJob(unit)
	}
}

// settled waits until systemd answers again and the unit has no job, and returns how it is.
func (b *Bus) settled(ctx context.Context, name string) (UnitStatus, error) {
	for {
		var unit, svc map[string]any
		err := patient(ctx, func() (err error) {
			unit, svc, err = b.properties(ctx, name)
			return err
		})
		if err != nil {
			return UnitStatus{}, err
		}
		if !hasJob(unit) {
			return unitStatus(unit, svc), nil
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return UnitStatus{}, fmt.Errorf("systemd is still at it: %w", context.Cause(ctx))
		}
	}
}

// hasJob tells whether a job waits or runs for the unit: its property is (id, path), and id 0 where there is none.
func hasJob(unit map[string]any) bool {
	job, _ := unit["Job"].([]any)
	if len(job) == 0 {
		return false
	}
	id, _ := job[0].(uint32)
	return id != 0
}
