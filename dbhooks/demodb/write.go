package demodb

import (
	"context"
	"errors"
	"fmt"
)

// write is a put on its way: pending, then in the log, then acknowledged or given up.
type write struct {
	key, value string
	position   uint64
	done       chan error // holds one: the outcome
}

// put returns nil once the write is acknowledged, a NotPrimaryError if it was not accepted, and ErrUnknown when it was and cannot be acknowledged.
func (s *server) put(ctx context.Context, key, value string) error {
	w := &write{key: key, value: value, done: make(chan error, 1)}
	s.mu.Lock()
	if len(value) > s.settings.MaxValueBytes {
		s.mu.Unlock()
		return refused("a value of %d bytes: at most %d (maxValueBytes)", len(value), s.settings.MaxValueBytes)
	}
	if !s.writable {
		err := s.notPrimary()
		s.mu.Unlock()
		return err
	}
	s.pending = append(s.pending, w)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: not acknowledged in time: %w", ErrUnknown, ctx.Err())
	}
}

func (s *server) notPrimary() error {
	e := &NotPrimaryError{Primary: s.marker.From, Reason: "a replica"}
	if s.marker.Fenced {
		e.Reason = fmt.Sprintf("fenced at epoch %d", s.marker.Epoch)
	} else if s.marker.From == "" {
		e.Reason = "not promoted"
	}
	return e
}

// commit is the committer: it writes what is pending in one append with one sync, for as long as the process lives.
func (s *server) commit(ctx context.Context) {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			s.giveUp(errors.New("the process is stopping"))
			return
		}
		for s.commitBatch() {
		}
	}
}

func (s *server) commitBatch() bool {
	s.mu.Lock()
	batch, next := s.pending, s.journal.last()+1
	s.pending, s.busy = nil, len(batch) > 0
	s.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	entries := make([]entry, len(batch))
	for i, w := range batch {
		w.position = next + uint64(i)
		entries[i] = entry{kind: kindPut, position: w.position, key: w.key, value: w.value}
	}
	err := s.append(entries)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if err != nil {
		for _, w := range batch {
			w.done <- fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		s.writable = false
	} else {
		s.waiting = append(s.waiting, batch...)
		s.acknowledge()
	}
	s.notify()
	return true
}

// append writes the entries to the log and applies them. A log that cannot be written ends the process: what is on disk is no longer known.
func (s *server) append(entries []entry) error {
	if err := s.journal.write(entries); err != nil {
		s.fail(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal.noteAll(entries)
	for _, e := range entries {
		applyTo(s.data, e)
	}
	s.notify()
	return nil
}

// safe is the position up to which all is safe by the rule of SyncReplicas; mu is held.
func (s *server) safe() uint64 {
	if s.settings.SyncReplicas == 0 {
		return s.journal.last()
	}
	safe := uint64(0)
	for _, st := range s.streams {
		safe = max(safe, st.acked)
	}
	return safe
}

// acknowledge finishes the writes that are safe; mu is held.
func (s *server) acknowledge() {
	safe, n := s.safe(), 0
	for ; n < len(s.waiting) && s.waiting[n].position <= safe; n++ {
		s.waiting[n].done <- nil
	}
	s.waiting = s.waiting[n:]
	s.notify() // who reads from the primary may wait for it, too
}

// giveUp ends, with ErrUnknown, the writes that are not acknowledged yet: afterwards nothing more can be.
func (s *server) giveUp(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writable = false
	for _, w := range append(s.waiting, s.pending...) {
		w.done <- fmt.Errorf("%w: %w", ErrUnknown, why)
	}
	s.waiting, s.pending = nil, nil
	s.notify()
}

// stopWrites accepts no more of them, lets those that were accepted reach the log, and gives up on those that are not acknowledged by then: the log's
// last position covers all that was ever acknowledged, and nothing can be added to either.
func (s *server) stopWrites(ctx context.Context, why error) error {
	s.mu.Lock()
	s.writable = false
	s.notify()
	s.mu.Unlock()
	if err := s.until(ctx, func() bool { return len(s.pending) == 0 && !s.busy }); err != nil {
		return fmt.Errorf("writes stopped, but those in flight did not reach the log: %w", err)
	}
	s.giveUp(why)
	return nil
}
