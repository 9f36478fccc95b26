package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"ferryman"
)

// Status writes one screen: who is who, what happens, and why it waits.
func Status(w io.Writer, rep ferryman.Report, o Options) error {
	p, r := newPage(w, o), report{rep}
	r.header(p)
	r.primary(p)
	r.rollout(p)
	p.line()
	r.nodes(p)
	r.now(p)
	r.waits(p)
	r.trouble(p)
	return p.err
}

func (r report) header(p *page) {
	a := r.State.Accepted
	name := orDash(ferryman.ClusterName(r.State.Cluster))
	if a != nil && a.Document.Cluster != "" {
		name = a.Document.Cluster
	}
	if a == nil {
		p.line(text{"Cluster ", dim}, text{name, bold}, text{s: "   no desired state was accepted yet"})
	} else {
		d := a.Document
		p.line(text{"Cluster ", dim}, text{name, bold},
			text{s: fmt.Sprintf("   generation %d, accepted %s ago: %s", d.Generation, r.ago(a.At), wanted(d))})
	}
	if f := r.State.Refused; f != nil && (a == nil || f.At.After(a.At)) {
		p.line(text{"Refused ", red}, text{s: fmt.Sprintf("a document %s ago, nothing changed: %s", r.ago(f.At), strings.ReplaceAll(f.Reason, "\n", "; "))})
	}
}

// primary says who accepts writes, and what happens when it is lost.
func (r report) primary(p *page) {
	s := r.State
	if s.Primary.Epoch == 0 || s.Accepted == nil {
		return
	}
	line := []text{{"Primary ", dim}, {r.name(s.Primary.Node), bold}}
	l := s.Primary.Lease
	switch {
	case l != nil && l.Enforced:
		more := fmt.Sprintf("   failover is automatic, lease %s", l.Length)
		if l.Longest > l.Length {
			more += fmt.Sprintf(" (one of %s may still run)", l.Longest)
		}
		if s.Primary.SyncReplicas > 0 {
			more += fmt.Sprintf(", what it acknowledges is on %d more", s.Primary.SyncReplicas)
		} else {
			more += fmt.Sprintf(", at most %s of asynchronous writes lost", s.Accepted.Document.WithDefaults().Database.Failover.MaxLagBytes)
		}
		line = append(line, text{s: more})
	case s.Accepted.Document.Database.Failover.Mode == ferryman.FailoverAutomatic:
		line = append(line, text{"   failover is automatic, and not in force yet", amber})
	default:
		line = append(line, text{s: "   failover is manual"})
	}
	p.line(line...)
}

// wanted is the document in a phrase.
func wanted(d ferryman.Document) string {
	parts := []string{fmt.Sprintf("%d nodes", d.Nodes)}
	if d.Nodes == 1 {
		parts[0] = "1 node"
	}
	if d.Database.Engine != "" || d.Database.Version != "" {
		parts = append(parts, strings.TrimSpace(d.Database.Engine+" "+d.Database.Version))
	}
	if d.Agent.Version != "" {
		parts = append(parts, "agent "+d.Agent.Version)
	}
	return strings.Join(parts, ", ")
}

func (r report) now(p *page) {
	var rows [][]text
	if s := r.State.Switchover; s != nil {
		stage := "can still go back"
		if s.Committed {
			stage = "committed"
		}
		if s.Back != "" {
			stage = "goes back: " + ferryman.Brief(s.Back)
		}
		rows = append(rows, []text{{s: fmt.Sprintf("switchover %s → %s", r.name(s.From), r.name(s.To))}, {s: r.ago(s.Began)}, {s: "by " + s.By + ", " + stage, style: dim}})
	}
	if f := r.State.Failover; f != nil {
		stage := "waits until " + r.name(f.From) + " accepts no writes"
		if f.Fenced != "" {
			stage = f.Fenced
		}
		rows = append(rows, []text{{"failover from " + r.name(f.From), red}, {s: r.ago(f.Began)}, {s: ferryman.Brief(f.Why) + "; " + stage, style: dim}})
	}
	for _, s := range r.State.Ledger {
		if s.Open() {
			rows = append(rows, r.step(s))
		}
	}
	if len(rows) == 0 {
		return
	}
	p.line()
	p.heading("Now")
	p.table("  ", nil, rows)
}

func (r report) step(s ferryman.Step) []text {
	what := string(s.Op) + " " + r.name(s.Node)
	if s.Service != "" {
		what += "/" + s.Service
	}
	if s.Args.Version != "" {
		what += " " + s.Args.Version
	}
	note := string(s.Rule)
	if s.Attempt > 1 {
		note += fmt.Sprintf(", attempt %d", s.Attempt)
	}
	return []text{{s: what}, {s: r.ago(s.Since)}, {s: note, style: dim}}
}

func (r report) waits(p *page) {
	if len(r.Decision.Waits) == 0 {
		return
	}
	p.line()
	p.heading("Waits")
	p.table("  ", nil, r.waitRows())
}

func (r report) waitRows() [][]text {
	var rows [][]text
	for _, w := range r.Decision.Waits {
		who := ""
		if w.Node != "" {
			who = r.name(w.Node)
		}
		rows = append(rows, []text{{string(w.Rule), dim}, {s: who}, {s: ferryman.Brief(w.Reason)}})
	}
	return rows
}

// waitsForRestart is of a node whose package was upgraded under its agent.
func waitsForRestart(v ferryman.NodeStatus) string {
	return fmt.Sprintf("agent %s is installed and %s runs: a higher agent.restartGeneration in the desired state starts it, one node after the other", v.Installed, v.Agent.Version)
}

// trouble is what a person should look at: holds, quarantines, problems.
func (r report) trouble(p *page) {
	var rows [][]text
	add := func(look style, what, detail string) {
		rows = append(rows, []text{{what, look}, {s: detail}})
	}
	hold := func(what, lift string, h *ferryman.Hold) {
		if h == nil {
			return
		}
		detail := because("by "+h.By+" "+r.ago(h.At)+" ago", h.Reason)
		if !h.Until.IsZero() {
			detail += "; ends in " + r.until(h.Until)
		}
		add(amber, what, detail+"; "+lift)
	}
	hold("paused", "ferryman rollout resume", r.State.Paused)
	hold("frozen", "ferryman unfreeze", r.State.Frozen)
	if a := r.State.Accepted; a != nil && a.Document.Paused {
		add(amber, "paused", "by the desired state (paused: true)")
	}
	for _, digest := range slices.Sorted(maps.Keys(r.State.Quarantined)) {
		q := r.State.Quarantined[digest]
		add(red, "quarantined", fmt.Sprintf("%s since generation %d (ferryman rollout lift %s): %s", q.Key, q.Generation, q.Key, ferryman.Brief(q.Reason)))
	}
	if h := r.State.HostRequest; h != nil {
		state := "not answered yet"
		if h.Answered {
			state = "answered"
		}
		add(dim, "hosts", fmt.Sprintf("%d asked for %s ago, %s", h.Total, r.ago(h.At), state))
	}
	for _, m := range r.members() {
		if v := r.View.Nodes[m.ID].Status; v.Installed != "" {
			add(amber, m.Name, waitsForRestart(v))
		}
		for _, problem := range r.View.Nodes[m.ID].Status.Problems {
			add(red, m.Name, problem)
		}
	}
	if len(rows) == 0 {
		return
	}
	p.line()
	p.heading("Attention")
	p.table("  ", nil, rows)
}
