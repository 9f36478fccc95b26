package runner

import (
	"context"
	"errors"
	"fmt"
)

// Fence ends every service at once and leaves the marker of that epoch. It only gives up power, which a node may do alone.
func (r *Runner) Fence(ctx context.Context, epoch uint64) error {
	var errs []error
	for _, w := range r.watchers {
		errs = append(errs, w.fence(ctx, epoch))
		w.nudge()
	}
	return errors.Join(errs...)
}

// fence ends the process, marks the instance, and ends what was started in between: a process that did not read the marker. One that is started
// later does. The first kill does not wait for the disk.
func (w *watcher) fence(ctx context.Context, epoch uint64) error {
	kill := func() error {
		if err := w.r.deps.Units.Kill(ctx, w.svc.Unit); err != nil {
			return fmt.Errorf("fence unit %s: %w", w.svc.Unit, err)
		}
		return nil
	}
	if err := kill(); err != nil {
		return err
	}
	if w.svc.Mark != nil {
		if err := w.svc.Mark(epoch); err != nil {
			return fmt.Errorf("mark %s as fenced at epoch %d: %w", w.svc.Slot, epoch, err)
		}
	}
	return kill()
}

// Writable asks the databases themselves, now. An error counts as yes, and so does one that does not answer in time.
func (r *Runner) Writable(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.deps.Answer)
	defer cancel()
	for _, w := range r.watchers {
		i, err := w.svc.Engine.Status(ctx)
		if err != nil || i.Writable {
			return true, err
		}
		if i.Running && i.Version == "" {
			return true, fmt.Errorf("%s does not say whether it accepts writes: %s", w.svc.Slot, i.Reason)
		}
	}
	return false, nil
}
