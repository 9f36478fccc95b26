package cluster

import (
	"sync"
	"time"
)

// inflight counts the calls to raft that are under way, so that closing can
// wait for them: raft leaves those unanswered that it has handed to the state
// machine's goroutine when it is shut down.
type inflight struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when the last one ended after close
}

// start runs call in a goroutine of its own, unless closing has begun.
func (i *inflight) start(call func()) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return false
	}
	i.n++
	go func() {
		defer i.end()
		call()
	}()
	return true
}

func (i *inflight) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n--
	if i.n == 0 && i.idle != nil {
		close(i.idle)
		i.idle = nil
	}
}

// close refuses new calls and waits, no longer than limit, until none is under
// way. It reports whether none is.
func (i *inflight) close(limit time.Duration) bool {
	i.mu.Lock()
	i.closed = true
	if i.n == 0 {
		i.mu.Unlock()
		return true
	}
	if i.idle == nil {
		i.idle = make(chan struct{})
	}
	idle := i.idle
	i.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
		return false
	}
}
