package runner

import (
	"context"
	"fmt"
	"maps"
	"time"

	"ferryman"
	"ferryman/systemd"
)

// selectTarget makes args the target of the next start. The release must be staged; none is needed for a version that is not managed.
func (w *watcher) selectTarget(ctx context.Context, args ferryman.Args) (effect, error) {
	// A start that nobody noted yet was made under the old selection.
	if _, err := w.look(ctx); err != nil {
		return effect{}, err
	}
	target := args.Target()
	target.Parameters = maps.Clone(target.Parameters)
	var digest string
	if args.Version == "" {
		// Whoever names no version wants the one that there is.
		now := w.r.journal.selection(w.svc.Slot)
		target.Version, digest = now.Selected.Version, now.Digest
	} else {
		in, err := w.r.find(w.svc.Service.Engine, args.Version, digestOf(args))
		if err != nil {
			return effect{}, err
		}
		if err := w.r.deps.Store.Switch(ctx, in.Engine, in.Version, in.SHA256); err != nil {
			return effect{}, err
		}
		digest = in.SHA256
	}
	return effect{note: func(b *book) {
		b.service(w.svc.Slot, func(s *selection) { s.Selected, s.Digest = target, digest })
	}}, nil
}

// firstLook is how soon a start looks again whether the database answers; each pause is twice the last, up to Deps.Busy.
const firstLook = 5 * time.Millisecond

// start runs what is selected, and returns when the database answers. One that runs already is left alone.
func (w *watcher) start(ctx context.Context) error {
	if now, err := w.look(ctx); err != nil {
		return err
	} else if !now.Unit.Active && now.Unit.Unfit != "" && w.r.deps.Leased() {
		return fmt.Errorf("start %s: %w: %s", w.svc.Slot, ferryman.ErrRefused, now.Unit.Unfit)
	}
	u, err := w.command(ctx)
	if err != nil {
		return err
	}
	if err := w.r.deps.Units.Start(ctx, u); err != nil {
		return w.withLog(fmt.Errorf("start unit %s: %w", u.Name, err))
	}
	// Most databases answer within milliseconds, and a primary's clients wait for it; some take minutes.
	for again := firstLook; ; again = min(2*again, w.r.deps.Busy) {
		st, err := w.look(ctx)
		if err != nil {
			return w.withLog(fmt.Errorf("wait until %s answers: %w; at last: %s", w.svc.Slot, err, w.status().Instance.Reason))
		}
		launched := w.r.journal.selection(w.svc.Slot).StartID == st.Unit.StartID
		w.mu.Lock()
		unknown := w.problem
		w.mu.Unlock()
		switch {
		case unknown == "" && !st.Unit.Active:
			return w.withLog(fmt.Errorf("the process of unit %s ended (%s) before the database answered", u.Name, st.Unit.Result))
		case st.Unit.Active && st.Instance.Running && launched:
			return nil
		}
		if err := pause(ctx, again); err != nil {
			return w.withLog(fmt.Errorf("wait until %s answers: %w; at last: %s", w.svc.Slot, err, st.Instance.Reason))
		}
	}
}

// command is how the selected release is run.
func (w *watcher) command(ctx context.Context) (systemd.Unit, error) {
	u := systemd.Unit{Name: w.svc.Unit, LogFile: w.svc.LogFile, StopTimeout: w.svc.StopTimeout}
	selected := w.r.journal.selection(w.svc.Slot)
	var home string
	if selected.Selected.Version != "" {
		in, err := w.r.find(w.svc.Service.Engine, selected.Selected.Version, selected.Digest)
		if err != nil {
			return u, err
		}
		// A unit that systemd knows starts whatever is current; a crash between the switch and its record can have left the two apart.
		if err := w.r.deps.Store.Switch(ctx, in.Engine, in.Version, in.SHA256); err != nil {
			return u, err
		}
		home = in.Path
	}
	c, err := w.svc.Engine.Command(ctx, home)
	if err != nil {
		return u, fmt.Errorf("prepare the start of %s: %w", w.svc.Slot, err)
	}
	u.Exec, u.Env, u.Dir = c.Exec, c.Env, c.Dir
	return u, nil
}

// withLog adds what the process said last: mostly that is the reason.
func (w *watcher) withLog(err error) error {
	if w.svc.Log == nil {
		return err
	}
	if tail := ferryman.LastLines(w.svc.Log(), maxLog); tail != "" {
		return fmt.Errorf("%w; its log ends with:\n%s", err, tail)
	}
	return err
}

// stop returns when no process of the unit is left. Whether it may be stopped is the plan's to decide, before the step.
func (w *watcher) stop(ctx context.Context) error {
	if err := w.r.deps.Units.Stop(ctx, w.svc.Unit); err != nil {
		return fmt.Errorf("stop unit %s: %w", w.svc.Unit, err)
	}
	st, err := w.r.deps.Units.Status(ctx, w.svc.Unit)
	if err != nil {
		return fmt.Errorf("find out whether unit %s stopped: %w", w.svc.Unit, err)
	}
	if st.Active {
		return fmt.Errorf("unit %s still has processes after it was stopped: something starts it again", w.svc.Unit)
	}
	return nil
}

// verify waits until the service is healthy, and fails at once on what waiting cannot change.
func (w *watcher) verify(ctx context.Context, args ferryman.Args) (effect, error) {
	want := args.Target()
	for {
		st, err := w.look(ctx)
		if err != nil {
			return effect{}, fmt.Errorf("verify %s: %w; at last: %s", w.svc.Slot, err, w.status().Instance.Reason)
		}
		switch {
		case st.Instance.Running && want.Version != "" && st.Instance.Version != want.Version:
			return effect{}, fmt.Errorf("verify %s: it runs version %s, not %s", w.svc.Slot, st.Instance.Version, want.Version)
		case st.Instance.Running && !want.Equal(ferryman.Target{}) && st.Launched.RestartGeneration != want.RestartGeneration:
			return effect{}, fmt.Errorf("verify %s: it was started under restart generation %d, not %d", w.svc.Slot,
				st.Launched.RestartGeneration, want.RestartGeneration)
		case st.Instance.Running && !want.Equal(ferryman.Target{}) && !maps.Equal(st.Launched.Parameters, want.Parameters):
			return effect{}, fmt.Errorf("verify %s: it was started under other parameters", w.svc.Slot)
		case st.Instance.Running && st.Instance.Healthy:
			if !st.Traits.Can(ferryman.OpVerify) {
				if args.Position > 0 || args.History != "" {
					return effect{}, fmt.Errorf("verify the position of %s: %w", w.svc.Slot, ferryman.ErrUnsupported)
				}
				return effect{result: ferryman.Result{Position: st.Instance.Position, History: st.Instance.History}}, nil
			}
			return w.do(ctx, ferryman.OpVerify, args)
		}
		if err := pause(ctx, w.r.deps.Busy); err != nil {
			return effect{}, fmt.Errorf("verify %s: %w; at last: %s", w.svc.Slot, err, st.Instance.Reason)
		}
	}
}

// pause waits for d; its error is why ctx ended before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
