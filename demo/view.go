package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"ferryman"
)

// view shows what happens: lines, or a live picture below them on a terminal.
type view struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool
	width int
	drawn int // lines of the picture that stand on the terminal
	seen  uint64
	start time.Time
}

func newView(o Options) *view {
	return &view{out: o.Out, live: !o.Plain && o.Width > 0, width: o.Width, start: time.Now()}
}

// line prints one line above the picture.
func (v *view) line(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wipe()
	fmt.Fprintf(v.out, "%6.1fs  %s\n", time.Since(v.start).Seconds(), fmt.Sprintf(format, args...))
}

func (v *view) began(a act)                     { v.line("── %s", a.title) }
func (v *view) note(format string, args ...any) { v.line("   "+format, args...) }

func (v *view) ended(r result) {
	if r.err != nil {
		v.line("   FAILED after %.1fs: %v", r.took.Seconds(), r.err)
		return
	}
	v.line("   done in %.1fs; longest write gap %s", r.took.Seconds(), r.gap.Round(time.Millisecond))
}

// wipe takes the picture away.
func (v *view) wipe() {
	if v.drawn > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

// watch prints events as they come and, live, the picture; until ctx ends.
func (v *view) watch(ctx context.Context, p *play) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.mu.Lock()
				r, current := p.report, p.current
				p.mu.Unlock()
				v.events(r)
				if v.live {
					v.draw(r, p, current)
				}
			case <-ctx.Done():
				v.mu.Lock()
				v.wipe()
				v.mu.Unlock()
				return
			}
		}
	}()
	return done
}

// told are the kinds of events that the demo prints; steps are too many.
var told = []string{"document", "rollout", "passage", "primary", "lease", "switchover", "failover", "member", "quarantine", "database", "data", "cluster"}

func (v *view) events(r ferryman.Report) {
	for _, e := range r.State.Events {
		if e.Seq > v.seen {
			v.seen = e.Seq
			if slices.Contains(told, e.Kind) || e.Bad {
				v.line("   %s", ferryman.Brief(e.Text))
			}
		}
	}
}

// draw puts the picture of the cluster on the terminal.
func (v *view) draw(r ferryman.Report, p *play, current string) {
	lines := picture(r)
	acked, since, gap := p.writer.seen(current)
	lines = append(lines, fmt.Sprintf("writes acknowledged %d, last %s ago, longest gap in this act %s", acked, since.Round(time.Millisecond), gap.Round(time.Millisecond)))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wipe()
	fmt.Fprintln(v.out)
	for _, l := range lines {
		if runes := []rune(l); len(runes) > v.width-1 {
			l = string(runes[:v.width-1])
		}
		fmt.Fprintln(v.out, l)
	}
	v.drawn = len(lines) + 1
}

// picture is the cluster in a few lines: nodes, and what it waits for.
func picture(r ferryman.Report) []string {
	lines := []string{fmt.Sprintf("%-6s %-10s %-9s %-14s %-9s %s", "NODE", "RAFT", "DATABASE", "VERSION", "POSITION", "")}
	var members []ferryman.Member
	for _, m := range r.State.Members {
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b ferryman.Member) int { return cmp.Compare(a.Name, b.Name) })
	for _, m := range members {
		n := r.View.Nodes[m.ID]
		raft := string(r.View.Raft[m.ID])
		if m.ID == r.View.Self {
			raft = "leader"
		}
		role, version, position := "-", "-", "-"
		for _, s := range n.Status.Services {
			if s.Instance.Running {
				role, version, position = string(s.Instance.Role), s.Instance.Version, fmt.Sprint(s.Instance.Position)
			} else {
				role = "down"
			}
		}
		state := ""
		switch {
		case m.Want != ferryman.WantActive:
			state = string(m.Want)
		case n.Known && !n.Reachable:
			state = "does not answer"
		}
		if r.State.Rollout.Open() {
			if _, ok := r.State.Rollout.Passages[m.ID]; ok {
				state = strings.TrimSpace(state + " being carried")
			}
		}
		lines = append(lines, fmt.Sprintf("%-6s %-10s %-9s %-14s %-9s %s", m.Name, raft, role, version, position, state))
	}
	for _, w := range r.Decision.Waits[:min(3, len(r.Decision.Waits))] {
		lines = append(lines, "waits: "+w.Reason)
	}
	return lines
}
