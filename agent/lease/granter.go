package lease

import (
	"sync"
	"time"

	"ferryman"
)

// Granter is Raft's leader's end. It remembers when it last answered, and
// nothing that must survive: a new leader waits as if it had just granted.
type Granter struct {
	clock func() time.Duration

	mu     sync.Mutex
	epoch  uint64
	last   time.Duration // of the newest grant for epoch, or since when there can be one
	began  bool          // this leadership, and nobody looked at it yet
	length ferryman.Duration
	steady time.Duration // since when length is what is committed
}

// NewGranter returns a granter by that clock.
func NewGranter(clock func() time.Duration) *Granter { return &Granter{clock: clock} }

// Lead begins a leadership, after its first barrier: what earlier leaders
// granted counts from now.
func (g *Granter) Lead() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock()
	g.epoch, g.last, g.steady, g.began = 0, now, now, true
}

// Grant answers a holder. The caller took a barrier of its own term after the
// request came; read says what is committed since, and refuses what must not be
// granted. It is read under the same lock that View takes, so that a View which
// was taken after a failover was committed has seen every grant there will be.
func (g *Granter) Grant(read func() (epoch uint64, length ferryman.Duration, err error)) (ferryman.Duration, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	epoch, length, err := read()
	if err != nil {
		return 0, err
	}
	g.epoch, g.last = epoch, g.clock()
	return length, nil
}

// View is what the plan is told of the lease in s, which was read before.
func (g *Granter) View(s ferryman.State) ferryman.LeaseView {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock()
	if g.epoch != s.Primary.Epoch {
		g.epoch = s.Primary.Epoch
		if !g.began { // the first epoch of a leadership is older than that: its grants count from Lead
			g.last = now
		}
	}
	g.began = false
	var length ferryman.Duration
	if s.Primary.Lease != nil {
		length = s.Primary.Lease.Length
	}
	if g.length != length {
		g.length, g.steady = length, now
	}
	v := ferryman.LeaseView{Epoch: g.epoch, Quiet: ferryman.Duration(now - g.last), Steady: ferryman.Duration(now - g.steady), Length: length}
	if s.Failover != nil {
		v.Closed = s.Failover.FirstStep
	}
	return v
}
