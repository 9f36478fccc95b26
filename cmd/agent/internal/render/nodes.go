package render

import (
	"fmt"
	"io"
	"strings"

	"ferryman"
)

var nodeHeading = []string{"NODE", "RAFT", "AGENT", "DATABASE", "ROLE", "POSITION", "LAG", "STATE"}

// Nodes writes one line for each node.
func Nodes(w io.Writer, rep ferryman.Report, o Options) error {
	p, r := newPage(w, o), report{rep}
	r.nodes(p)
	return p.err
}

func (r report) nodes(p *page) {
	if len(r.State.Members) == 0 {
		p.printf("no nodes yet")
		return
	}
	var rows [][]text
	for _, m := range r.members() {
		rows = append(rows, r.node(m)...)
	}
	p.table("", nodeHeading, rows)
}

// node is a line for each service of a node, or one for a witness.
func (r report) node(m ferryman.Member) [][]text {
	v := r.View.Nodes[m.ID]
	first := []text{{m.Name, bold}, r.raft(m.ID), {s: orDash(v.Status.Agent.Version)}}
	state := r.nodeState(m, v)
	if len(v.Status.Services) == 0 {
		role := text{s: "-"}
		if m.Witness {
			role = text{"witness", dim}
		}
		return [][]text{append(first, text{s: "-"}, role, text{s: "-"}, text{s: "-"}, state)}
	}
	var rows [][]text
	for i, s := range v.Status.Services {
		if i > 0 {
			first = []text{{}, {}, {}}
		}
		here := state
		if state.style == green {
			here = r.serviceState(v, s)
		}
		in := s.Instance
		row := append(append([]text{}, first...), text{s: orDash(in.Version)}, role(s), text{s: position(in)}, text{s: lag(in)}, here)
		rows = append(rows, row)
	}
	return rows
}

func (r report) raft(id ferryman.NodeID) text {
	if r.View.Self == id {
		return text{"leader", green}
	}
	if s, ok := r.View.Raft[id]; ok {
		return text{s: string(s)}
	}
	return text{"-", dim}
}

// nodeState says what is up with the node itself; green when nothing is.
func (r report) nodeState(m ferryman.Member, v ferryman.NodeView) text {
	var notes []string
	look := green
	switch {
	case !v.Known:
		look, notes = amber, append(notes, "not seen yet")
	case !v.Reachable:
		look = red
		note := "no answer for " + r.ago(v.Contact)
		if v.Error != "" {
			note += ": " + ferryman.Brief(v.Error)
		}
		notes = append(notes, note)
	case !v.CaughtUp && m.ID != r.View.Self:
		look, notes = amber, append(notes, "catching up with the cluster's log")
	}
	switch m.Want {
	case ferryman.WantLeaving:
		look = amber
		notes = append(notes, because("leaving", m.Why))
	case ferryman.WantMaintenance:
		look = amber
		if k := m.Maintenance; k != nil {
			notes = append(notes, because("maintenance for "+r.until(k.Until)+" more, by "+k.Owner, k.Reason))
		} else {
			notes = append(notes, "maintenance")
		}
	}
	if look == green {
		return text{"healthy", green}
	}
	return text{strings.Join(notes, "; "), look}
}

func (r report) serviceState(v ferryman.NodeView, s ferryman.ServiceStatus) text {
	in := s.Instance
	switch {
	case in.Diverged:
		return text{because("diverged", in.Reason), red}
	case !in.Running:
		return text{because("not running", first(in.Reason, s.Unit.Result)), red}
	case !in.Healthy:
		return text{because("not healthy", in.Reason), red}
	case in.Drained:
		return text{"healthy, drained", amber}
	case !v.HealthySince.IsZero():
		return text{"healthy for " + r.ago(v.HealthySince), green}
	}
	return text{"healthy", green}
}

func role(s ferryman.ServiceStatus) text {
	in := s.Instance
	t := text{s: orDash(string(in.Role))}
	if s.Tier != "" && len(s.Traits.Tiers) > 1 {
		t.s = s.Tier
	}
	switch {
	case in.Fenced:
		t.s += " (fenced)"
		t.style = amber
	case in.Writable:
		t.style = green
	}
	return t
}

func position(in ferryman.Instance) string {
	if !in.Running && in.Position == 0 {
		return "-"
	}
	return fmt.Sprint(in.Position)
}

func lag(in ferryman.Instance) string {
	switch {
	case in.Role != ferryman.RoleReplica || !in.Running:
		return "-"
	case !in.Streaming:
		return "not streaming"
	}
	return in.Lag.String()
}

func orDash(s string) string { return first(s, "-") }

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// because joins what is and why.
func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + ferryman.Brief(why)
}
