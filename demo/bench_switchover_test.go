package demo

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks/demodb"
)

// probes write to every instance at the same time, as fast as each answers, so
// that the longest time without any acknowledged write is that of the cluster:
// it does not depend on how a client finds the primary.
type probes struct {
	cancel context.CancelFunc
	owned  sync.WaitGroup

	mu   sync.Mutex
	last time.Time
	gap  time.Duration
	from time.Time // when the longest gap began
}

// put writes once and returns nil when the write is acknowledged.
type put func(ctx context.Context, n int) error

// probe writes until stop. An instance that refuses is asked again a moment
// later.
func probe(ctx context.Context, puts ...put) *probes {
	p := &probes{}
	ctx, p.cancel = context.WithCancel(ctx)
	for _, write := range puts {
		p.owned.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := write(ctx, n); err == nil {
					p.acknowledged()
					continue
				}
				select {
				case <-time.After(2 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return p
}

func (p *probes) acknowledged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.last.IsZero() && now.Sub(p.last) > p.gap {
		p.gap, p.from = now.Sub(p.last), p.last
	}
	p.last = now
}

// restart forgets the longest gap.
func (p *probes) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap = 0
}

func (p *probes) longest() (time.Duration, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gap, p.from
}

func (p *probes) stop() {
	p.cancel()
	p.owned.Wait()
}

// services are the addresses of all of them, in no order.
func services(r ferryman.Report) (list []string) {
	for _, m := range r.State.Members {
		for _, s := range m.Services {
			list = append(list, s.Address)
		}
	}
	return list
}

// switchovers moves the primary b.N times and reports the longest gap of each.
func (c *troupe) switchovers(p *probes) {
	c.b.Helper()
	trace := os.Getenv("FERRYMAN_BENCH_TRACE") != ""
	var gaps series
	for c.b.Loop() {
		r := c.settle()
		time.Sleep(50 * time.Millisecond) // writes before
		p.restart()
		epoch := r.State.Primary.Epoch
		var to ferryman.Member
		for id, m := range r.State.Members {
			if id != r.State.Primary.Node {
				to = m
				break
			}
		}
		if err := c.stage.request(c.b.Context(), ferryman.Request{Kind: ferryman.RequestSwitchover, Node: to.Name, By: "a benchmark"}); err != nil {
			c.b.Fatal(err)
		}
		after := c.wait(func(r ferryman.Report) error {
			if r.State.Primary.Epoch == epoch {
				return errors.New("the primary did not move")
			}
			return settled(c.doc, c.doc.Database.Version)(r)
		})
		time.Sleep(50 * time.Millisecond) // writes after
		gap, from := p.longest()
		gaps = append(gaps, gap)
		if trace {
			c.trace(r, after, gap, from)
		}
	}
	gaps.tell(c.b, "gap")
}

// trace shows where the time went: each step against the beginning of the gap.
func (c *troupe) trace(before, after ferryman.Report, gap time.Duration, from time.Time) {
	last := uint64(0)
	for _, st := range before.State.Ledger {
		last = max(last, st.ID)
	}
	ms := func(t time.Time) float64 { return float64(t.Sub(from).Microseconds()) / 1000 }
	c.b.Logf("gap %v, leader %s", gap, before.State.Members[before.View.Self].Name)
	for _, st := range after.State.Ledger {
		if st.ID > last && st.Outcome != nil {
			c.b.Logf("  %-8s %s: intent %7.1f began %7.1f ended %7.1f", st.Op, after.State.Members[st.Node].Name, ms(st.Since), ms(st.Outcome.Began), ms(st.Outcome.Ended))
		}
	}
}

// BenchmarkSwitchoverDemodb is the longest time without an acknowledged write
// around a planned switchover of three demodb instances; a write is acknowledged
// by the primary and one replica. Run it with -benchtime=20x or more.
func BenchmarkSwitchoverDemodb(b *testing.B) {
	c := form(b, demoEngine{}, byPerson)
	var puts []put
	for _, addr := range services(c.settle()) {
		client := demodb.Dial(addr)
		defer client.Close()
		puts = append(puts, func(ctx context.Context, n int) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return client.Put(ctx, "probe", key(n))
		})
	}
	p := probe(b.Context(), puts...)
	defer p.stop()
	c.switchovers(p)
}
