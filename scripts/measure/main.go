// Command measure takes the figures of docs/BENCHMARKS.md that need real processes: measure DIR, where DIR is that of a demo left running with --keep.
// scripts/bench calls it. Each figure is a line: its name, the median, the least and the greatest of several runs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"ferryman"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	flags.SetOutput(stderr)
	runs := flags.Int("runs", 9, "how often each figure is taken")
	span := flags.Duration("span", 10*time.Second, "how long each run of an idle agent takes")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || *runs < 1 {
		fmt.Fprintln(stderr, "usage: measure [-runs N] [-span DURATION] DIR")
		return 2
	}
	c := clusterIn(flags.Arg(0))
	for _, figure := range []func(context.Context, io.Writer, int) error{
		noise,
		func(ctx context.Context, out io.Writer, n int) error { return c.idle(ctx, out, n, *span) },
		c.acceptance,
		c.switchovers,
		c.baseline,
	} {
		if err := figure(ctx, stdout, *runs); err != nil {
			fmt.Fprintln(stderr, "measure:", err)
			return 1
		}
	}
	return 0
}

// tell prints a figure of several runs.
func tell(out io.Writer, name, unit string, runs []float64) {
	slices.Sort(runs)
	fmt.Fprintf(out, "%-55s median %.2f  least %.2f  greatest %.2f  %s  (%d runs)\n", name, runs[len(runs)/2], runs[0], runs[len(runs)-1], unit, len(runs))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// noise is how late a sleeper wakes up on this machine, which bounds what any other figure can mean.
func noise(_ context.Context, out io.Writer, _ int) error {
	var late []float64
	for range 2000 {
		began := time.Now()
		time.Sleep(time.Millisecond)
		late = append(late, ms(time.Since(began)-time.Millisecond))
	}
	tell(out, "noise: a sleeper wakes up late by", "ms", late)
	return nil
}

// acceptance is the time from the rename of a document to its being in the accepted state of the leader.
func (c *cluster) acceptance(ctx context.Context, out io.Writer, n int) error {
	raw, err := os.ReadFile(c.document)
	if err != nil {
		return err
	}
	var doc ferryman.Document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	r, err := c.settled(ctx)
	if err != nil {
		return err
	}
	if accepted := r.State.Accepted.Document; accepted.Generation >= doc.Generation {
		doc = accepted
	}
	doc.Database.Version = r.State.Complete[ferryman.PartDatabase].Target.Version // the demo ends with one that was reverted
	leader, err := c.dial(r.State.Members[r.View.Self].Name)
	if err != nil {
		return err
	}
	defer leader.Close()
	var took []float64
	for range n {
		doc.Generation++
		raw, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.document+".new", raw, 0o600); err != nil {
			return err
		}
		began := time.Now()
		if err := os.Rename(c.document+".new", c.document); err != nil {
			return err
		}
		for {
			local, err := leader.Local(ctx)
			if err != nil {
				return err
			}
			if local.State.Accepted.Document.Generation == doc.Generation {
				break
			}
		}
		took = append(took, ms(time.Since(began)))
		if _, err := c.settled(ctx); err != nil {
			return err
		}
	}
	tell(out, "a published document to its acceptance", "ms", took)
	return nil
}

// settled waits until nothing is going on and every replica follows.
func (c *cluster) settled(ctx context.Context) (ferryman.Report, error) { return c.until(ctx, quiet) }

func (c *cluster) until(ctx context.Context, content func(ferryman.Report) error) (ferryman.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		r, err := c.report(ctx)
		if err == nil {
			if err = content(r); err == nil {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("waited long for the cluster in %s: %w", c.dir, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func quiet(r ferryman.Report) error {
	s := r.State
	switch {
	case s.Accepted == nil || len(s.Complete) == 0:
		return errors.New("no rollout was completed yet")
	case s.Rollout.Open() || s.Switchover != nil || s.Stale():
		return errors.New("a rollout or a switchover is under way")
	}
	for id, m := range s.Members {
		v := r.View.Nodes[id]
		if !v.Reachable || len(v.Status.Services) == 0 {
			return fmt.Errorf("%s does not answer", m.Name)
		}
		if in := v.Status.Services[0].Instance; id != s.Primary.Node && !in.Streaming {
			return fmt.Errorf("%s does not stream", m.Name)
		}
	}
	return nil
}

func clusterIn(dir string) *cluster {
	return &cluster{dir: dir, document: filepath.Join(dir, "desired.json")}
}
