package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

// follow replicates from a source that has all that is here. A primary steps down.
func (e *server) follow(ctx context.Context, st state, in info, args ferryman.Args) (ferryman.Result, error) {
	marker, err := st.Follow(args.Epoch, args.From)
	switch {
	case err != nil:
		return ferryman.Result{}, err
	case !st.Initialised:
		return ferryman.Result{}, errors.New("there are no data here: clone first")
	case e.cameUpEmpty(st, in):
		return ferryman.Result{}, errLost
	}
	source, err := e.source(ctx, args.From)
	if err != nil {
		return ferryman.Result{}, err
	}
	if !source.contains(in.history(), in.position()) {
		err := fmt.Errorf("%w: it has %d of history %s, which %s (at %d of %s) has not; clone it",
			dbhooks.ErrDiverged, in.position(), in.history(), args.From, source.position(), source.history())
		e.setDiverged(err.Error())
		return ferryman.Result{}, err
	}
	st.Marker, st.RunID = marker, in["run_id"]
	if err := e.save(st); err != nil {
		return ferryman.Result{}, err
	}
	return e.replicate(ctx, args.From)
}

// replicate returns once the stream stands and has all that the source had.
func (e *server) replicate(ctx context.Context, from string) (ferryman.Result, error) {
	host, port, err := net.SplitHostPort(from)
	if err != nil {
		return ferryman.Result{}, err
	}
	if err := e.client.Do(ctx, "replicaof", host, port).Err(); err != nil {
		return ferryman.Result{}, err
	}
	if err := e.allowWrites(ctx); err != nil { // clients that a fence holds are now told that this is a replica
		return ferryman.Result{}, err
	}
	var in, source info
	err = dbhooks.Poll(ctx, func(ctx context.Context) (ok bool, why string, err error) {
		if in, err = ask(ctx, e.client); err != nil {
			return false, "", err
		}
		// A server begins a new history when its first replica ever connects, so the source is asked until both speak of the same.
		if in.history() != source.history() {
			if source, err = e.source(ctx, from); err != nil {
				return false, "", err
			}
		}
		why = fmt.Sprintf("link to %s: %s, at %d of %d", from, in["master_link_status"], in.position(), source.position())
		return in.streaming() && !in.loading() && in.contains(source.history(), source.position()), why, nil
	})
	if err != nil {
		return ferryman.Result{}, err
	}
	e.setDiverged("")
	return ferryman.Result{History: in.history(), Position: in.position()}, nil
}

// source asks the instance to replicate from what it has. The credentials are the same on all nodes.
func (e *Engine) source(ctx context.Context, from string) (info, error) {
	if from == "" || from == e.cfg.Address {
		return nil, fmt.Errorf("%w: source %q", ferryman.ErrInvalid, from)
	}
	c, err := connect(ctx, from, e.cfg.Username, e.cfg.Password)
	if err != nil {
		return nil, fmt.Errorf("the source: %w", err)
	}
	defer c.Close()
	in, err := ask(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("the source %s: %w", from, err)
	}
	return in, nil
}

// clone lets Redis replace all data by the source's, after a snapshot of what is here was set aside. Data that the source has too are kept.
func (e *server) clone(ctx context.Context, st state, in info, args ferryman.Args) (ferryman.Result, error) {
	if in.master() && st.Primary && !st.Fenced {
		if fenced, err := e.refusesWrites(ctx); err != nil || !fenced {
			return ferryman.Result{}, errors.Join(fmt.Errorf("%w: this is a writable primary", ferryman.ErrConflict), err)
		}
	}
	source, err := e.source(ctx, args.From)
	if err != nil {
		return ferryman.Result{}, err
	}
	if st.Initialised && !e.cameUpEmpty(st, in) && source.contains(in.history(), in.position()) {
		return ferryman.Result{History: in.history(), Position: in.position()}, nil
	}
	aside := ""
	if in.hasKeys() {
		if aside, err = e.setAside(ctx); err != nil {
			return ferryman.Result{}, fmt.Errorf("set the old data aside: %w", err)
		}
	}
	// Until the copy is whole there is no database here, whatever ends in between.
	st.Initialised, st.Primary, st.RunID = false, false, in["run_id"]
	if err := e.save(st); err != nil {
		return ferryman.Result{}, err
	}
	result, err := e.replicate(ctx, args.From)
	result.SetAside = aside
	if err != nil {
		return result, err
	}
	st.Initialised = true
	return result, e.save(st)
}

// setAside saves what is in memory under another name.
func (e *server) setAside(ctx context.Context) (string, error) {
	before, err := e.client.LastSave(ctx).Result()
	if err != nil {
		return "", err
	}
	// LASTSAVE counts whole seconds: a snapshot in the same second as the last one could not be told from it.
	err = dbhooks.Poll(ctx, func(ctx context.Context) (bool, string, error) {
		now, err := e.client.Time(ctx).Result()
		return now.Unix() > before, "waiting for the clock", err
	})
	if err != nil {
		return "", err
	}
	if err := e.client.BgSave(ctx).Err(); err != nil {
		return "", err
	}
	err = dbhooks.Poll(ctx, func(ctx context.Context) (bool, string, error) {
		in, err := ask(ctx, e.client)
		if err == nil && in["rdb_bgsave_in_progress"] == "0" && in["rdb_last_bgsave_status"] != "ok" {
			err = errors.New("BGSAVE failed: see the server's log")
		}
		return err == nil && in["rdb_bgsave_in_progress"] == "0" && int64(in.number("rdb_last_save_time")) > before, "saving a snapshot", err
	})
	if err != nil {
		return "", err
	}
	aside := filepath.Join(e.cfg.Dir, "set-aside-"+time.Now().UTC().Format("20060102T150405.000000000Z")+".rdb")
	if err := os.Rename(filepath.Join(e.cfg.Dir, snapshotName), aside); err != nil {
		return "", err
	}
	return aside, dbhooks.SyncDir(e.cfg.Dir)
}
