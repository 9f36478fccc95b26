package runner

import (
	"context"
	"errors"
	"fmt"

	"ferryman"
)

// effect is what an operation achieved: its result, what the book must hold of it together with its end, and what follows once that is durable.
type effect struct {
	result ferryman.Result
	note   func(*book)
	then   func()
}

var (
	errInterrupted = errors.New("the agent ended while it ran, and how far it came cannot be seen: look at the service, a new attempt begins anew")
	errLost        = errors.New("the journal was lost, and whether it was begun before cannot be seen: look at the service, a new attempt begins anew")
)

// attempt carries the step out. With doubt it may have been begun before, by an agent that is gone; then the world decides.
//
// Nearly every operation is a way to make something true that returns at once when it is: to run it again is to look. Stage, switch, start, stop and
// depart are so by their own making; exit is, because its end is recorded before anything happens, so that one without an end has not happened; and
// dbhooks promises it of an engine's operations, where an epoch also keeps a promotion from happening twice.
// Not so those that put data in the place of other data: what they left may look like the old or like the new, and a program that an earlier attempt
// started may still be at it. They are not run again under the same attempt.
func (r *Runner) attempt(ctx context.Context, s ferryman.Step, doubt error) (effect, error) {
	if doubt != nil {
		switch s.Op {
		case ferryman.OpInitialise:
			w, err := r.service(s)
			if err != nil {
				return effect{}, err
			}
			i, err := w.svc.Engine.Status(ctx)
			if err != nil {
				return effect{}, fmt.Errorf("find out whether the database is there: %w", err)
			}
			if i.Initialised {
				return effect{result: ferryman.Result{Position: i.Position, History: i.History}}, nil
			}
			return effect{}, doubt
		case ferryman.OpClone, ferryman.OpRewind:
			return effect{}, doubt
		}
	}
	switch s.Op {
	case ferryman.OpStage:
		return r.stage(ctx, s)
	case ferryman.OpExit:
		return r.exit(s)
	case ferryman.OpDepart:
		return r.depart(ctx, s)
	case ferryman.OpSwitch:
		if s.Service == "" {
			return r.switchAgent(ctx, s)
		}
	}
	w, err := r.service(s)
	if err != nil {
		return effect{}, err
	}
	switch s.Op {
	case ferryman.OpSwitch:
		return w.selectTarget(ctx, s.Args)
	case ferryman.OpStart:
		return effect{}, w.start(ctx)
	case ferryman.OpStop:
		return effect{}, w.stop(ctx)
	case ferryman.OpVerify:
		return w.verify(ctx, s.Args)
	case ferryman.OpFence:
		if s.Args.Kill {
			return effect{}, w.fence(ctx, s.Args.Epoch)
		}
	case ferryman.OpPromote, ferryman.OpUnfence:
		held, release, err := r.deps.Hold(ctx, s.Args.Epoch)
		if err != nil {
			return effect{}, fmt.Errorf("%s %s: %w", s.Op, w.svc.Slot, err)
		}
		defer release()
		ctx = held
	}
	return w.do(ctx, s.Op, s.Args)
}

func (r *Runner) service(s ferryman.Step) (*watcher, error) {
	w := r.watcher(s.Service)
	if w == nil {
		return nil, fmt.Errorf("%s: this node runs no service %q: %w", s.Op, s.Service, ferryman.ErrInvalid)
	}
	return w, nil
}

// do is an operation that only the engine knows.
func (w *watcher) do(ctx context.Context, op ferryman.Op, args ferryman.Args) (effect, error) {
	if !op.ByEngine() {
		return effect{}, fmt.Errorf("%s: no operation of this agent: %w", op, ferryman.ErrUnsupported)
	}
	result, err := w.svc.Engine.Do(ctx, op, args)
	if errors.Is(err, ferryman.ErrUnsupported) {
		switch op {
		case ferryman.OpDrain, ferryman.OpUndrain, ferryman.OpCheckpoint:
			// They make what follows gentler or quicker. An engine that cannot has nothing that could be missing later.
			return effect{}, nil
		}
	}
	if err != nil {
		return effect{result: result}, fmt.Errorf("%s %s: %w", op, w.svc.Slot, err)
	}
	e := effect{result: result}
	if op == ferryman.OpConfigure {
		e.note = func(b *book) {
			b.service(w.svc.Slot, func(s *selection) {
				s.Selected.Parameters = args.Parameters
				if !result.RestartNeeded {
					s.Launched.Parameters = args.Parameters
				}
			})
		}
	}
	return e, nil
}
