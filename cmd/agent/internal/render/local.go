package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	"ferryman"
)

// LocalView is what a node knows by itself, where no leader answers.
type LocalView struct {
	Time   time.Time
	Status ferryman.NodeStatus
	State  ferryman.State
	Leader string // its name, if the node believes to know one
}

// Local writes what one node knows: as much of Status as needs no leader, and
// what is missing.
func Local(w io.Writer, v LocalView, o Options) error {
	r := report{ferryman.Report{Time: v.Time, State: v.State}}
	p := newPage(w, o)
	r.header(p)
	p.line(text{"Missing ", red}, text{s: v.Missing()})
	p.line()
	p.heading("This node, %s", v.Status.Name)
	var rows [][]text
	for _, s := range v.Status.Services {
		in := s.Instance
		rows = append(rows, []text{{s: s.Slot}, {s: orDash(in.Version)}, role(s), {s: position(in)}, {s: lag(in)}, r.serviceState(ferryman.NodeView{}, s)})
	}
	if len(rows) > 0 {
		p.table("  ", []string{"SERVICE", "VERSION", "ROLE", "POSITION", "LAG", "STATE"}, rows)
	}
	if v.Status.Installed != "" {
		p.line(text{"  " + waitsForRestart(v.Status), amber})
	}
	for _, problem := range v.Status.Problems {
		p.line(text{"  " + problem, red})
	}
	rows = nil
	for _, m := range r.members() {
		role := ""
		switch {
		case m.Witness:
			role = "witness"
		case v.State.Primary.Epoch > 0 && v.State.Primary.Node == m.ID:
			role = "primary"
		}
		rows = append(rows, []text{{m.Name, bold}, {s: m.Address}, {s: string(m.Want)}, {s: orDash(role)}})
	}
	if len(rows) > 0 {
		p.line()
		p.heading("The cluster, as this node knew it last")
		p.table("  ", []string{"NODE", "ADDRESS", "WANTED", "ROLE"}, rows)
	}
	return p.err
}

// Missing says what keeps this node from showing the cluster.
func (v LocalView) Missing() string {
	if v.Leader != "" {
		return fmt.Sprintf("the leader, %s, does not answer this node; look at its agent, and at the network between", v.Leader)
	}
	var others []string
	for _, m := range (report{ferryman.Report{State: v.State}}).members() {
		if m.ID != v.Status.ID && !m.Lost {
			others = append(others, m.Name+" ("+m.Address+")")
		}
	}
	switch {
	case len(v.State.Members) == 0:
		return "this node is in no cluster yet: it asks the hosts of `join` and of the api-server; its log says what they answer"
	case len(others) == 0:
		return "a leader; this node is the only one, and will lead within seconds"
	}
	missing := "a leader: more than half of the voters must reach each other; look at the agents of " + strings.Join(others, ", ")
	if l := v.State.Primary.Lease; l != nil && l.Enforced {
		missing += "; nothing is promoted until then, and the primary accepts no writes once its lease of " + l.Length.String() + " has run out"
	}
	return missing
}
