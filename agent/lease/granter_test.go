package lease_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/lease"
)

// granting is what a leader has committed, as a granter reads it.
func granting(epoch uint64, length time.Duration) func() (uint64, ferryman.Duration, error) {
	return func() (uint64, ferryman.Duration, error) { return epoch, ferryman.Duration(length), nil }
}

func refusing() (uint64, ferryman.Duration, error) { return 0, 0, ferryman.ErrRefused }

// primaryOf is a state whose primary of epoch has a lease of that length.
func primaryOf(epoch uint64, length time.Duration) ferryman.State {
	l := ferryman.Duration(length)
	return ferryman.State{Primary: ferryman.Primary{Node: "n1", Epoch: epoch, Lease: &ferryman.Lease{Length: l, Longest: l}}}
}

// TestGranterView is about what a leader may say of grants: never that they are
// older than they are.
func TestGranterView(t *testing.T) {
	t.Parallel()
	manual := primaryOf(1, 0)
	manual.Primary.Lease = nil
	closed := primaryOf(1, 5*time.Second)
	closed.Failover = &ferryman.Failover{From: "n1", FirstStep: 7}
	type act func(g *lease.Granter)
	lead := func(g *lease.Granter) { g.Lead() }
	grant := func(epoch uint64, length time.Duration) act {
		return func(g *lease.Granter) { _, _ = g.Grant(granting(epoch, length)) }
	}
	look := func(s ferryman.State) act { return func(g *lease.Granter) { g.View(s) } }
	pass := func(*lease.Granter) {}
	refuse := func(g *lease.Granter) { _, _ = g.Grant(refusing) }
	of1 := primaryOf(1, 5*time.Second)
	for _, tt := range []struct {
		name          string
		acts          []act // a second passes after each
		s             ferryman.State
		quiet, steady time.Duration
		closed        uint64
	}{
		{"a new leader counts as if it had just granted", []act{lead}, of1, time.Second, 0, 0},
		{"however late it looks at the epoch", []act{lead, pass, pass, look(of1)}, of1, 4 * time.Second, time.Second, 0},
		{"and goes on counting", []act{lead, look(of1), look(of1), look(of1)}, of1, 4 * time.Second, 3 * time.Second, 0},
		{"a grant begins it anew", []act{lead, look(of1), look(of1), grant(1, 5*time.Second)}, of1, time.Second, 3 * time.Second, 0},
		{"also before it looked", []act{lead, pass, grant(1, 5*time.Second)}, of1, time.Second, 0, 0},
		{"a refusal does not", []act{lead, look(of1), refuse, refuse}, of1, 4 * time.Second, 3 * time.Second, 0},
		{"the next leadership of the same node does", []act{lead, look(of1), look(of1), lead}, of1, time.Second, time.Second, 0},
		{"so does another epoch", []act{lead, look(of1), look(of1)}, primaryOf(2, 5*time.Second), 0, 2 * time.Second, 0},
		{"and the first one", []act{lead, look(primaryOf(0, 5*time.Second))}, of1, 0, time.Second, 0},
		{"a grant of an epoch that was not looked at yet counts", []act{lead, look(of1), grant(2, 5*time.Second)}, primaryOf(2, 5*time.Second), time.Second, 2 * time.Second, 0},
		{"an older look at it only makes it longer", []act{lead, look(of1), grant(2, 5*time.Second), look(of1)}, primaryOf(2, 5*time.Second), 0, 3 * time.Second, 0},
		{"another length is steady from when it is seen", []act{lead, look(of1), look(of1)}, primaryOf(1, time.Second), 3 * time.Second, 0, 0},
		{"also the same after another", []act{lead, look(of1), look(primaryOf(1, time.Minute))}, of1, 3 * time.Second, 0, 0},
		{"none is a length too", []act{lead, look(of1), look(manual), look(of1)}, of1, 4 * time.Second, time.Second, 0},
		{"a failover is named by its first step", []act{lead, look(of1)}, closed, 2 * time.Second, time.Second, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				g := lease.NewGranter(func() time.Duration { return time.Since(began) })
				for _, a := range tt.acts {
					a(g)
					time.Sleep(time.Second)
				}
				want := ferryman.LeaseView{Epoch: tt.s.Primary.Epoch, Quiet: ferryman.Duration(tt.quiet), Steady: ferryman.Duration(tt.steady), Closed: tt.closed}
				if l := tt.s.Primary.Lease; l != nil {
					want.Length = l.Length
				}
				if got := g.View(tt.s); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestGrantAnswersWhatIsCommitted(t *testing.T) {
	t.Parallel()
	g := lease.NewGranter(func() time.Duration { return 0 })
	if got, err := g.Grant(granting(1, time.Minute)); got != ferryman.Duration(time.Minute) || err != nil {
		t.Errorf("got %v, %v; want a minute", got, err)
	}
	if got, err := g.Grant(refusing); got != 0 || !errors.Is(err, ferryman.ErrRefused) {
		t.Errorf("got %v, %v; want it refused", got, err)
	}
}

// A view that was taken after a failover was committed has seen every grant that
// there will be: none is read before and counted after.
func TestNoGrantSlipsPastAView(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	g := lease.NewGranter(func() time.Duration { return time.Duration(clock.Load()) })
	g.Lead()
	s := primaryOf(1, time.Second)
	g.View(s)
	reading, answer := make(chan struct{}), make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = g.Grant(func() (uint64, ferryman.Duration, error) {
			close(reading) // there is no failover yet
			<-answer
			return 1, ferryman.Duration(time.Second), nil
		})
	})
	<-reading
	s.Failover = &ferryman.Failover{From: "n1", FirstStep: 1}
	var v ferryman.LeaseView
	both.Go(func() { v = g.View(s) })
	clock.Store(int64(time.Minute))
	close(answer)
	both.Wait()
	if v.Quiet != 0 || v.Closed != 1 {
		t.Errorf("got %+v, want the grant that was under way in it", v)
	}
}
