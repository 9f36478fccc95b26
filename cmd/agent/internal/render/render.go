// Package render turns what the leader reports into text for people. It is
// pure: the same report gives the same text.
package render

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"ferryman"
)

// Options are about looks only.
type Options struct {
	Color bool
}

// report is a Report with the look-ups that several pages need.
type report struct {
	ferryman.Report
}

// name is what a person calls a node.
func (r report) name(id ferryman.NodeID) string {
	if m, ok := r.State.Members[id]; ok && m.Name != "" {
		return m.Name
	}
	if v, ok := r.View.Nodes[id]; ok && v.Status.Name != "" {
		return v.Status.Name
	}
	return cmp.Or(string(id), "-")
}

// members are all nodes, by name.
func (r report) members() []ferryman.Member {
	return slices.SortedFunc(maps.Values(r.State.Members), func(a, b ferryman.Member) int {
		return cmp.Or(compareNames(a.Name, b.Name), strings.Compare(string(a.ID), string(b.ID)))
	})
}

// compareNames puts n2 before n10.
func compareNames(a, b string) int {
	stem := func(s string) string { return strings.TrimRight(s, "0123456789") }
	if stem(a) == stem(b) && len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// ago is how long before the report something was, as a person says it.
func (r report) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return age(r.Time.Sub(t))
}

// until is how long after the report something will be.
func (r report) until(t time.Time) string { return age(t.Sub(r.Time)) }

// age rounds a duration to what matters: 4s, 12m, 3h20m, 5d.
func age(d time.Duration) string {
	h, m := int(d.Hours()), int(d.Minutes())%60
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case h == 0:
		return fmt.Sprintf("%dm", m)
	case h < 48:
		return fmt.Sprintf("%dh%02dm", h, m)
	}
	return fmt.Sprintf("%dd", h/24)
}

// took is how long something that is over lasted; parts of a second count.
func took(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return age(d)
}

func newPage(w io.Writer, o Options) *page { return &page{w: w, color: o.Color} }

// Members are all nodes of a report, by name, n2 before n10.
func Members(rep ferryman.Report) []ferryman.Member { return report{rep}.members() }
