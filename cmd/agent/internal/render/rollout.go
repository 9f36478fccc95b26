package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"ferryman"
)

// Rollout writes how far the rollout is, what it does now and why it waits.
func Rollout(w io.Writer, rep ferryman.Report, o Options) error {
	p, r := newPage(w, o), report{rep}
	r.rollout(p)
	r.now(p)
	r.waits(p)
	r.trouble(p)
	return p.err
}

// History writes the rollouts that ended, newest first.
func History(w io.Writer, rep ferryman.Report, o Options) error {
	p, r := newPage(w, o), report{rep}
	if len(r.State.History) == 0 {
		p.printf("no rollout has ended yet")
	}
	for _, one := range slices.Backward(r.State.History) {
		r.oneRollout(p, one)
		for _, part := range ferryman.Parts {
			for _, c := range one.Parts[part].Carried {
				p.printf("          %s in %s", strings.TrimSpace(r.name(c.Node)+" "+c.Version), took(c.Ended.Sub(c.Began)))
			}
		}
	}
	return p.err
}

// Events writes what happened, oldest first.
func Events(w io.Writer, rep ferryman.Report, o Options) error {
	p, r := newPage(w, o), report{rep}
	var rows [][]text
	for _, e := range r.State.Events {
		look := plain
		if e.Bad {
			look = red
		}
		who := ""
		if e.Node != "" {
			who = r.name(e.Node)
		}
		rows = append(rows, []text{{e.Time.UTC().Format("2006-01-02 15:04:05"), dim}, {s: who}, {e.Kind, look}, {e.Text, look}})
	}
	p.table("", nil, rows)
	return p.err
}

// Plan writes what the plan would do next, and why it does no more.
func Plan(w io.Writer, rep ferryman.Report, o Options) error {
	p, r := newPage(w, o), report{rep}
	var rows [][]text
	for _, s := range r.Decision.Steps {
		row := r.step(s)
		rows = append(rows, []text{{"step", dim}, row[0], row[2]})
	}
	for _, m := range r.Decision.Moves {
		what := string(m.Kind)
		if m.Node != "" {
			what += " " + r.name(m.Node)
		}
		if m.Part != "" {
			what += " " + string(m.Part)
		}
		if m.Status != "" {
			what += " " + string(m.Status)
		}
		rows = append(rows, []text{{"move", dim}, {s: what}, {m.Reason, dim}})
	}
	for _, c := range r.Decision.Cancel {
		rows = append(rows, []text{{"cancel", dim}, {s: fmt.Sprintf("step %d", c.Step)}, {c.Reason, dim}})
	}
	if len(rows) == 0 {
		p.printf("nothing to do now")
	} else {
		p.heading("Next")
		p.table("  ", nil, rows)
	}
	r.now(p)
	r.waits(p)
	return p.err
}

func (r report) rollout(p *page) {
	if r.State.Rollout == nil {
		p.line(text{"Rollout ", dim}, text{s: "none"})
		return
	}
	r.oneRollout(p, *r.State.Rollout)
	for _, id := range slices.Sorted(maps.Keys(r.State.Rollout.Passages)) {
		one := r.State.Rollout.Passages[id]
		p.line(text{"        ", dim}, text{s: fmt.Sprintf("carrying %s (%s) to %s for %s", r.name(id), one.Part, goal(one.Goal), r.ago(one.Began))})
	}
}

func (r report) oneRollout(p *page, one ferryman.Rollout) {
	when := "open for " + r.ago(one.Opened)
	if !one.Ended.IsZero() {
		when = "ended " + r.ago(one.Ended) + " ago, took " + took(one.Ended.Sub(one.Opened))
	}
	p.line(text{"Rollout ", dim}, text{s: fmt.Sprintf("generation %d, %s", one.Generation, when)})
	for _, name := range ferryman.Parts {
		part, ok := one.Parts[name]
		if !ok {
			continue
		}
		what := "to " + goal(part.To)
		if !part.First && goal(part.From) != goal(part.To) {
			what = goal(part.From) + " → " + goal(part.To)
		}
		parts := []text{{"        ", dim}, {s: fmt.Sprintf("%-9s", name)}, {string(part.Status), partStyle(part.Status)}, {s: ", " + what}}
		if n := len(part.Carried); n > 0 && !one.Ended.After(one.Opened) {
			parts = append(parts, text{s: ", carried " + r.carried(part.Carried)})
		}
		if part.Reason != "" {
			parts = append(parts, text{s: ": " + ferryman.Brief(part.Reason)})
		}
		p.line(parts...)
	}
}

func (r report) carried(all []ferryman.Carried) string {
	var names []string
	for _, c := range all {
		names = append(names, r.name(c.Node))
	}
	return strings.Join(names, ", ")
}

func goal(k ferryman.Known) string {
	t := k.Target
	switch {
	case t.Version == "" && t.RestartGeneration == 0:
		return "what is installed"
	case t.Version == "":
		return fmt.Sprintf("restart %d", t.RestartGeneration)
	case t.RestartGeneration == 0:
		return t.Version
	}
	return fmt.Sprintf("%s (restart %d)", t.Version, t.RestartGeneration)
}

func partStyle(s ferryman.PartStatus) style {
	switch s {
	case ferryman.PartComplete:
		return green
	case ferryman.PartReverting, ferryman.PartHalted, ferryman.PartReverted:
		return red
	}
	return amber
}
