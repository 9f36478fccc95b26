package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ferryman"
)

// Leader is what only the leader can do. It is lent to the function that Lead
// runs and serves as long as that leadership lasts; after it, everything fails
// with ferryman.ErrNotLeader, also if this node leads again.
//
// Every index returned is one that WaitApplied and Status.Applied can be
// compared with, on every node.
type Leader interface {
	// Propose commits data, at most MaxEntry bytes, and returns what the
	// machine made of it on this node. If the error is ErrUnknownOutcome or
	// ctx's, the entry may be carried out yet.
	Propose(ctx context.Context, data []byte) (index uint64, result any, err error)
	// Barrier returns when everything committed before is applied here, and a
	// majority of voters has confirmed this leader since the call.
	Barrier(ctx context.Context) (index uint64, err error)
	// Term is the term of this leadership.
	Term() uint64

	// AddNonvoter adds a node that receives everything and has no vote, or
	// gives such a node a new address. It refuses an address in use, and voters.
	AddNonvoter(ctx context.Context, id, address string) (index uint64, err error)
	// AddVoter gives a node of the configuration its vote, at once: that it has
	// caught up is for the caller to know.
	AddVoter(ctx context.Context, id string) (index uint64, err error)
	// DemoteVoter takes the vote from any node but this one. It is over when
	// the node itself has applied index.
	DemoteVoter(ctx context.Context, id string) (index uint64, err error)
	// Remove takes any node but this one out of the configuration.
	Remove(ctx context.Context, id string) (index uint64, err error)
	// Transfer hands leadership to a voter and returns nil once that node is
	// seen to lead. That ends this leadership and its context, not this call.
	Transfer(ctx context.Context, id string) error
	// Configuration returns the committed configuration.
	Configuration() ([]Server, error)
}

// leadership is one time of leading, from raft's word to raft's word.
type leadership struct {
	node *Node
	// ctx ends with the leadership; the cause is ferryman.ErrNotLeader, or the
	// node's end.
	ctx    context.Context
	cancel context.CancelCauseFunc

	established chan struct{} // closed after the first barrier, which set term
	term        uint64
}

// turn is called by watch when raft says that this node leads, or no longer.
func (n *Node) turn(leads bool) {
	if old := n.current.Swap(nil); old != nil {
		old.cancel(fmt.Errorf("leadership ended: %w", ferryman.ErrNotLeader))
	}
	if !leads {
		return
	}
	l := &leadership{node: n, established: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(n.ctx)
	n.current.Store(l)
}

// Leader returns the present leadership, for calls from outside of Lead's
// function; false if this node does not lead, or Lead has not yet taken its
// first barrier.
func (n *Node) Leader() (Leader, bool) {
	l := n.current.Load()
	if l == nil || l.ctx.Err() != nil {
		return nil, false
	}
	select {
	case <-l.established:
		return l, true
	default:
		return nil, false
	}
}

// Lead runs f whenever this node leads, after a barrier: what was committed
// before is applied. The context of f ends with the leadership, with the cause
// ferryman.ErrNotLeader; f must return then, and does not run again before it
// has. If f returns nil before, it is not run again in that leadership.
//
// Lead itself returns nil when ctx ends, the node's Err when the node ends, and
// f's error if f fails while this node leads.
func (n *Node) Lead(ctx context.Context, f func(context.Context, Leader) error) error {
	if !n.leading.TryLock() {
		return errors.New("lead: already leading by another function")
	}
	defer n.leading.Unlock()
	for {
		l, err := n.awaitLeadership(ctx)
		if err != nil || l == nil {
			return err
		}
		if err := n.lead(ctx, l, f); err != nil {
			return fmt.Errorf("lead in term %d: %w", l.term, err)
		}
	}
}

// awaitLeadership returns nil when ctx ends first.
func (n *Node) awaitLeadership(ctx context.Context) (*leadership, error) {
	for {
		heard := n.turned.heard()
		if l := n.current.Load(); l != nil && l.ctx.Err() == nil && ctx.Err() == nil {
			return l, nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return nil, nil
		case <-n.ctx.Done():
			return nil, n.Err()
		}
	}
}

func (n *Node) lead(ctx context.Context, l *leadership, f func(context.Context, Leader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	defer stop()

	if !l.establish(ctx) {
		return nil
	}
	n.log.Info("leading", "term", l.term)
	err := f(ctx, l)
	if err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	n.log.Info("leading no longer", "term", l.term, "cause", context.Cause(ctx))
	return nil
}

// establish takes the barrier without which a new leader may not yet know what
// its predecessors committed. It tries until ctx ends.
func (l *leadership) establish(ctx context.Context) bool {
	select {
	case <-l.established: // by an earlier call of Lead
		return ctx.Err() == nil
	default:
	}
	for ctx.Err() == nil {
		_, a, err := l.commit(ctx, encodeEntry(0, nil))
		if err == nil && l.ctx.Err() == nil {
			l.term = a.term
			close(l.established)
			return true
		}
		l.node.log.Warn("the first barrier of a leadership failed", "error", err)
		select {
		case <-time.After(l.node.cfg.Heartbeat / 4):
		case <-ctx.Done():
		}
	}
	return false
}

func (l *leadership) Term() uint64 { return l.term }

func (l *leadership) Propose(ctx context.Context, data []byte) (uint64, any, error) {
	if len(data) == 0 || len(data) > MaxEntry {
		return 0, nil, fmt.Errorf("propose %d bytes: %w (1 to %d are allowed)", len(data), ErrTooLarge, MaxEntry)
	}
	index, a, err := l.commit(ctx, encodeEntry(l.term, data))
	if err != nil {
		return 0, nil, fmt.Errorf("propose: %w", err)
	}
	l.spread()
	return index, a.result, nil
}

// spread has the others hear of a commit at once. They learn of it with the
// next message, which raft sends for that purpose only after commitTimeout. But
// a node waits for the intents of its steps, so that this would be most of a
// switchover's write gap. An empty entry is a message with a reason of its own.
// Nobody waits for it.
func (l *leadership) spread() {
	l.node.calls.start(func() {
		_ = l.node.raft.Apply(encodeEntry(l.term, nil), enqueueTimeout).Error()
	})
}

func (l *leadership) Barrier(ctx context.Context) (uint64, error) {
	index, _, err := l.commit(ctx, encodeEntry(l.term, nil))
	if err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	l.spread()
	return index, nil
}

// commit gives raft an entry and waits until it is applied here.
func (l *leadership) commit(ctx context.Context, entry []byte) (uint64, answer, error) {
	type committed struct {
		index uint64
		answer
	}
	r := l.node.raft
	got, err := await(ctx, l, func() (committed, error) {
		f := r.Apply(entry, enqueueTimeout)
		if err := f.Error(); err != nil {
			return committed{}, err
		}
		a, _ := f.Response().(answer)
		return committed{f.Index(), a}, a.err
	})
	return got.index, got.answer, err
}

// await makes a call to raft that cannot be cut short, in a goroutine that the
// node owns, and waits for it or for ctx.
func await[T any](ctx context.Context, l *leadership, call func() (T, error)) (T, error) {
	type reply struct {
		value T
		err   error
	}
	var none T
	if l.ctx.Err() != nil {
		return none, context.Cause(l.ctx)
	}
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	done := make(chan reply, 1)
	if !l.node.calls.start(func() {
		v, err := call()
		done <- reply{v, outcome(err)}
	}) {
		return none, ErrClosed
	}
	over := l.node.ctx
	select {
	case r := <-done:
		return r.value, r.err
	case <-over.Done():
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), ferryman.ErrNotLeader) {
			over = ctx
			break
		}
		// Raft answers what is under way when leadership ends, and its answer
		// says more. Only a node that closes may owe it.
		select {
		case r := <-done:
			return r.value, r.err
		case <-over.Done():
		}
	}
	return none, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(over))
}
