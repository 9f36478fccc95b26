package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

var errLost = errors.New("its data are gone: it crashed without a snapshot; clone it from an instance that has them")

// pauseWrites is how long clients are held before they are refused, when nothing follows a fence.
const pauseWrites = 30 * time.Second

// initialise only notes that there is a database: an empty server is one.
func (e *server) initialise(st state, in info) (ferryman.Result, error) {
	switch {
	case st.Initialised && st.Epoch == 0 && !in.hasKeys():
	case st.Initialised:
		return ferryman.Result{}, fmt.Errorf("%w: there is, or was, a database here; nothing was touched", ferryman.ErrConflict)
	case in.hasKeys():
		return ferryman.Result{}, fmt.Errorf("%w: there are keys here; nothing was touched", ferryman.ErrConflict)
	}
	st.Initialised, st.RunID = true, in["run_id"]
	return ferryman.Result{History: in.history(), Position: in.position()}, e.save(st)
}

// promotable says why the data that are here cannot be those of a primary.
func (e *server) promotable(st state, in info) error {
	switch {
	case !st.Initialised:
		return errors.New("there are no data here: initialise or clone it first")
	case e.cameUpEmpty(st, in):
		return errLost
	case in.loading():
		return errors.New("it still loads its data")
	}
	return nil
}

func (e *server) promote(ctx context.Context, st state, in info, args ferryman.Args) (ferryman.Result, error) {
	var result ferryman.Result
	marker, err := st.Promote(args.Epoch)
	if err == nil {
		err = e.promotable(st, in)
	}
	if err != nil {
		return result, err
	}
	st.Marker, st.RunID = marker, in["run_id"]
	if err := e.save(st); err != nil {
		return result, err
	}
	if !in.master() {
		if err := e.closeToWrites(ctx); err != nil {
			return result, err
		}
		if err := e.client.Do(ctx, "replicaof", "no", "one").Err(); err != nil {
			return result, err
		}
	}
	// Once it accepts writes, a snapshot of before is too old to start from. Not sooner: it would be taken from a process that came up meanwhile.
	snapshot := filepath.Join(e.cfg.Dir, snapshotName)
	if err := os.Rename(snapshot, snapshot+".before-promotion"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result, err
	}
	if err := e.acceptWrites(ctx); err != nil {
		return result, err
	}
	e.setDiverged("")
	if in, err = ask(ctx, e.client); err != nil {
		return result, err
	}
	if !in.master() {
		return result, errors.New("it is a replica after REPLICAOF NO ONE: somebody else gives it orders (a Sentinel?)")
	}
	return ferryman.Result{History: in.history(), Position: in.position()}, nil
}

// fence: see the package comment for why in this order.
func (e *server) fence(ctx context.Context, st state, in info, args ferryman.Args) (ferryman.Result, error) {
	marker, err := st.Fence(args.Epoch)
	if err != nil {
		return ferryman.Result{}, err
	}
	if marker != st.Marker {
		st.Marker = marker
		if err := e.save(st); err != nil {
			return ferryman.Result{}, err
		}
	}
	if in.master() {
		if err := e.forbidWrites(ctx); err != nil {
			return ferryman.Result{}, err
		}
	}
	if in, err = ask(ctx, e.client); err != nil {
		return ferryman.Result{}, err
	}
	return ferryman.Result{History: in.history(), Position: in.position()}, nil
}

func (e *server) unfence(ctx context.Context, st state, in info, args ferryman.Args) (ferryman.Result, error) {
	marker, err := st.Unfence(args.Epoch)
	if err != nil {
		return ferryman.Result{}, err
	}
	if marker != st.Marker {
		st.Marker = marker
		if err := e.save(st); err != nil {
			return ferryman.Result{}, err
		}
	}
	if !in.master() || !st.Primary {
		return ferryman.Result{}, nil
	}
	return ferryman.Result{}, e.acceptWrites(ctx)
}

// acceptWrites allows them and looks at the marker once more: a fence that was set meanwhile stands.
func (e *server) acceptWrites(ctx context.Context) error {
	if err := e.allowWrites(ctx); err != nil {
		return err
	}
	if err := dbhooks.CheckMarker(e.cfg.Dir, e.known); err != nil {
		return errors.Join(err, e.forbidWrites(ctx))
	}
	return nil
}

// forbidWrites is the fence as the server knows it.
func (e *server) forbidWrites(ctx context.Context) error {
	if err := e.client.Do(ctx, "client", "pause", pauseWrites.Milliseconds(), "write").Err(); err != nil {
		return err
	}
	return e.closeToWrites(ctx)
}

func (e *server) closeToWrites(ctx context.Context) error {
	return e.client.Do(ctx, "config", "set", "min-replicas-to-write", unreachable, "min-replicas-max-lag", "10", "repl-ping-replica-period", pingNever).Err()
}

// allowWrites undoes what fence did to the server. A replica refuses writes with it as without it.
func (e *server) allowWrites(ctx context.Context) error {
	if err := e.client.Do(ctx, "config", "set", "min-replicas-to-write", "0", "repl-ping-replica-period", pingPeriod).Err(); err != nil {
		return err
	}
	return e.client.Do(ctx, "client", "unpause").Err()
}

// refusesWrites says whether the fence stands.
func (e *server) refusesWrites(ctx context.Context) (bool, error) {
	v, err := e.client.ConfigGet(ctx, "min-replicas-to-write").Result()
	if err != nil {
		return false, err
	}
	return v["min-replicas-to-write"] == unreachable, nil
}

func (e *Engine) setDiverged(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.diverged = why
}

var _ dbhooks.Engine = (*Engine)(nil)
