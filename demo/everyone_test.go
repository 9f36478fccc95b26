package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks/demodb"
)

// everyone is a client that writes to every instance all the time, whoever the
// primary is, so that a second one would be found out. Each instance has a
// goroutine and a connection of its own; new addresses come from the report.
type everyone struct {
	report func(context.Context) (ferryman.Report, error)
	name   string // of its keys
	open   func(addr string) putter
	least  outcome // what counts as a write that was answered well
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	writes []attempt
	addrs  map[ferryman.NodeID]string // of all that ever were members
	began  map[string]bool            // instances that are written to
	reigns map[uint64]reign
	last   time.Time // when a write was answered well last
}

// putter writes to one instance, by one goroutine. At is when the instance
// answered that it has the write, where that is not the end of it.
type putter interface {
	put(ctx context.Context, key, value string) (o outcome, at time.Time)
	close()
}

// The pace of a client of one instance. A write that was taken is followed by
// the next almost at once; without any pause refusals alone would keep the two
// cores busy that the cluster needs as well.
const (
	breath  = time.Millisecond
	tooLong = time.Second // for one write
)

// recording has every instance of the company written to until the test ends.
func (c *company) recording(t *testing.T, name string, least outcome, open func(addr string) putter) *everyone {
	t.Helper()
	return recording(t, c.stage.report, name, least, open)
}

// recording has every instance written to of which the reports tell.
func recording(t *testing.T, report func(context.Context) (ferryman.Report, error), name string, least outcome, open func(addr string) putter) *everyone {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	e := &everyone{report: report, name: name, open: open, least: least, cancel: cancel, addrs: map[ferryman.NodeID]string{}, began: map[string]bool{}, reigns: map[uint64]reign{}}
	e.work.Go(func() { e.watch(ctx) })
	t.Cleanup(func() {
		e.stop()
		if t.Failed() {
			e.tell(t)
		}
	})
	return e
}

func (e *everyone) stop() {
	e.cancel()
	e.work.Wait()
}

// watch takes in what is committed, until ctx ends.
func (e *everyone) watch(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if r, err := e.report(ctx); err == nil {
			e.see(r)
			e.begin(ctx)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// begin writes to those instances to which nobody does yet.
func (e *everyone) begin(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, addr := range e.addrs {
		if !e.began[addr] {
			e.began[addr] = true
			e.work.Go(func() { e.write(ctx, addr) })
		}
	}
}

// see learns of new instances, and of new primaries: those that came and went
// between two reports are in the events.
func (e *everyone) see(r ferryman.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, m := range r.State.Members {
		for _, s := range m.Services {
			e.addrs[id] = s.Address
		}
	}
	if p := r.State.Primary; p.Epoch > 0 {
		e.reigns[p.Epoch] = reign{p.Epoch, e.addrs[p.Node], p.Since}
	}
	for _, ev := range r.State.Events {
		if epoch := epochOf(ev); epoch > 0 {
			e.reigns[epoch] = reign{epoch, e.addrs[ev.Node], ev.Time}
		}
	}
}

// epochOf reads the event of a new primary; zero for any other.
func epochOf(ev ferryman.Event) (epoch uint64) {
	var name string
	if n, _ := fmt.Sscanf(ev.Text, "%s was made the primary of epoch %d", &name, &epoch); ev.Kind != "primary" || n != 2 {
		return 0
	}
	return epoch
}

func (e *everyone) write(ctx context.Context, addr string) {
	p := e.open(addr)
	defer p.close()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		a := attempt{instance: addr, key: fmt.Sprintf("%s/%s/%07d", e.name, addr, n), sent: time.Now()}
		try, cancel := context.WithTimeout(ctx, tooLong)
		a.outcome, a.answered = p.put(try, a.key, valueOf(a.key))
		cancel()
		e.mu.Lock()
		e.writes = append(e.writes, a)
		if a.outcome >= e.least {
			e.last = a.answered
		}
		e.mu.Unlock()
		if a.taken() {
			pause.Reset(breath)
		} else {
			pause.Reset(2 * breath)
		}
	}
}

// answeredSince returns nil once a write was answered well after an instant.
func (e *everyone) answeredSince(at time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.last.After(at) {
		return fmt.Errorf("no write was answered well for %s", time.Since(e.last).Round(time.Millisecond))
	}
	return nil
}

// written are the writes so far.
func (e *everyone) written() []attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.writes)
}

// record is what was written so far, and all that was committed until then of
// primaries, in order.
func (e *everyone) record(t *testing.T) ([]attempt, []reign) {
	t.Helper()
	writes := e.written()
	eventually(t, "a report after the last write", func() error {
		r, err := e.report(t.Context())
		if err == nil {
			e.see(r)
		}
		return err
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	return writes, slices.SortedFunc(maps.Values(e.reigns), func(a, b reign) int { return cmp.Compare(a.epoch, b.epoch) })
}

// lawful fails the test if an instance took a write that was not its to take.
func (e *everyone) lawful(t *testing.T) {
	t.Helper()
	_, problems := unlawful(e.record(t))
	for _, p := range problems[:min(5, len(problems))] {
		t.Error(p)
	}
	if n := len(problems); n > 5 {
		t.Errorf("and %d more", n-5)
	}
}

// tell shows, after a failure, how each instance answered last.
func (e *everyone) tell(t *testing.T) {
	writes := e.written()
	last := map[string][]attempt{}
	for _, w := range writes {
		of := append(last[w.instance], w)
		last[w.instance] = of[max(0, len(of)-5):]
	}
	for instance, of := range last {
		for _, w := range of {
			t.Logf("%s: %s was sent %s, and %d after %s", instance, w.key, w.sent.Format("15:04:05.000"), w.outcome, w.answered.Sub(w.sent))
		}
	}
}

// tallied counts what came of the writes.
func tallied(writes []attempt) string {
	n := map[outcome]int{}
	for _, w := range writes {
		n[w.outcome]++
	}
	return fmt.Sprintf("%d acknowledged, %d only accepted, %d unknown, %d refused", n[acknowledged], n[accepted], n[unknown], n[refused])
}

// verdict ends the client and judges all of its record; it returns what of the
// acknowledged writes, and of the others that were taken, the primary lacks.
func (e *everyone) verdict(t *testing.T, c *company) (lostPromised, lostTaken []attempt) {
	t.Helper()
	return e.judge(t, c.settle(t), c.stage.eng)
}

func (e *everyone) judge(t *testing.T, r ferryman.Report, eng engine) (lostPromised, lostTaken []attempt) {
	t.Helper()
	e.stop()
	e.lawful(t)
	writes, reigns := e.record(t)
	held := e.held(t, eng, r)
	lostPromised, lostTaken = missing(writes, acknowledged, held), missing(writes, accepted, held)
	t.Logf("%s; %d epochs; of the acknowledged %d are lost, of the others accepted %d", tallied(writes), len(reigns), len(lostPromised), len(lostTaken))
	for _, w := range lostPromised[:min(5, len(lostPromised))] {
		t.Errorf("%s was acknowledged by %s at %s, and is lost", w.key, w.instance, w.answered.Format("15:04:05.000000"))
	}
	if len(lostPromised) > 0 {
		t.Errorf("%d acknowledged writes are lost\n%s", len(lostPromised), history(r))
	}
	return lostPromised, lostTaken
}

// held reads every write that was taken from the primary.
func (e *everyone) held(t *testing.T, eng engine, r ferryman.Report) map[string]string {
	t.Helper()
	writes := e.written()
	var keys []string
	for _, w := range writes {
		if w.taken() {
			keys = append(keys, w.key)
		}
	}
	primary := r.State.Members[r.State.Primary.Node].Services[0].Address
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	held, err := eng.read(ctx, primary, keys)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// demodbPutter writes to one demodb, which is synchronous: what it acknowledges
// a replica has as well.
type demodbPutter struct {
	addr   string
	client *demodb.Client
}

func openDemodb(addr string) putter { return &demodbPutter{addr: addr, client: demodb.Dial(addr)} }

func (p *demodbPutter) close() { p.client.Close() }

func (p *demodbPutter) put(ctx context.Context, key, value string) (outcome, time.Time) {
	err := p.client.Put(ctx, key, value)
	at := time.Now()
	var not *demodb.NotPrimaryError
	switch {
	case err == nil:
		return acknowledged, at
	case errors.As(err, &not):
		return refused, at
	}
	// The next write goes to whichever process listens then.
	p.client.Close()
	p.client = demodb.Dial(p.addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return refused, at
	}
	return unknown, at
}
