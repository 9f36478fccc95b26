package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"ferryman"
)

// Machine is the replicated state. Its methods are called by one goroutine,
// never at the same time, and must depend on nothing but what they are given.
type Machine interface {
	// Apply carries out the committed entry at index and returns what its
	// proposer is told. It must not keep or change data, which nodes in one
	// process share. If it returns an error with a method `Fatal() bool` that
	// says true, this node cannot go on (it does not know the command, say):
	// it applies nothing more, and Node.Done is closed.
	Apply(index uint64, data []byte) any
	// Snapshot returns the whole state.
	Snapshot() ([]byte, error)
	// Restore replaces the whole state.
	Restore(data []byte) error
}

// configuration is a committed configuration and the index of its entry, which
// is what a change compares and swaps against.
type configuration struct {
	Index   uint64   `json:"index"`
	Servers []Server `json:"servers"`
}

// replica stands between raft and the Machine. It knows what was really
// applied, because raft's own AppliedIndex is only what was handed over, and
// the committed configuration with its index, because raft does not tell.
type replica struct {
	machine Machine
	halt    func(error) // called once, when the machine cannot go on
	moved   bell        // rings when applied moves

	mu      sync.Mutex
	applied uint64
	conf    configuration
	halted  error
}

var (
	_ raft.FSM                = (*replica)(nil)
	_ raft.ConfigurationStore = (*replica)(nil)
)

// answer is what the proposer of an entry hears through raft.
type answer struct {
	term   uint64
	result any
	err    error
}

func (r *replica) Apply(l *raft.Log) any {
	if err := r.stopped(); err != nil {
		return answer{err: err}
	}
	out := answer{term: l.Term}
	term, data, err := decodeEntry(l.Data)
	switch {
	case err != nil:
		err = fmt.Errorf("entry %d of term %d: %w", l.Index, l.Term, err)
		r.stop(err)
		return answer{err: err}
	case len(data) == 0: // a barrier
		if term != 0 && term != l.Term {
			out.err = ferryman.ErrNotLeader
		}
	case term != l.Term:
		out.err = fmt.Errorf("%w: the entry is of term %d and came into the log in term %d", ferryman.ErrNotLeader, term, l.Term)
	default:
		out.result = r.machine.Apply(l.Index, data)
		if fatal := fatalOf(out.result); fatal != nil {
			fatal = fmt.Errorf("entry %d of term %d: %w", l.Index, l.Term, fatal)
			r.stop(fatal)
			return answer{err: fatal}
		}
	}
	r.advance(l.Index, nil)
	return out
}

// StoreConfiguration is called by raft with every committed configuration.
func (r *replica) StoreConfiguration(index uint64, c raft.Configuration) {
	if r.stopped() != nil {
		return
	}
	r.advance(index, &configuration{Index: index, Servers: serversOf(c)})
}

// Snapshot is the machine's, below a line of JSON with what the replica knows.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	if err := r.stopped(); err != nil {
		return nil, err
	}
	state, err := r.machine.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("take a snapshot of the state: %w", err)
	}
	r.mu.Lock()
	head, err := json.Marshal(snapshotHead{Applied: r.applied, Configuration: r.conf})
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return snapshot(bytes.Join([][]byte{head, state}, []byte{'\n'})), nil
}

func (r *replica) Restore(from io.ReadCloser) error {
	if err := r.stopped(); err != nil {
		return err
	}
	all, err := io.ReadAll(from)
	if err != nil {
		return fmt.Errorf("read a snapshot: %w", err)
	}
	line, state, found := bytes.Cut(all, []byte{'\n'})
	var head snapshotHead
	if err := json.Unmarshal(line, &head); !found || err != nil {
		err = fmt.Errorf("read a snapshot of %d bytes: its first line is not ours: %w", len(all), err)
		r.stop(err)
		return err
	}
	if err := r.machine.Restore(state); err != nil {
		err = fmt.Errorf("restore the state up to entry %d: %w", head.Applied, err)
		r.stop(err)
		return err
	}
	r.advance(head.Applied, &head.Configuration)
	return nil
}

func (r *replica) advance(index uint64, conf *configuration) {
	r.mu.Lock()
	r.applied = index
	if conf != nil {
		r.conf = *conf
	}
	r.mu.Unlock()
	r.moved.ring()
}

// at returns the index that the machine has applied.
func (r *replica) at() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied
}

// committed returns the committed configuration.
func (r *replica) committed() configuration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conf
}

func (r *replica) stopped() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.halted
}

func (r *replica) stop(err error) {
	r.mu.Lock()
	r.halted = err
	r.mu.Unlock()
	r.halt(err)
}

// wait returns when the machine has applied index, or ctx or the node ended.
func (r *replica) wait(ctx, node context.Context, index uint64) error {
	for {
		heard := r.moved.heard()
		if r.at() >= index {
			return nil
		}
		select {
		case <-heard:
		case <-node.Done():
			return context.Cause(node)
		case <-ctx.Done():
			return fmt.Errorf("wait for entry %d, applied is %d: %w", index, r.at(), context.Cause(ctx))
		}
	}
}

func fatalOf(result any) error {
	err, ok := result.(error)
	if !ok {
		return nil
	}
	var fatal interface{ Fatal() bool }
	if errors.As(err, &fatal) && fatal.Fatal() {
		return err
	}
	return nil
}

type snapshotHead struct {
	Applied       uint64        `json:"applied"`
	Configuration configuration `json:"configuration"`
}

type snapshot []byte

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) Release() {}
