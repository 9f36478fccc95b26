package agent

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// board is what this node says of itself: the runner's part, and where it is in
// the Raft group.
type board struct {
	n *node

	mu      sync.Mutex
	shown   ferryman.NodeStatus
	runner  uint64 // the runner's own number of what is shown
	changed chan struct{}
}

func newBoard(n *node) *board {
	b := &board{n: n, changed: make(chan struct{})}
	// Numbers of an earlier process must not come again: who waits for another
	// number would wait on.
	b.shown.Seq = uint64(time.Now().UnixMilli())
	b.look()
	return b
}

// look brings the board up to date. It returns the status and a channel that is
// closed with the next change.
func (b *board) look() (ferryman.NodeStatus, <-chan struct{}) {
	n := b.n
	b.mu.Lock()
	defer b.mu.Unlock()
	next := n.runner.Status()
	raft := n.raft.Status()
	seq := next.Seq
	next.ID, next.Name, next.Cluster, next.BootID = n.id, n.cfg.Node.Name, n.identity.Self().Cluster, n.bootID
	next.Agent = ferryman.Target{Version: n.deps.Version, RestartGeneration: n.runner.RestartGeneration()}
	next.Format = state.Format
	if next.Release == "" { // a restart of one that runs from a release starts that again
		next.Installed = n.installed.Load().(string)
	}
	next.Applied, next.Term, next.Leader = raft.Applied, raft.Term, ferryman.NodeID(raft.LeaderID)
	next.Lease = n.holder.Status()
	if why := n.holder.Problem(); why != "" {
		next.Problems = append(slices.Clip(next.Problems), why)
	}
	s, _ := n.store.State()
	// A log that is replayed holds documents that are older than what is known.
	if why := n.trust.look(s); why != "" && n.caughtUp.Load() {
		next.Problems = append(slices.Clip(next.Problems), why)
	}
	if why := n.raft.Slow(); why != "" {
		next.Problems = append(slices.Clip(next.Problems), why)
	}
	next.Seq = b.shown.Seq
	// The runner's number moves with all that is worth telling of its part.
	if seq != b.runner || !reflect.DeepEqual(own(next), own(b.shown)) {
		next.Seq++
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.shown, b.runner = next, seq
	return next, b.changed
}

// own is the part that is not the runner's.
func own(s ferryman.NodeStatus) ferryman.NodeStatus {
	s.Services, s.Staged, s.Running, s.Outcomes = nil, nil, nil, nil
	s.Seq = 0
	return s
}

// run looks whenever the runner, Raft or the state may have moved, and passes
// Raft's hints on to the loop.
func (b *board) run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { b.follow(ctx) })
	for {
		// The runner's number is read after look took it, and never runs back.
		b.mu.Lock()
		seen := b.runner
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-b.n.runner.Changed(seen):
		case <-b.n.leaseMoved:
		case <-b.n.raft.Changes():
			select {
			case b.n.wake <- struct{}{}:
			default:
			}
		}
		b.look()
	}
}

// follow looks after each entry that is applied here.
func (b *board) follow(ctx context.Context) {
	for ctx.Err() == nil {
		status, _ := b.look()
		if err := b.n.raft.WaitApplied(ctx, status.Applied+1); err != nil {
			return
		}
	}
}

// withdraw ends attempts here whose steps the leader closed: a step that was
// given up would hold its service otherwise.
func (n *node) withdraw(ctx context.Context) {
	for {
		moved := n.store.Changed()
		s, _ := n.store.State()
		for _, id := range n.runner.Status().Running {
			if st, ok := s.Step(id); ok && !st.Open() {
				n.runner.Cancel(id, st.Outcome.Reason)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		}
	}
}
