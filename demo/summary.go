package demo

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// summary prints what was promised, what came of it, and the figures.
func (p *play) summary(w io.Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ACT\tRESULT\tTOOK\tLONGEST WRITE GAP")
	for _, r := range p.results {
		verdict := "ok"
		if r.err != nil {
			verdict = "FAILED"
		}
		fmt.Fprintf(t, "%s\t%s\t%.1fs\t%s\n", r.act.title, verdict, r.took.Seconds(), r.gap.Round(time.Millisecond))
	}
	for _, a := range acts()[len(p.results):] {
		fmt.Fprintf(t, "%s\tnot played to its end\t\t\n", a.title)
	}
	t.Flush()
	acked, _, _ := p.writer.seen("")
	fmt.Fprintf(w, "\nwrites acknowledged %d, read back %d, lost %d\n", acked, p.checked, len(p.lost))
	for _, k := range p.lost[:min(5, len(p.lost))] {
		fmt.Fprintf(w, "  lost: %s\n", k)
	}
	if len(p.nodeTimes) > 0 {
		slices.Sort(p.nodeTimes)
		fmt.Fprintf(w, "time a node in the upgrade: %s to %s\n", p.nodeTimes[0].Round(time.Millisecond), p.nodeTimes[len(p.nodeTimes)-1].Round(time.Millisecond))
	}
	fmt.Fprintf(w, "in all %.0fs\n", time.Since(p.began).Seconds())
	switch {
	case p.interrupted:
		fmt.Fprintln(w, "It was interrupted.")
	case p.broken():
		fmt.Fprintln(w, "A promise was broken.")
	default:
		fmt.Fprintln(w, "Every promise was kept.")
	}
}
