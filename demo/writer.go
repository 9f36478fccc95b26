package demo

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// writer writes one key after the other, for as long as the demo plays, and
// remembers each write that was acknowledged and how long none was.
type writer struct {
	client keyWriter
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	addrs []string
	acked int // keys 0…acked-1
	last  time.Time
	act   string
	gaps  map[string]time.Duration
}

// pace is the pause between two writes: a gap of a switchover shows to a few
// milliseconds, and the log stays small.
const pace = 4 * time.Millisecond

func newWriter(s *stage, e engine) *writer {
	w := &writer{gaps: map[string]time.Duration{}}
	w.client = e.writer(w.instances)
	return w
}

func (w *writer) instances() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addrs
}

// know tells the writer where instances are.
func (w *writer) know(addrs []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs = addrs
}

// start begins to write, in an act.
func (w *writer) start(ctx context.Context, act string) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.ended = make(chan struct{})
	w.enter(act)
	go w.run(ctx)
}

func (w *writer) run(ctx context.Context) {
	defer close(w.ended)
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := w.client.Put(ctx, key(i), value(i)); err != nil {
			return // only the end of ctx ends a Put
		}
		w.took(i)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func key(i int) string   { return fmt.Sprintf("key-%08d", i) }
func value(i int) string { return fmt.Sprintf("value-%d", i*7919) }

func (w *writer) took(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if !w.last.IsZero() {
		w.gaps[w.act] = max(w.gaps[w.act], now.Sub(w.last))
	}
	w.acked, w.last = i+1, now
}

// enter begins another act, for the gaps.
func (w *writer) enter(act string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.act = act
}

// seen returns how many writes were acknowledged, how long ago the last one
// was, and the longest gap of an act.
func (w *writer) seen(act string) (acked int, since, gap time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.IsZero() {
		since = time.Since(w.last)
	}
	return w.acked, since, w.gaps[act]
}

func (w *writer) stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.ended
	}
	w.client.Close()
}
