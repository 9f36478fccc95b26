package telemetry

import (
	"fmt"
	"strings"
	"time"

	"ferryman"
)

// Check is one thing that must be so; Reason says why it is not, and is empty
// when it is.
type Check struct{ Name, Reason string }

// The bounds of what counts as fresh.
const (
	// lively is how old an agent's newest look at itself may be: it looks once a
	// second, and asks all that its parts share.
	lively = 10 * time.Second
	// touch is how long ago a node may have heard its leader, and turn how long
	// ago the leader's loop may have turned, which it does once a second.
	touch = 5 * time.Second
	turn  = 15 * time.Second
)

// Live says whether the agent's own loops go round.
func Live(f Facts, now time.Time) []Check {
	agent := Check{Name: "agent"}
	switch ago := now.Sub(f.At); {
	case f.At.IsZero():
		agent.Reason = "the agent has not looked at itself yet"
	case ago > lively:
		agent.Reason = fmt.Sprintf("the agent does not get round to looking at itself since %s; restart it, and keep `ferryman debug bundle`", ago.Round(time.Second))
	case f.Report != nil && f.At.Sub(f.Report.Time) > turn:
		agent.Reason = fmt.Sprintf("the leader's loop has not turned for %s", f.At.Sub(f.Report.Time).Round(time.Second))
	}
	return []Check{agent}
}

// Ready says whether the node is a part of its cluster that does its work.
func Ready(f Facts, self ferryman.NodeID) []Check {
	return []Check{member(f, self), caughtUp(f), database(f)}
}

func member(f Facts, self ferryman.NodeID) Check {
	c := Check{Name: "member"}
	m, ok := f.State.Members[self]
	switch {
	case !ok && f.State.Cluster == "":
		c.Reason = "this node is in no cluster yet"
	case !ok:
		c.Reason = "this node is no member of its cluster"
	case m.Want == ferryman.WantLeaving:
		c.Reason = "this node leaves"
		if m.Why != "" {
			c.Reason += ": " + m.Why
		}
	}
	return c
}

// caughtUp is what a node can say of that by itself, in touch with a leader.
func caughtUp(f Facts) Check {
	c := Check{Name: "caught-up"}
	switch {
	case f.Raft.Leads:
	case f.Status.Leader == "":
		c.Reason = "no leader is known"
	case f.Raft.LastContact.IsZero() || f.At.Sub(f.Raft.LastContact) > touch:
		c.Reason = fmt.Sprintf("the leader was not heard for more than %s", touch)
	case f.Status.Applied < f.Raft.Held:
		c.Reason = fmt.Sprintf("entry %d of the log is applied, and it holds %d", f.Status.Applied, f.Raft.Held)
	default:
		if _, ok := f.State.Members[f.Status.Leader]; !ok {
			c.Reason = "this node's state is older than its leader"
		}
	}
	return c
}

func database(f Facts) Check {
	c := Check{Name: "database"}
	if ok, why := f.Status.Healthy(); !ok {
		c.Reason = why
	}
	return c
}

// failed tells whether any check did.
func failed(checks []Check) bool {
	for _, c := range checks {
		if c.Reason != "" {
			return true
		}
	}
	return false
}

// list writes the checks as Kubernetes does, one a line.
func list(checks []Check) string {
	var text strings.Builder
	for _, c := range checks {
		if c.Reason == "" {
			fmt.Fprintf(&text, "[+]%s ok\n", c.Name)
		} else {
			fmt.Fprintf(&text, "[-]%s failed: %s\n", c.Name, ferryman.Brief(c.Reason))
		}
	}
	return text.String()
}
