package plan

import (
	"cmp"
	"slices"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// situation is what the rules read, with the questions that several ask.
type situation struct {
	s      ferryman.State
	v      ferryman.View
	now    time.Time
	policy ferryman.Policy
	nodes  []upgrade.Node // all members, by name
	stay   []upgrade.Node // those that are not on their way out
	serve  []upgrade.Node // those that stay and run services
	tiers  []string
	single bool // the engine has one primary
	engine string
}

func newSituation(s ferryman.State, v ferryman.View, now time.Time) *situation {
	x := &situation{s: s, v: v, now: now, policy: s.Policy()}
	if s.Accepted != nil {
		x.engine = s.Accepted.Document.Database.Engine
	}
	for id, m := range s.Members {
		n := upgrade.Node{Member: m, View: v.Nodes[id], Suffrage: v.Raft[id], Leader: id == v.Self,
			Primary: s.Primary.Epoch > 0 && s.Primary.Node == id, Carried: x.carried(id)}
		for _, st := range n.View.Status.Services {
			x.tiers = st.Traits.Tiers
			x.single = x.single || st.Traits.Primaries == 1
		}
		n.Down = x.down(n)
		x.nodes = append(x.nodes, n)
	}
	slices.SortFunc(x.nodes, func(a, b upgrade.Node) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a.ID(), b.ID()))
	})
	for _, n := range x.nodes {
		if n.Member.Want == ferryman.WantLeaving {
			continue
		}
		x.stay = append(x.stay, n)
		if !n.Member.Witness && len(n.Member.Services) > 0 {
			x.serve = append(x.serve, n)
		}
	}
	return x
}

// down says why a node does not count as available.
func (x *situation) down(n upgrade.Node) string {
	m := n.Member
	switch {
	case m.Want == ferryman.WantMaintenance:
		return "in maintenance until " + m.Maintenance.Until.UTC().Format("15:04:05 MST") + ": " + m.Maintenance.Reason
	case !n.View.Known:
		return "has not answered this leader yet"
	case !n.View.Reachable:
		return "does not answer since " + n.View.Contact.UTC().Format("15:04:05 MST")
	}
	if ok, why := n.View.Status.Healthy(); !ok {
		return why
	}
	for _, svc := range m.Services {
		st, ok := n.View.Status.Service(svc.Slot)
		switch {
		case !ok:
			return "does not report " + svc.Slot
		case x.drifted(st):
			return "runs " + st.Selected.Version + " and not what the cluster runs"
		case st.Traits.Primaries != 1 || x.s.Primary.Epoch == 0:
		case n.Primary && !st.Instance.Writable && x.s.Switchover == nil:
			return "is the primary and does not accept writes"
		case !n.Primary && !st.Instance.Streaming && x.s.Switchover == nil:
			return "does not stream from the primary"
		}
	}
	return ""
}

func (x *situation) node(id ferryman.NodeID) (upgrade.Node, bool) {
	for _, n := range x.nodes {
		if n.ID() == id {
			return n, true
		}
	}
	return upgrade.Node{}, false
}

func (x *situation) name(id ferryman.NodeID) string {
	if m, ok := x.s.Members[id]; ok {
		return m.Name
	}
	return string(id)
}

func (x *situation) passages() map[ferryman.NodeID]ferryman.Passage {
	if !x.s.Rollout.Open() {
		return nil
	}
	return x.s.Rollout.Passages
}

func (x *situation) carried(id ferryman.NodeID) bool { _, ok := x.passages()[id]; return ok }

// changing tells by what the primary is being changed; empty when it is not.
func (x *situation) changing() string {
	switch {
	case x.s.Switchover != nil:
		return "switchover"
	case x.s.Failover != nil:
		return "failover"
	}
	return ""
}

// founder tells that a node holds the database that was begun, before it has a
// primary: all that there is.
func (x *situation) founder(n upgrade.Node) bool {
	return x.s.Initialised && x.s.Primary.Epoch == 0 && n.ID() == x.s.Founder
}

// primaryService is the recorded primary's service as last reported.
func (x *situation) primaryService() ferryman.ServiceStatus {
	st, _ := x.v.Nodes[x.s.Primary.Node].Status.Service(x.s.Primary.Slot)
	return st
}

// silent is how long this leader has had no answer from a node, at most since
// the node joined.
func (x *situation) silent(n upgrade.Node) time.Duration {
	if n.View.Reachable {
		return 0
	}
	since := x.v.Since
	for _, t := range []time.Time{n.View.Contact, n.Member.Joined} {
		if t.After(since) {
			since = t
		}
	}
	return x.now.Sub(since)
}

// dead tells whether a node has been silent for too long without a reason.
func (x *situation) dead(n upgrade.Node) bool {
	return n.Member.Want == ferryman.WantActive && x.silent(n) >= x.v.Limits.DeadAfter.Std()
}

// tried returns the steps for an operation in a lane since a step id, oldest first.
func (x *situation) tried(node ferryman.NodeID, service string, op ferryman.Op, since uint64) (out []ferryman.Step) {
	for _, st := range x.s.Ledger {
		if st.ID >= since && st.Node == node && st.Service == service && st.Op == op {
			out = append(out, st)
		}
	}
	return out
}

// asked returns the earlier attempts of a step since a step id, oldest first. A
// failover's question and a rollout's are two, although both are a preflight; and
// so are the stages of an agent and of a database, which are both the node's.
func (x *situation) asked(st ferryman.Step, since uint64) []ferryman.Step {
	return slices.DeleteFunc(x.tried(st.Node, st.Service, st.Op, since), func(o ferryman.Step) bool {
		return o.Args.Alone != st.Args.Alone || st.Op == ferryman.OpStage && !o.Open() && o.Args.Engine != st.Args.Engine
	})
}

// backoff is how long to wait before another attempt after so many failures.
func backoff(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	return min(time.Minute, time.Second<<min(failures-1, 6))
}

// again makes the next attempt of a step, unless its lane is busy with it or
// the last attempts failed too shortly ago; then it says so.
func (x *situation) again(p *proposal, st ferryman.Step, since uint64) {
	tried := x.asked(st, since)
	failures := 0
	for i := len(tried) - 1; i >= 0; i-- {
		if tried[i].Open() {
			p.wait("step", st.Node, "%s runs on %s since %s (attempt %d)", st.Op, x.name(st.Node), x.now.Sub(tried[i].Since).Round(time.Second), tried[i].Attempt)
			return
		}
		if tried[i].Outcome.Done() {
			break
		}
		failures++
	}
	if n := len(tried); failures > 0 {
		last := tried[n-1].Outcome
		if rest := backoff(failures) - x.now.Sub(last.Ended); rest > 0 {
			p.wait("backoff", st.Node, "%s on %s failed %d times and is tried again in %s: %s", st.Op, x.name(st.Node), failures, rest.Round(time.Second), last.Reason)
			return
		}
	}
	st.Attempt = len(tried) + 1
	if st.Deadline == 0 {
		st.Deadline = x.policy.StepDeadline
	}
	p.step(st)
}
