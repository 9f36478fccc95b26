package demo

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ferryman"
)

// end is what becomes of a primary some of whose processes are killed or
// stopped.
type end string

const (
	kept     end = "kept"     // it goes on, its database was not even started again
	revived  end = "revived"  // its database is started again in its place
	replaced end = "replaced" // another one has a later epoch
)

// injuries are all that one host can suffer at a time, from one fault or two,
// and how it ends where that is certain. Left out is that agent, guard and
// standby are all stopped while the database goes on: see
// docs/decisions/0004-one-primary.md, "Assumptions".
//
// An agent that is gone or stopped renews no lease, so that the guard, or its
// standby, ends the database and another takes over. A database that is stopped
// is one that does not answer for twice a lease. A guard that is gone or stopped
// is succeeded by its standby in time, on a machine that is not too busy. One that
// was killed is started again, unless it was started twice within a minute: that
// case comes first.
var injuries = []struct {
	faults []fault
	ends   []end
	short  bool // by default, not only in the lab
}{
	{[]fault{kills(theDatabase)}, []end{revived}, true},
	{[]fault{kills(theAgent)}, []end{replaced}, false},
	{[]fault{stops(theAgent)}, []end{replaced}, false},
	{[]fault{kills(theGuard)}, []end{kept}, true},
	{[]fault{stops(theGuard)}, []end{kept, replaced}, false},
	{[]fault{stops(theDatabase)}, []end{replaced}, false},

	{[]fault{kills(theAgent), kills(theGuard)}, []end{replaced}, false},
	{[]fault{kills(theAgent), stops(theGuard)}, []end{replaced}, false},
	{[]fault{stops(theAgent), kills(theGuard)}, []end{replaced}, false},
	{[]fault{stops(theAgent), stops(theGuard)}, []end{replaced}, true},

	{[]fault{kills(theAgent), kills(theDatabase)}, []end{replaced}, false},
	{[]fault{kills(theAgent), stops(theDatabase)}, []end{replaced}, true},
	{[]fault{stops(theAgent), kills(theDatabase)}, []end{replaced}, false},
	{[]fault{stops(theAgent), stops(theDatabase)}, []end{replaced}, false},

	{[]fault{kills(theGuard), kills(theDatabase)}, []end{revived, replaced}, false},
	{[]fault{kills(theGuard), stops(theDatabase)}, []end{replaced}, false},
	{[]fault{stops(theGuard), kills(theDatabase)}, []end{revived, replaced}, true},
	{[]fault{stops(theGuard), stops(theDatabase)}, []end{replaced}, false},
}

// Every single fault and every pair strikes the primary's host, on one cluster
// that is whole again after each.
func TestFaultsInPairs(t *testing.T) {
	t.Parallel()
	c, e := watched(t, backOnDisk)
	seen, count := map[end]int{}, 0
	for _, in := range injuries {
		if !in.short && !long() {
			continue
		}
		var name []string
		for _, f := range in.faults {
			name = append(name, f.String())
		}
		count++
		if !t.Run(strings.Join(name, " and "), func(t *testing.T) {
			how, gap := c.injure(t, e, in.faults)
			seen[how]++
			t.Logf("%s; longest write gap %s", how, gap.Round(time.Millisecond))
			expected := false
			for _, want := range in.ends {
				expected = expected || how == want
			}
			if !expected {
				t.Errorf("the primary was %s, want one of %v", how, in.ends)
			}
		}) {
			return
		}
	}
	t.Logf("%d cases: %v", count, seen)
	e.verdict(t, c)
	c.checkWrites(t)
}

// injure strikes the primary's host, and waits for a primary that takes writes
// and for three healthy nodes after what was stopped goes on.
func (c *company) injure(t *testing.T, e *everyone, faults []fault) (end, time.Duration) {
	t.Helper()
	c.calm(t)
	before := c.guard(t)
	host := primaryHost(before)
	was, guard, began := startID(t, before, host), c.guardOf(t, host), time.Now()
	w := c.strike(t, host, faults...)
	agent, database := false, false
	for _, f := range faults {
		agent, database = agent || f.part == theAgent, database || f.part == theDatabase
	}
	// What was lost shows first: writes that go on before that prove nothing.
	how := kept
	c.wait(t, "the faults take effect, and a primary takes writes", func(r ferryman.Report) error {
		p := r.State.Primary
		svc, ok := r.View.Nodes[p.Node].Status.Service(p.Slot)
		switch {
		case !ok || !svc.Instance.Writable:
			return errors.New("the primary does not accept writes")
		case p.Epoch > before.State.Primary.Epoch:
			how = replaced
			return e.answeredSince(p.Since)
		case agent:
			return errors.New("the primary whose agent is struck is not replaced yet")
		case database && svc.Unit.StartID == was:
			return errors.New("the database is not seen to be gone yet")
		case database:
			how = revived
			return e.answeredSince(svc.Unit.Since)
		}
		if now, err := c.guardPID(host); err != nil || now == guard {
			return fmt.Errorf("the guard is not succeeded by its standby yet (%v)", err)
		}
		return e.answeredSince(time.Now().Add(-time.Second))
	})
	w.heal(t)
	after := c.guard(t)
	if how == kept && after.State.Primary.Epoch == before.State.Primary.Epoch && startID(t, after, host) != was {
		how = revived
	}
	if after.State.Primary.Epoch > before.State.Primary.Epoch {
		how = replaced
	}
	e.lawful(t)
	if t.Failed() {
		t.Log(history(after))
	}
	return how, e.gap(began)
}

// guardOf is the pid of a host's active guard.
func (c *company) guardOf(t *testing.T, host string) int {
	t.Helper()
	pid, err := c.guardPID(host)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
