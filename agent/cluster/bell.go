package cluster

import "sync"

// bell wakes everyone who waits. Take the channel first, then look at what is
// waited for, then wait: so no ring is missed.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *bell) heard() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
