package demodb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ferryman/dbhooks"
)

// The changes of role. Each runs alone (admin is held); each is durable before it takes effect and before it is answered.

// initialise begins the first history. It is refused where data exist, but for those of an initialisation that nothing followed.
func (s *server) initialise() (response, error) {
	s.mu.Lock()
	last, first := s.journal.last(), s.journal.current()
	s.mu.Unlock()
	switch {
	case last == 1 && first.epoch == 0:
		return response{History: first.id, Position: 1}, nil
	case last > 0:
		return response{}, refused("initialise: there are data here already (%d entries, history %s); nothing was touched", last, first.id)
	}
	e := entry{kind: kindHistory, position: 1, history: newHistory(0)}
	if err := s.append([]entry{e}); err != nil {
		return response{}, err
	}
	return response{History: e.history, Position: 1}, nil
}

// promote makes this instance the writable primary of the epoch and begins a history. Repeated, it changes nothing.
func (s *server) promote(epoch uint64) (response, error) {
	s.mu.Lock()
	last, current, old := s.journal.last(), s.journal.current(), s.marker
	done := s.primary && s.writable && old.Epoch == epoch
	s.mu.Unlock()
	if done {
		return response{History: current.id, Position: last}, nil
	}
	if last == 0 {
		return response{}, refused("promote: there are no data here: initialise or clone it first")
	}
	marker, err := old.Promote(epoch)
	if err != nil {
		return response{}, err
	}
	if err := dbhooks.ReplaceMarker(s.dir, old, marker); err != nil {
		return response{}, err
	}
	if s.stopFollow != nil {
		s.stopFollow()
	}
	s.mu.Lock()
	e := entry{kind: kindHistory, position: s.journal.last() + 1, epoch: epoch, history: newHistory(epoch)}
	s.marker, s.primary = marker, true
	s.mu.Unlock()
	if err := s.append([]entry{e}); err != nil {
		return response{}, err
	}
	s.setWritable()
	s.log.Info("promoted", "epoch", epoch, "history", e.history, "position", e.position)
	return response{History: e.history, Position: e.position}, nil
}

func (s *server) setWritable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writable = true
	s.notify()
}

// fence stops writes, durably. The position that it returns covers every write that was or will ever be acknowledged here.
func (s *server) fence(ctx context.Context, epoch uint64) (response, error) {
	s.mu.Lock()
	old := s.marker
	s.mu.Unlock()
	marker, err := old.Fence(epoch)
	if err != nil {
		return response{}, err
	}
	if err := s.stopWrites(ctx, fmt.Errorf("%w at epoch %d before it was acknowledged", dbhooks.ErrFenced, epoch)); err != nil {
		return response{}, err
	}
	if marker != old {
		if err := dbhooks.ReplaceMarker(s.dir, old, marker); err != nil {
			return response{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marker = marker
	s.notify()
	return response{History: s.journal.current().id, Position: s.journal.last()}, nil
}

// unfence takes the fence back. An instance that was writable when it was fenced, and has not restarted since, is writable again.
func (s *server) unfence(epoch uint64) (response, error) {
	s.mu.Lock()
	old, primary := s.marker, s.primary
	s.mu.Unlock()
	marker, err := old.Unfence(epoch)
	if err != nil {
		return response{}, err
	}
	if marker != old {
		if err := dbhooks.ReplaceMarker(s.dir, old, marker); err != nil {
			return response{}, err
		}
	}
	s.mu.Lock()
	s.marker = marker
	s.mu.Unlock()
	if primary {
		s.setWritable()
	}
	return response{}, nil
}

// followPrimary makes this instance a replica; untilStreaming says what came of it. A primary steps down first.
func (s *server) followPrimary(ctx context.Context, epoch uint64, from string) error {
	if from == "" {
		return refused("follow: no primary is named")
	}
	s.mu.Lock()
	old, last := s.marker, s.journal.last()
	s.mu.Unlock()
	marker, err := old.Follow(epoch, from)
	if err != nil {
		return err
	}
	if last == 0 {
		return refused("follow %s: there are no data here: clone first", from)
	}
	if err := s.stopWrites(ctx, &NotPrimaryError{Primary: from, Reason: "stepped down"}); err != nil {
		return err
	}
	if marker != old {
		if err := dbhooks.ReplaceMarker(s.dir, old, marker); err != nil {
			return err
		}
	}
	if s.stopFollow != nil && marker.From != old.From {
		s.stopFollow()
	}
	s.mu.Lock()
	s.marker, s.primary = marker, false
	s.mu.Unlock()
	if s.stopFollow == nil {
		s.startFollow()
	}
	return nil
}

// untilStreaming waits for the follower of from; it may be called by anybody.
func (s *server) untilStreaming(ctx context.Context, from string) error {
	var state following
	var now string
	err := s.until(ctx, func() bool {
		state, now = s.follow, s.marker.From
		return state.streaming || state.diverged || now != from || s.release.Faults.LieHealthy
	})
	switch {
	case now != from:
		return refused("follow %s: told otherwise meanwhile", from)
	case state.diverged:
		return fmt.Errorf("%w: %s; clone it", dbhooks.ErrDiverged, state.reason)
	case err != nil:
		return codedError{codeTimeout, fmt.Errorf("%s: %w", state.reason, err)}
	}
	return nil
}

// clone replaces the data by a full copy of another instance's. Data that are a part of the source's history are left as they are: there is nothing to
// replace. Others are set aside, by renaming, and never deleted.
func (s *server) clone(ctx context.Context, from string) (response, error) {
	s.mu.Lock()
	writable, last, current := s.writable, s.journal.last(), s.journal.current()
	s.mu.Unlock()
	if writable {
		return response{}, refused("clone from %s: this is a writable primary", from)
	}
	if last > 0 {
		conn, _, _, err := openStream(ctx, from, request{Op: "stream", Name: s.name + " (clone)", History: current.id, Position: last})
		if err == nil {
			conn.Close()
			return response{History: current.id, Position: last}, nil
		}
		if !errors.Is(err, dbhooks.ErrDiverged) {
			return response{}, fmt.Errorf("clone from %s: %w", from, err)
		}
	}
	if s.stopFollow != nil {
		s.stopFollow()
	}
	incoming := filepath.Join(s.dir, fmt.Sprintf("incoming-%d", time.Now().UnixNano()))
	if err := s.copyLog(ctx, from, incoming); err != nil {
		return response{}, errors.Join(fmt.Errorf("clone from %s: %w", from, err), os.RemoveAll(incoming))
	}
	res, err := s.replaceData(incoming)
	if err == nil && s.marker.From != "" {
		s.startFollow() // as it does when it comes up: whom the marker names is followed
	}
	return res, err
}

// copyLog writes the source's log, as far as it reaches now, into a fresh directory.
func (s *server) copyLog(ctx context.Context, from, dir string) error {
	conn, r, res, err := openStream(ctx, from, request{Op: "copy", Name: s.name})
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	j, err := openJournal(dir, func(entry) {})
	if err != nil {
		return err
	}
	enough := errors.New("has all")
	err = receive(conn, r, func(batch []entry, _ uint64) error {
		if len(batch) > 0 {
			if err := j.write(batch); err != nil {
				return err
			}
			j.noteAll(batch)
		}
		if j.last() >= res.Position {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return errors.Join(err, j.close())
}

// replaceData puts the copy in place of the old data.
func (s *server) replaceData(incoming string) (response, error) {
	var res response
	s.mu.Lock()
	defer s.mu.Unlock()
	db := filepath.Join(s.dir, "db")
	aside := ""
	if s.journal.last() > 0 {
		aside = filepath.Join(s.dir, "set-aside-"+time.Now().UTC().Format("20060102T150405.000000000Z"))
		if err := os.Rename(db, aside); err != nil {
			return res, err
		}
	} else if err := os.RemoveAll(db); err != nil { // an empty log
		return res, err
	}
	old := s.journal
	err := os.Rename(incoming, db)
	if err == nil {
		err = dbhooks.SyncDir(s.dir)
	}
	if err == nil {
		err = s.open()
	}
	if err != nil {
		s.fail(fmt.Errorf("clone: put the copy in place: %w", err))
		return res, err
	}
	for conn := range s.streams {
		conn.Close()
	}
	s.primary = false
	s.follow = following{reason: "cloned, not yet told whom to follow"}
	s.notify()
	s.log.Info("cloned", "position", s.journal.last(), "setAside", aside)
	return response{History: s.journal.current().id, Position: s.journal.last(), SetAside: aside}, old.close()
}

// reload takes the settings that may change while it runs.
func (s *server) reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	settings, err := s.settings.load(s.dir)
	if err != nil {
		return err
	}
	s.settings.SyncReplicas = settings.SyncReplicas
	s.acknowledge()
	return nil
}
