package demo

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
)

// long tells that the lab runs the tests, which then repeat what they do more
// often: scripts/lab/test sets it.
func long() bool { return os.Getenv("FERRYMAN_LONG") != "" }

// rounds is how often something is repeated, by default and in the lab.
func rounds(few, many int) int {
	if long() {
		return many
	}
	return few
}

// backOnDisk is for hosts that come back: they are not replaced meanwhile.
const backOnDisk = "cluster: {dead_after: 10m}\n"

// watching is content when all is quiet and the loss of the primary's host would
// be answered: failover is automatic in force under the lease that the document
// says, every write has as many copies as it should, the history that all write
// is committed, and Raft's leader is elsewhere.
func (c *company) watching() func(ferryman.Report) error {
	copies := 0
	if c.stage.eng.name() == (demoEngine{}).name() {
		copies = 1
	}
	return watching(c.quiet(), c.doc.Database.Failover.LeaseTTL, copies)
}

func watching(quiet func(ferryman.Report) error, length ferryman.Duration, copies int) func(ferryman.Report) error {
	return func(r ferryman.Report) error {
		if err := quiet(r); err != nil {
			return err
		}
		p := r.State.Primary
		switch {
		case r.State.Failover != nil:
			return errors.New("a failover is under way")
		case p.Lease == nil || !p.Lease.Enforced:
			return errors.New("failover is not automatic in force")
		case p.Lease.Length != length:
			return fmt.Errorf("the lease is %s", p.Lease.Length)
		case p.SyncReplicas != copies:
			return fmt.Errorf("%d others hold each write, not %d", p.SyncReplicas, copies)
		case p.History == "":
			return errors.New("it is not known what the primary began")
		case r.View.Self == p.Node:
			return errors.New("Raft's leader is beside the primary")
		}
		for id := range r.State.Members { // Redis begins another with its first replica, which is committed a moment later
			if h := r.View.Nodes[id].Status.Services[0].Instance.History; h != p.History {
				return fmt.Errorf("%s is of history %s, and %s is committed", r.State.Members[id].Name, h, p.History)
			}
		}
		return nil
	}
}

// guarded is content when, on top of that, no longer lease of before can run any
// more: the answer would come at once.
func (c *company) guarded() func(ferryman.Report) error { return guarded(c.watching()) }

func guarded(watching func(ferryman.Report) error) func(ferryman.Report) error {
	return func(r ferryman.Report) error {
		err := watching(r)
		if p := r.State.Primary; err == nil && p.Lease.Longest != p.Lease.Length {
			err = fmt.Errorf("a lease of %s may still run", p.Lease.Longest)
		}
		return err
	}
}

// watched forms a cluster whose primary is replaced by itself, and has every
// instance written to.
func watched(t *testing.T, configuration string) (*company, *everyone) {
	t.Helper()
	return watchedOf(t, light{}, 2*time.Second, configuration, openDemodb)
}

func watchedOf(t *testing.T, eng engine, lease time.Duration, configuration string, open func(addr string) putter) (*company, *everyone) {
	t.Helper()
	return watchedFor(t, acknowledged, eng, lease, configuration, open)
}

// watchedFor counts what is at least that as written.
func watchedFor(t *testing.T, least outcome, eng engine, lease time.Duration, configuration string, open func(addr string) putter) (*company, *everyone) {
	t.Helper()
	c := newCompanyOf(t, eng, configuration)
	c.failover = ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic, LeaseTTL: ferryman.Duration(lease)}
	c.open(t)
	e := c.recording(t, "a", least, open)
	c.guard(t)
	return c, e
}

func (c *company) guard(t *testing.T) ferryman.Report {
	t.Helper()
	guarded := c.guarded()
	return c.wait(t, "guarded", func(r ferryman.Report) error {
		return errors.Join(c.answer(t, r), guarded(r))
	})
}

// answer says the person's word where the cluster asks for it: on a machine that
// is busy with other things a lease runs out now and then, too.
func (c *company) answer(t *testing.T, r ferryman.Report) error {
	if !asks(r, ferryman.RulePrimary, "flapping") {
		return nil
	}
	c.asked++
	err := c.stage.request(t.Context(), ferryman.Request{Kind: ferryman.RequestFailover, By: "a test"})
	return errors.Join(errors.New("a person was asked"), err)
}

// succeededBy waits for a primary of a later epoch that takes writes, and says
// the person's word where the cluster asks for it.
func (c *company) succeededBy(t *testing.T, e *everyone, before ferryman.Report) (after ferryman.Report, word bool) {
	t.Helper()
	after = c.wait(t, "another primary", func(r ferryman.Report) error {
		if r.State.Primary.Epoch > before.State.Primary.Epoch {
			return e.answeredSince(r.State.Primary.Since)
		}
		err := c.answer(t, r)
		word = word || err != nil
		return errors.Join(errors.New("the primary is still that of before"), err)
	})
	return after, word
}

// asks tells that a rule of the plan waits with this code.
func asks(r ferryman.Report, rule ferryman.Rule, code string) bool {
	return slices.ContainsFunc(r.Decision.Waits, func(w ferryman.Wait) bool { return w.Rule == rule && w.Code == code })
}

// calm forgets the failovers so far, as a person does who knows why they were.
func (c *company) calm(t *testing.T) {
	t.Helper()
	c.ask(t, ferryman.Request{Kind: ferryman.RequestFailover, By: "a test"})
}

// ask has the cluster take a request, whose leader may just be another.
func (c *company) ask(t *testing.T, r ferryman.Request) {
	t.Helper()
	eventually(t, string(r.Kind), func() error {
		err := c.stage.request(t.Context(), r)
		if errors.Is(err, ferryman.ErrRefused) {
			t.Fatal(err)
		}
		return err
	})
}

// primaryHost is the name of the primary's host, and others those of the rest.
func primaryHost(r ferryman.Report) string { return nameOf(r, r.State.Primary.Node) }

func others(r ferryman.Report) []string {
	return slices.DeleteFunc(names(r), func(n string) bool { return n == primaryHost(r) })
}

// gaps are the longest times without a write, one of each round.
type gaps []time.Duration

func (g gaps) String() string {
	if len(g) == 0 {
		return "no gaps"
	}
	var all []string
	for _, d := range g {
		all = append(all, d.Round(time.Millisecond).String())
	}
	return fmt.Sprintf("longest write gap: median %s, worst %s (%s)", median(g).Round(time.Millisecond), slices.Max(g).Round(time.Millisecond), strings.Join(all, " "))
}

// One cluster loses its primary again and again, in every way that is planned
// or not, while every instance is written to.
func TestPrimariesInARow(t *testing.T) {
	t.Parallel()
	c, e := watched(t, backOnDisk)
	for _, s := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"switchovers", func(t *testing.T) { c.switchovers(t, e, rounds(3, 20)) }},
		{"databases are killed", func(t *testing.T) {
			if n := rounds(3, 20); c.databasesKilled(t, e, n) == 0 {
				t.Errorf("of %d databases that were killed none was started again in its place", n)
			}
		}},
		{"hosts are lost", func(t *testing.T) { c.hostsLost(t, e, rounds(4, 20)) }},
	} {
		if !t.Run(s.name, s.do) {
			return
		}
	}
	e.verdict(t, c)
	c.checkWrites(t)
}

func (c *company) switchovers(t *testing.T, e *everyone, n int) {
	var g gaps
	for range n {
		before := c.guard(t)
		to, began := others(before)[0], time.Now()
		c.ask(t, ferryman.Request{Kind: ferryman.RequestSwitchover, Node: to, By: "a test"})
		after, _ := c.succeededBy(t, e, before)
		if got := primaryHost(after); got != to && after.State.Primary.Epoch == before.State.Primary.Epoch+1 {
			t.Errorf("%s is the primary of epoch %d, want %s\n%s", got, after.State.Primary.Epoch, to, history(after))
		}
		c.settle(t)
		g = append(g, e.gap(began))
	}
	e.lawful(t)
	t.Logf("%d switchovers; %s", n, g)
}

// gap is the longest time since an instant without a write that was answered
// well.
func (e *everyone) gap(from time.Time) time.Duration {
	return gap(e.written(), e.least, from, time.Now())
}

// hostsLost kills the primary's host as a power failure does, and starts it
// again on its disk once another has taken over.
func (c *company) hostsLost(t *testing.T, e *everyone, n int) {
	words, asked := 0, c.asked
	var g gaps
	for range n {
		before := c.guard(t)
		lost, began := primaryHost(before), time.Now()
		c.destroy(t, lost)
		_, word := c.succeededBy(t, e, before)
		if word {
			words++
		} else {
			g = append(g, e.gap(began)) // the person took no time to speak of, and yet it would be theirs
		}
		c.revive(t, lost)
	}
	c.guard(t)
	e.lawful(t)
	if n > 3 && c.asked == asked { // also between two of them, where a busy machine lost a primary more
		t.Errorf("%d failovers in a row, and a person was never asked", n)
	}
	t.Logf("%d hosts lost, %d times a person was asked; %s", n, words, g)
}

// databaseKilled kills the primary's database alone, and waits for writes after
// that. It tells whether they are in the same place.
func (c *company) databaseKilled(t *testing.T, e *everyone, before ferryman.Report) (revived bool) {
	t.Helper()
	host := primaryHost(before)
	was := startID(t, before, host)
	c.strike(t, host, kills(theDatabase))
	c.wait(t, "a primary accepts writes again", func(r ferryman.Report) error {
		if err := c.answer(t, r); err != nil {
			return err
		}
		p := r.State.Primary
		if revived = p.Epoch == before.State.Primary.Epoch; !revived {
			return e.answeredSince(p.Since)
		}
		svc, ok := r.View.Nodes[p.Node].Status.Service(p.Slot)
		if !ok || svc.Unit.StartID == was || !svc.Instance.Writable {
			return errors.New("it is not back")
		}
		return e.answeredSince(svc.Unit.Since)
	})
	return revived
}

// databasesKilled kills the primary's database alone. It is started again in
// its place, and another takes over where that does not last.
func (c *company) databasesKilled(t *testing.T, e *everyone, n int) (revived int) {
	c.calm(t)
	var g gaps
	for range n {
		before, began := c.guard(t), time.Now()
		if c.databaseKilled(t, e, before) {
			revived++
		}
		c.guard(t)
		g = append(g, e.gap(began))
	}
	e.lawful(t)
	t.Logf("%d databases killed, %d revived in place, %d replaced; %s", n, revived, n-revived, g)
	return revived
}
