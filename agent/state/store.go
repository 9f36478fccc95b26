package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"ferryman"
)

// Applied is what a log entry came to: its events, or why it was refused.
type Applied struct {
	Events []ferryman.Event
	Err    error
}

// Proposer commits a log entry, and returns what the store made of it.
type Proposer interface {
	Propose(ctx context.Context, data []byte) (index uint64, result any, err error)
}

// Propose commits a command after the state s, and returns why it was refused, if
// it was: somebody else may have changed the state in between.
func Propose(ctx context.Context, s ferryman.State, to Proposer, c Command) error {
	data, err := Encode(s, c)
	if err != nil {
		return err
	}
	_, result, err := to.Propose(ctx, data)
	if err != nil {
		return err
	}
	applied, ok := result.(Applied)
	if !ok {
		return errors.New("the state machine gave no answer")
	}
	return applied.Err
}

// Store holds the replicated state on one node. Raft applies to it; everyone
// else reads. What State returns is never changed afterwards.
type Store struct {
	log  *slog.Logger
	fail func(error)

	mu      sync.Mutex
	state   ferryman.State
	index   uint64
	changed chan struct{}
}

// NewStore returns an empty store. fail is called when a log entry cannot be
// understood; the node must then stop, and applies nothing more.
func NewStore(log *slog.Logger, fail func(error)) *Store {
	return &Store{log: log, fail: fail, changed: make(chan struct{})}
}

// State returns the state and the index of the log entry that made it.
func (s *Store) State() (ferryman.State, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.index
}

// Changed returns a channel that is closed with the next change.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Apply applies a log entry; it returns an Applied.
func (s *Store) Apply(index uint64, data []byte) any {
	c, err := Decode(data)
	if err != nil {
		s.fail(fmt.Errorf("apply log entry %d: %w", index, err))
		return Applied{Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next, events, err := Apply(s.state, c)
	s.index = index
	if err != nil {
		s.log.Debug("command refused", "index", index, "reason", err)
		return Applied{Err: err}
	}
	s.set(next)
	for _, e := range events {
		level := slog.LevelInfo
		if e.Bad {
			level = slog.LevelWarn
		}
		s.log.Log(context.Background(), level, e.Text, "kind", e.Kind, "node", string(e.Node), "step", e.Step, "event", e.Seq)
	}
	return Applied{Events: events}
}

func (s *Store) set(next ferryman.State) {
	s.state = next
	close(s.changed)
	s.changed = make(chan struct{})
}

type snapshot struct {
	Format uint32         `json:"format"`
	Index  uint64         `json:"index"`
	State  ferryman.State `json:"state"`
}

// Snapshot writes the state as JSON, for every agent that understands its format.
func (s *Store) Snapshot() ([]byte, error) {
	state, index := s.State()
	return json.Marshal(snapshot{Format: state.Format, Index: index, State: state})
}

// Restore replaces the state by a snapshot's.
func (s *Store) Restore(data []byte) error {
	var snap snapshot
	if err := json.Unmarshal(data, &snap); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	if snap.Format > Format {
		err := fmt.Errorf("restore snapshot: %w", tooNew(snap.Format))
		s.fail(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = snap.Index
	s.set(snap.State)
	return nil
}
