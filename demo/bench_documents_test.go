package demo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/rpc"
)

// BenchmarkAcceptance is the time from the rename that publishes a document to
// the leader knowing it as committed, with the api-server's long poll. Run it
// with -benchtime=20x or more.
func BenchmarkAcceptance(b *testing.B) {
	c := form(b, demoEngine{}, byPerson)
	r := c.settle()
	leader, err := rpc.DialControl(c.stage.socket(r.State.Members[r.View.Self].Name))
	if err != nil {
		b.Fatal(err)
	}
	defer leader.Close()
	var times series
	for b.Loop() {
		c.settle()
		c.publishNext()
		began := time.Now()
		for {
			r, err := leader.Report(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if r.State.Accepted.Document.Generation == c.doc.Generation {
				break
			}
			time.Sleep(time.Millisecond)
		}
		times = append(times, time.Since(began))
	}
	times.tell(b, "accepted")
}

// BenchmarkRollout is what an upgrade of three nodes takes beyond its steps: the
// time during which, while the rollout is open, no step runs on any node, for
// each node. Of the configured waits there are none. Each iteration bumps the
// version once, up or down. Run it with -benchtime=10x.
func BenchmarkRollout(b *testing.B) {
	c := form(b, demoEngine{}, byPerson)
	none := 0
	c.doc.Rollout.Canary, c.doc.Rollout.MinHealthy = &none, ferryman.Duration(time.Millisecond)
	first, next, _ := c.stage.eng.versions()
	var overhead, passages, whole series
	for b.Loop() {
		c.doc.Database.Version = map[string]string{first: next, next: first}[c.doc.Database.Version]
		c.publishNext()
		r := c.settle()
		ro := r.State.Rollout
		if ro.Generation != c.doc.Generation {
			b.Fatal(errors.New("the rollout is another one's"))
		}
		carried := ro.Parts[ferryman.PartDatabase].Carried
		steps := busy(r.State.Ledger, ro.Opened, ro.Ended)
		total := ro.Ended.Sub(ro.Opened)
		overhead = append(overhead, (total-steps.sum())/time.Duration(len(carried)))
		whole = append(whole, total)
		for _, p := range carried {
			passages = append(passages, p.Ended.Sub(p.Began)-busy(r.State.Ledger, p.Began, p.Ended).sum())
		}
		var lines []string
		for _, st := range r.State.Ledger {
			if st.Outcome != nil && !st.Outcome.Began.Before(ro.Opened) {
				lines = append(lines, fmt.Sprintf("  %-9s %s intent %6d began %6d took %6d ms", st.Op, r.State.Members[st.Node].Name,
					st.Since.Sub(ro.Opened).Milliseconds(), st.Outcome.Began.Sub(ro.Opened).Milliseconds(), st.Outcome.Ended.Sub(st.Outcome.Began).Milliseconds()))
			}
		}
		if len(whole) == 1 {
			b.Logf("an upgrade that took %v, of which steps ran for %v:\n%s", total, steps.sum(), strings.Join(lines, "\n"))
		}
	}
	whole.tell(b, "rollout")
	passages.tell(b, "overhead-passage")
	overhead.tell(b, "overhead-node")
}

// spans are stretches of time.
type spans [][2]time.Time

// busy are the stretches between from and to in which some step ran.
func busy(ledger []ferryman.Step, from, to time.Time) (merged spans) {
	var all spans
	for _, st := range ledger {
		if o := st.Outcome; o != nil && !o.Began.IsZero() && o.Ended.After(from) && o.Began.Before(to) {
			all = append(all, [2]time.Time{later(o.Began, from), earlier(o.Ended, to)})
		}
	}
	slices.SortFunc(all, func(a, b [2]time.Time) int { return a[0].Compare(b[0]) })
	for _, s := range all {
		if n := len(merged); n > 0 && !s[0].After(merged[n-1][1]) {
			merged[n-1][1] = later(merged[n-1][1], s[1])
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

func (s spans) sum() (d time.Duration) {
	for _, x := range s {
		d += x[1].Sub(x[0])
	}
	return d
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
