package runner

import (
	"reflect"
	"slices"
	"sync"
	"time"

	"ferryman"
)

// board is what the node shows of itself. A status on it is never changed, only replaced.
type board struct {
	mu      sync.Mutex
	shown   ferryman.NodeStatus
	changed chan struct{} // closed and replaced when Seq moves

	// selected, staged and problem are what the store said last.
	selected, staged []string
	agent            string // the digest of the agent's release that the next start runs
	putBack          *ferryman.PutBack
	problem          string
}

func (b *board) init() {
	// Numbers of an earlier process must not come again: a caller that waits for another number would wait on. Nothing changes once a millisecond.
	b.shown.Seq = uint64(time.Now().UnixMilli())
	b.changed = make(chan struct{})
}

// keepOutcomes is how many outcomes a status holds.
const keepOutcomes = 64

// Status is the runner's part of what the node says of itself: Seq, Services, Selected, Staged, Release, PutBack, Running, Outcomes and Problems. It is to be read only.
// Positions are always those of the last look; Seq moves only with everything else.
func (r *Runner) Status() ferryman.NodeStatus {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	return r.board.shown
}

// Changed returns a channel that is closed once the Seq of Status is another than seq; at once when it is already.
func (r *Runner) Changed(seq uint64) <-chan struct{} {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	if r.board.shown.Seq != seq {
		done := make(chan struct{})
		close(done)
		return done
	}
	return r.board.changed
}

// publish shows what is true now, and wakes those who wait if it is worth it. r.mu is held.
func (r *Runner) publish() {
	var next ferryman.NodeStatus
	next.Running = r.runs()
	for _, w := range r.watchers {
		next.Services = append(next.Services, w.status())
		w.mu.Lock()
		if w.problem != "" {
			next.Problems = append(next.Problems, w.problem)
		}
		if w.unit.Unfit != "" {
			next.Problems = append(next.Problems, w.unit.Unfit)
		}
		w.mu.Unlock()
	}
	next.Problems = append(next.Problems, r.journal.problems()...)
	next.Outcomes = slices.DeleteFunc(r.journal.outcomes(keepOutcomes), func(o ferryman.Outcome) bool { return r.running[o.Step] != nil })

	b := &r.board
	b.mu.Lock()
	defer b.mu.Unlock()
	next.Selected, next.Staged = b.selected, b.staged
	next.Release, next.PutBack = r.deps.Release, b.putBack
	if b.problem != "" {
		next.Problems = append(next.Problems, b.problem)
	}
	next.Seq = b.shown.Seq
	if !reflect.DeepEqual(lasting(next), lasting(b.shown)) {
		next.Seq++
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.shown = next
}

// lasting leaves out what a busy database changes all the time by itself.
func lasting(n ferryman.NodeStatus) ferryman.NodeStatus {
	n.Services = slices.Clone(n.Services)
	for i := range n.Services {
		n.Services[i].Instance.Position, n.Services[i].Instance.Lag = 0, 0
	}
	return n
}
