package conformance

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"
)

// writer writes keys one after the other, each until some instance acknowledges it.
type writer struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	done int // keys 0 to done-1 are acknowledged
	more chan struct{}
	last time.Time
	gap  time.Duration // the longest between two acknowledgements; to be told, never to be judged
}

// acknowledged says that the keys 0 to n-1 were.
type acknowledged int

func startWriter(t *testing.T, s Suite, nodes []*node) *writer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{cancel: cancel, ended: make(chan struct{}), more: make(chan struct{})}
	t.Cleanup(func() {
		cancel()
		<-w.ended
	})
	go func() {
		defer close(w.ended)
		for i := 0; ctx.Err() == nil; i++ {
			n := nodes[i%len(nodes)]
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			for s.Put(attempt, n.cfg, strconv.Itoa(w.done), "v"+strconv.Itoa(w.done)) == nil {
				w.count()
			}
			cancel()
		}
	}()
	return w
}

func (w *writer) count() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.done > 0 {
		w.gap = max(w.gap, now.Sub(w.last))
	}
	w.done, w.last = w.done+1, now
	close(w.more)
	w.more = make(chan struct{})
}

// untilMore waits until n more writes are acknowledged.
func (w *writer) untilMore(t *testing.T, n int) {
	t.Helper()
	late := time.After(patience)
	w.mu.Lock()
	want := w.done + n
	w.mu.Unlock()
	for {
		w.mu.Lock()
		done, more := w.done, w.more
		w.mu.Unlock()
		if done >= want {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("writes: %d are acknowledged, want %d", done, want)
		}
	}
}

func (w *writer) stop(t *testing.T) acknowledged {
	t.Helper()
	w.cancel()
	<-w.ended
	if w.done == 0 {
		t.Error("no write was acknowledged: the test shows nothing")
	}
	return acknowledged(w.done)
}

// check reads every acknowledged key.
func (a acknowledged) check(t *testing.T, n *node) {
	t.Helper()
	for i := range int(a) {
		n.has(t, strconv.Itoa(i), "v"+strconv.Itoa(i))
		if t.Failed() {
			t.Fatalf("acknowledged write %d of %d is missing or unreadable on %s", i, a, n.cfg.Address)
		}
	}
}
