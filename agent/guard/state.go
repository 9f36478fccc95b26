package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ferryman/dbhooks"
)

var (
	// ErrArmed says that the guard holds a deadline: disarm it first.
	ErrArmed = errors.New("guard is armed")
	// ErrFencing says that the deadline has come, and the database is being killed: it is too late for anything else.
	ErrFencing = errors.New("guard is fencing")
)

// state is what the next guard goes on with. Its methods are the rules; each returns the changed state and leaves the receiver as it was.
type state struct {
	Boot     string        `json:"boot"`     // of which host's boot; void under another one
	Epoch    uint64        `json:"epoch"`    // the newest that was heard of
	Armed    bool          `json:"armed"`    // at the Deadline the database is fenced at Epoch
	Deadline time.Duration `json:"deadline"` // nanoseconds of Boottime
	Fenced   uint64        `json:"fenced"`   // the epoch that was fenced last
	Enforced bool          `json:"enforced"` // it was armed, and not released since
}

// due says that the database is to be killed now.
func (s state) due(now time.Duration) bool { return s.Armed && now >= s.Deadline }

// known refuses an epoch that is too old, and anything once the deadline has come.
func (s state) known(what string, epoch uint64, now time.Duration) error {
	switch {
	case epoch == 0:
		return fmt.Errorf("%s: %w: epochs begin at 1", what, dbhooks.ErrEpoch)
	case epoch < s.Epoch:
		return fmt.Errorf("%s at epoch %d: %w: the guard knows epoch %d", what, epoch, dbhooks.ErrEpoch, s.Epoch)
	case s.due(now):
		return fmt.Errorf("%s at epoch %d: %w: the deadline of epoch %d has passed", what, epoch, ErrFencing, s.Epoch)
	}
	return nil
}

// arm moves the deadline on. Within an epoch it never goes back. A renewal that comes after the fence is refused, so that nobody takes it for one that came
// in time; who wants the same epoch again says so by disarm first.
func (s state) arm(epoch uint64, deadline, now time.Duration) (state, error) {
	if err := s.known("arm the guard", epoch, now); err != nil {
		return s, err
	}
	if epoch == s.Fenced {
		return s, fmt.Errorf("arm the guard at epoch %d: %w at this epoch: disarm it first if the database is to go on", epoch, dbhooks.ErrFenced)
	}
	if deadline <= now {
		return s, fmt.Errorf("arm the guard at epoch %d: the deadline passed %v ago: get a newer lease", epoch, now-deadline)
	}
	if s.Armed && epoch == s.Epoch {
		deadline = max(deadline, s.Deadline)
	}
	s.Epoch, s.Armed, s.Deadline, s.Enforced = epoch, true, deadline, true
	return s, nil
}

// disarm ends the deadline: the database was fenced by the engine, or is to go on after the fence of this epoch.
func (s state) disarm(epoch uint64, now time.Duration) (state, error) {
	if err := s.known("disarm the guard", epoch, now); err != nil {
		return s, err
	}
	if s.Fenced == epoch {
		s.Fenced = 0
	}
	s.Epoch, s.Armed, s.Deadline = epoch, false, 0
	return s, nil
}

// done notes that the epoch is fenced.
func (s state) done() state {
	s.Armed, s.Deadline, s.Fenced = false, 0, s.Epoch
	return s
}

// release forgets that there ever was a lease: failover is a person's matter from now on.
func (s state) release() (state, error) {
	if s.Armed {
		return s, fmt.Errorf("release the guard: %w at epoch %d: disarm it first", ErrArmed, s.Epoch)
	}
	s.Enforced = false
	return s, nil
}

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

// save replaces the file in one step. Nothing is synced: only the end of a process must not lose it, and after a boot it is void.
func (s state) save(dir string) error {
	raw, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(statePath(dir)+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(statePath(dir)+".new", statePath(dir))
	}
	if err != nil {
		return fmt.Errorf("guard: keep its state: %w", err)
	}
	return nil
}

// load reads the state of this boot. The error says that there was one that cannot be read, which only a crash of the host leaves behind.
func load(dir, boot string) (state, error) {
	fresh, s := state{Boot: boot}, state{}
	raw, err := os.ReadFile(statePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return fresh, fmt.Errorf("guard: read its state: %w", err)
	}
	if s.Boot != boot {
		return fresh, nil
	}
	return s, nil
}
