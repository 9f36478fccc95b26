package reconcile_test

import (
	"cmp"
	"fmt"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// violation is a broken invariant (design, section 14).
type violation struct{ invariant, text string }

func (v violation) Error() string { return v.invariant + ": " + v.text }

func (w *world) violated(invariant, format string, args ...any) {
	v := violation{invariant, fmt.Sprintf(format, args...)}
	w.log("VIOLATED %v", v)
	panic(v)
}

// check holds the world against what must always be true.
func (w *world) check() {
	var writable []string
	for _, n := range w.nodes {
		if n.alive && n.db.running && n.db.writable {
			writable = append(writable, n.name)
			if lost := missing(w.acked, n.db.log); len(lost) > 0 {
				w.violated("I2", "write %d was acknowledged and is not on the primary %s", lost[0], n.name)
			}
		}
		for id, runs := range n.runs {
			if runs > 1 {
				w.violated("I6", "step %d ran %d times on %s", id, runs, n.name)
			}
		}
	}
	if len(writable) > 1 {
		w.violated("I1", "%v accept writes at once", writable)
	}
	// An agent that restarts leaves its database alone: they count apart.
	agents, databases := 0, 0
	for id, m := range w.state.Members {
		n := w.byID(id)
		if m.Want == ferryman.WantLeaving || !n.alive {
			continue
		}
		if n.exiting {
			agents++
		}
		if n.db.stopped && !n.db.running {
			databases++
		}
	}
	if max := w.maxUnavailable(); max < agents || max < databases {
		w.violated("I3", "%d agents and %d databases are down because of us, maxUnavailable is %d", agents, databases, max)
	}
	if a := w.state.Accepted; a != nil {
		if a.Document.Generation < w.highest {
			w.violated("I5", "generation %d came after %d", a.Document.Generation, w.highest)
		}
		w.highest = a.Document.Generation
	}
	versions := map[string]bool{}
	for id := range w.state.Members {
		if n := w.byID(id); n.db.running {
			versions[n.db.launched.Version] = true
		}
	}
	if len(versions) > 2 {
		w.violated("I5", "three versions run at once: %v", versions)
	}
}

// missing are the writes of all that a log does not have; both are in order.
func missing(all, log []int) (lost []int) {
	i := 0
	for _, id := range all {
		for i < len(log) && log[i] < id {
			i++
		}
		if i == len(log) || log[i] != id {
			lost = append(lost, id)
		}
	}
	return lost
}

// settleDown ends all faults and waits for the world to become what the
// document says, without help.
func (w *world) settleDown() {
	w.faults = false
	w.heal()
	for _, n := range w.nodes {
		n.cut = false
		if !n.gone && (!n.alive || !n.agent) && n.wakes.IsZero() {
			n.wakes = w.now.Add(time.Second)
		}
	}
	for _, k := range []ferryman.RequestKind{ferryman.RequestResume, ferryman.RequestUnfreeze} {
		w.commit(state.Command{Request: &ferryman.Request{Kind: k, By: "the end"}})
	}
	if w.bad[w.doc.Database.Version] != "" {
		w.doc.Database.Version = "2"
		w.publish()
	}
	if v := w.doc.Agent.Version; v == agentNever || v == agentLater {
		w.doc.Agent.Version = "5"
		w.publish()
	}
	for _, q := range w.state.Quarantined {
		w.commit(state.Command{Request: &ferryman.Request{Kind: ferryman.RequestLift, Release: q.Key, By: "a person"}})
	}
	w.settle()
	w.restartAgents()
}

// settle waits for the world to become what the document says.
func (w *world) settle() {
	why := ""
	turns, longest := 1500, 1500
	if w.auto {
		turns, longest = 3000, 700
	}
	for range turns {
		for _, q := range w.state.Quarantined {
			if q.Key == "demodb/"+w.doc.Database.Version || q.Key == "ferryman/"+w.doc.Agent.Version {
				w.commit(state.Command{Request: &ferryman.Request{Kind: ferryman.RequestLift, Release: q.Key, By: "a person"}})
			}
		}
		w.turn(time.Duration(300+w.rng.IntN(longest)) * time.Millisecond)
		if r := w.state.Rollout; r != nil && r.Open() && w.now.UnixNano()%4 == 0 {
			w.commit(state.Command{Request: &ferryman.Request{Kind: ferryman.RequestContinue, By: "a person"}})
		}
		w.person()
		if why = w.unsettled(); why == "" {
			return
		}
	}
	waits := ""
	for _, x := range w.decision.Waits {
		waits += "\n    " + string(x.Rule) + " " + x.Code + ": " + x.Reason
	}
	w.violated("I8", "the cluster did not converge: %s; it says:%s", why, waits)
}

// unsettled says what is not as the document wants it.
func (w *world) unsettled() string {
	s := w.state
	if s.Rollout.Open() || s.Stale() {
		return "the rollout is open"
	}
	if s.Switchover != nil {
		return "a switchover is open"
	}
	if why := cmp.Or(w.unguarded(), w.agentsUnsettled()); why != "" {
		return why
	}
	if len(s.Members) != w.doc.Nodes {
		return fmt.Sprintf("%d members, %d wanted", len(s.Members), w.doc.Nodes)
	}
	reverted := s.Rollout.Parts[ferryman.PartDatabase].Status == ferryman.PartReverted
	voters := 0
	for id := range s.Members {
		n := w.byID(id)
		if w.raft[id] == ferryman.Voter {
			voters++
		}
		switch {
		case !n.up() || !n.db.running:
			return n.name + " does not run"
		case !reverted && n.db.launched.Version != w.doc.Database.Version:
			return n.name + " runs " + n.db.launched.Version
		case id == s.Primary.Node && !n.db.writable:
			return n.name + " is the primary and does not accept writes"
		case id != s.Primary.Node && !n.db.streaming:
			return n.name + " does not stream"
		}
	}
	if want := min(5, w.doc.Nodes-(w.doc.Nodes+1)%2); voters != want {
		return fmt.Sprintf("%d voters, %d wanted", voters, want)
	}
	running := len(w.hosts)
	for _, n := range w.nodes {
		if n.alive && !n.gone {
			running++
		}
	}
	if running != w.doc.Nodes {
		return fmt.Sprintf("%d hosts run, %d wanted", running, w.doc.Nodes)
	}
	return ""
}
