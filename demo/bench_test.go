package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman"
)

// What is measured of a cluster of real processes. Nothing
// here is asserted but that the cluster does what it is told; scripts/bench runs
// all of it, and docs/BENCHMARKS.md tells what came of it.

// troupe is a cluster of three, formed, that a benchmark has for itself.
type troupe struct {
	*play
	b    *testing.B
	once sync.Once
}

// The two modes of failover. What was measured before there was a choice is
// measured in the manual one: some of it stops agents, whose guards would end
// their databases.
var byPerson = ferryman.FailoverPolicy{Mode: ferryman.FailoverManual}

func automatic(lease time.Duration) ferryman.FailoverPolicy {
	return ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic, LeaseTTL: ferryman.Duration(lease)}
}

// program builds the agent as it is released.
func program(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "ferryman")
	out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "ferryman/cmd/agent").CombinedOutput()
	if err != nil {
		b.Fatalf("build the agent: %v\n%s", err, out)
	}
	return path
}

// form sets a stage, waits until three nodes are a cluster, and strikes it when
// the benchmark ends. Each host takes the configuration on top of its own.
func form(b *testing.B, eng engine, failover ferryman.FailoverPolicy, configuration ...string) *troupe {
	b.Helper()
	st, err := build(b.Context(), eng, program(b))
	if err != nil {
		b.Fatal(err)
	}
	c := &troupe{play: &play{stage: st, writer: newWriter(st, eng)}, b: b}
	b.Cleanup(c.strike)
	for i, text := range configuration {
		drops := filepath.Join(st.dir, settings)
		err := os.MkdirAll(drops, 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(drops, fmt.Sprintf("bench-%d.yaml", i)), []byte(text), 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := st.serve(b.Context()); err != nil {
		b.Fatal(err)
	}
	if c.doc, err = st.firstDocument(); err != nil {
		b.Fatal(err)
	}
	c.doc.Database.Failover = failover
	c.publishNext()
	c.settle()
	return c
}

// strike ends the cluster before the benchmark does, for one that needs another.
func (c *troupe) strike() {
	c.once.Do(func() {
		if err := c.stage.strike(); err != nil {
			c.b.Error(err)
		}
	})
}

func (c *troupe) publishNext() {
	c.b.Helper()
	if err := c.publish(); err != nil {
		c.b.Fatal(err)
	}
}

// wait looks at the cluster until f is content.
func (c *troupe) wait(f func(ferryman.Report) error) ferryman.Report {
	c.b.Helper()
	ctx, cancel := context.WithTimeout(c.b.Context(), patience)
	defer cancel()
	var seen ferryman.Report
	var missed error
	if err := c.until(ctx, func(r ferryman.Report) error { seen, missed = r, f(r); return missed }); err != nil {
		var say strings.Builder
		for _, v := range seen.View.Nodes {
			fmt.Fprintf(&say, "\n%s: %+v", v.Status.Name, v.Status.Services)
		}
		c.b.Fatalf("%v; at last: %v; the cluster waits for %+v%s", err, missed, seen.Decision.Waits, say.String())
	}
	return seen
}

// settle waits until the document is what is, and nothing is under way.
func (c *troupe) settle() ferryman.Report {
	c.b.Helper()
	return c.wait(func(r ferryman.Report) error {
		if err := settled(c.doc, c.doc.Database.Version)(r); err != nil {
			return err
		}
		if r.State.Switchover != nil {
			return errors.New("a switchover is under way")
		}
		for _, st := range r.State.Ledger {
			if st.Open() {
				return fmt.Errorf("step %d, %s, is open", st.ID, st.Op)
			}
		}
		return nil
	})
}

// series are the measurements of one thing.
type series []time.Duration

func (s series) at(q float64) time.Duration {
	s = slices.Sorted(slices.Values(s))
	return s[int(q*float64(len(s)-1)+0.5)]
}

// tell reports the best, the median and the worst, in milliseconds: on a machine
// that does other things as well, the best says most about the program.
func (s series) tell(b *testing.B, what string) {
	b.Helper()
	if len(s) == 0 {
		return
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(s.at(0)), "ms-"+what+"-min")
	b.ReportMetric(ms(s.at(0.5)), "ms-"+what+"-median")
	b.ReportMetric(ms(s.at(1)), "ms-"+what+"-max")
	b.ReportMetric(0, "ns/op")
	if b.N > 1 {
		var all []string
		for _, d := range s {
			all = append(all, fmt.Sprintf("%.0f", ms(d)))
		}
		b.Logf("%s, ms: %s", what, strings.Join(all, " "))
	}
}
