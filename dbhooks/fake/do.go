package fake

import (
	"context"
	"fmt"
	"maps"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

// look is how often an operation that waits looks again.
const look = 10 * time.Millisecond

// Do is described at dbhooks.Engine.
func (e *Engine) Do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.calls[op]++
	if !e.Traits().Can(op) {
		return ferryman.Result{}, fmt.Errorf("fakedb: %s: %w", op, ferryman.ErrUnsupported)
	}
	found := e.ended
	err := e.prepare(ctx, op)
	if err == nil && e.running && e.ended != found && op != ferryman.OpConfigure {
		err = errEnded
	}
	if err != nil {
		return ferryman.Result{}, fmt.Errorf("fakedb %s: %s: %w", e.address, op, err)
	}
	e.c.replicate()
	defer e.c.replicate()
	result, err := e.do(ctx, op, args)
	if err != nil {
		return result, fmt.Errorf("fakedb %s: %s: %w", e.address, op, err)
	}
	return result, nil
}

// prepare is all that can go wrong before an operation has an effect.
func (e *Engine) prepare(ctx context.Context, op ferryman.Op) error {
	if err := e.hang(ctx); err != nil {
		return err
	}
	if e.takes != nil {
		if err := e.wait(ctx, e.takes(op)); err != nil {
			return err
		}
	}
	if e.fail != nil {
		if err := e.fail(op); err != nil {
			return err
		}
	}
	if !e.running && op != ferryman.OpConfigure {
		return fmt.Errorf("%w: it does not run", ferryman.ErrUnavailable)
	}
	return nil
}

// wait lets others on for a while. c.mu is held, and not while it waits.
func (e *Engine) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	e.c.mu.Unlock()
	defer e.c.mu.Lock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until waits for done; what is still missing is why.
func (e *Engine) until(ctx context.Context, done func() (bool, string, error)) error {
	found := e.ended
	for {
		e.c.replicate()
		ok, why, err := done()
		if ok || err != nil {
			return err
		}
		if err := e.wait(ctx, look); err != nil {
			return &dbhooks.WaitError{Why: why, Err: err}
		}
		if !e.running || e.ended != found {
			return errEnded
		}
	}
}

func (e *Engine) do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	here := func() ferryman.Result { return ferryman.Result{Position: uint64(len(e.log)), History: e.history()} }
	switch op {
	case ferryman.OpInitialise:
		if len(e.log) == 1 && e.log[0].history == "h0" {
			return here(), nil
		}
		if len(e.log) > 0 || e.marker.Epoch > 0 {
			return ferryman.Result{}, fmt.Errorf("%w: there are, or were, data here already", ferryman.ErrConflict)
		}
		e.add(entry{history: "h0"})
		return here(), nil
	case ferryman.OpClone:
		return e.clone(args)
	case ferryman.OpPromote:
		err := e.promote(args.Epoch)
		return here(), err
	case ferryman.OpFollow:
		return ferryman.Result{}, e.follow(ctx, args)
	case ferryman.OpFence:
		m, err := e.marker.Fence(args.Epoch)
		if err != nil {
			return ferryman.Result{}, err
		}
		e.marker, e.writable = m, false
		return here(), nil
	case ferryman.OpUnfence:
		m, err := e.marker.Unfence(args.Epoch)
		if err != nil {
			return ferryman.Result{}, err
		}
		e.marker, e.writable = m, e.promoted
		return ferryman.Result{}, nil
	case ferryman.OpConfigure:
		e.parameters = maps.Clone(args.Parameters)
		return ferryman.Result{RestartNeeded: e.apply(args.Parameters)}, nil
	case ferryman.OpDrain, ferryman.OpUndrain:
		e.drained = op == ferryman.OpDrain
		return ferryman.Result{}, nil
	case ferryman.OpVerify:
		err := e.verify(ctx, args)
		return here(), err
	case ferryman.OpPreflight:
		return e.preflight(args), nil
	}
	return ferryman.Result{}, ferryman.ErrUnsupported
}

// apply takes what can be changed while it runs, and says whether something is left.
func (e *Engine) apply(p map[string]string) (restart bool) {
	if !e.running {
		return false
	}
	restart = e.inForce[RestartParameter] != p[RestartParameter]
	old := e.inForce[RestartParameter]
	e.inForce = maps.Clone(p)
	if restart {
		if e.inForce == nil {
			e.inForce = map[string]string{}
		}
		e.inForce[RestartParameter] = old
	}
	return restart
}

func (e *Engine) clone(args ferryman.Args) (ferryman.Result, error) {
	source := e.c.engines[args.From]
	switch {
	case source == nil || !source.running || source.bad().Hang || e.c.cut[[2]string{e.address, args.From}]:
		return ferryman.Result{}, fmt.Errorf("%w: %s cannot be reached", ferryman.ErrUnavailable, args.From)
	case e.writable:
		return ferryman.Result{}, fmt.Errorf("%w: this is a writable primary", ferryman.ErrConflict)
	case len(source.log) == 0:
		return ferryman.Result{}, fmt.Errorf("%w: %s has no data", ferryman.ErrConflict, args.From)
	}
	var r ferryman.Result
	if len(e.log) == 0 || !e.partOf(source) {
		if len(e.log) > 0 {
			e.aside++
			r.SetAside = fmt.Sprintf("/fake/%s/set-aside-%d", e.address, e.aside)
		}
		e.log = append([]entry(nil), source.log...)
		e.primary, e.promoted = false, false
	}
	r.Position, r.History = uint64(len(e.log)), e.history()
	return r, nil
}

func (e *Engine) promote(epoch uint64) error {
	if e.writable && e.marker.Epoch == epoch {
		return nil
	}
	if len(e.log) == 0 {
		return fmt.Errorf("%w: there are no data here", ferryman.ErrConflict)
	}
	m, err := e.marker.Promote(epoch)
	if err != nil {
		return err
	}
	if epoch > e.marker.Epoch {
		e.add(entry{history: fmt.Sprintf("h%d", epoch)})
	}
	e.marker, e.primary, e.promoted, e.writable = m, true, true, true
	e.streaming, e.diverged = false, false
	return nil
}

func (e *Engine) follow(ctx context.Context, args ferryman.Args) error {
	if len(e.log) == 0 {
		return fmt.Errorf("%w: there are no data here: clone first", ferryman.ErrConflict)
	}
	m, err := e.marker.Follow(args.Epoch, args.From)
	if err != nil {
		return err
	}
	e.marker, e.primary, e.promoted, e.writable = m, false, false, false
	return e.until(ctx, func() (bool, string, error) {
		switch {
		case e.marker.From != args.From:
			return false, "", fmt.Errorf("%w: told otherwise meanwhile", ferryman.ErrConflict)
		case e.diverged:
			return false, "", fmt.Errorf("%w: its data are not a part of the history of %s", dbhooks.ErrDiverged, args.From)
		}
		return e.streaming || e.bad().LieHealthy, "does not stream from " + args.From, nil
	})
}

func (e *Engine) verify(ctx context.Context, args ferryman.Args) error {
	if args.Version != "" && args.Version != e.version {
		return fmt.Errorf("it runs version %s and not %s", e.version, args.Version)
	}
	return e.until(ctx, func() (bool, string, error) {
		return args.History == "" || e.holds(args.History, args.Position),
			fmt.Sprintf("it holds position %d of history %s, not yet %d of %s", len(e.log), e.history(), args.Position, args.History), nil
	})
}

// holds tells whether the log reaches that position within that history: before the next one begins.
func (e *Engine) holds(history string, position uint64) bool {
	found := false
	for i, x := range e.log {
		found = found || x.history == history
		if found && x.history != "" && x.history != history {
			return uint64(i) >= position
		}
	}
	return found && uint64(len(e.log)) >= position
}

func (e *Engine) preflight(args ferryman.Args) ferryman.Result {
	r := ferryman.Result{Position: uint64(len(e.log)), History: e.history()}
	if args.Parameters != nil {
		r.RestartNeeded = e.inForce[RestartParameter] != args.Parameters[RestartParameter]
	}
	if args.Epoch > 0 {
		if _, err := e.marker.Promote(args.Epoch); err != nil {
			r.Blockers = append(r.Blockers, err.Error())
		}
		switch {
		case len(e.log) == 0:
			r.Blockers = append(r.Blockers, "there are no data here")
		case !e.writable && !e.streaming && !args.Alone:
			r.Blockers = append(r.Blockers, "it does not stream")
		}
	}
	return r
}
