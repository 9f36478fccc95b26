package reconcile_test

import (
	"slices"
	"strings"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// wfailover is what a world with automatic failover has in addition.
type wfailover struct {
	auto     bool
	sync     int  // Instance.SyncReplicas of every instance
	volatile bool // a database that crashes loses its data
	policy   ferryman.FailoverPolicy

	queue     wqueue
	told      int
	blocked   map[[2]*wnode]bool // one way from one host to another
	ready     bool               // the leader took its first barrier
	proposing bool
	edgeAt    time.Time
	judged    ferryman.ServiceStatus // what was seen of the primary when another was proposed
	slow      time.Time              // until when answers take long
	seen      time.Duration          // the last grant, as it was seen when a failover was proposed
	quiet     bool                   // nothing but agents is restarted
	before    map[*wnode]ferryman.Result
}

// automatic makes every second world one with automatic failover.
func (w *world) automatic(seed uint64) {
	if w.auto = seed%2 == 1; !w.auto {
		return
	}
	w.sync = w.rng.IntN(2)
	w.volatile = w.rng.IntN(4) == 0
	w.blocked = map[[2]*wnode]bool{}
	w.before = map[*wnode]ferryman.Result{}
	w.policy = ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic, LeaseTTL: w.someTTL(), MaxLagBytes: []ferryman.Bytes{1, 3, 1 << 20}[w.rng.IntN(3)]}
}

func (w *world) someTTL() ferryman.Duration {
	return ferryman.Duration([]time.Duration{1, 2, 5, 10, 20}[w.rng.IntN(5)] * time.Second)
}

// exclusive is I1, after every event: one instance accepts writes, and none on a
// node that counts as fenced. A database that hangs may go on.
func (w *world) exclusive() {
	if !w.auto {
		return
	}
	var writable []string
	for _, n := range w.nodes {
		if !n.alive || !n.db.running || !n.db.writable {
			continue
		}
		writable = append(writable, n.name)
		if f := w.state.Failover; f != nil && f.Fenced != "" && f.From == n.id {
			w.violated("I1", "%s accepts writes although %s", n.name, f.Fenced)
		}
	}
	if len(writable) > 1 {
		w.violated("I1", "%v accept writes at once", writable)
	}
}

// unheld tells that a step which gives writes has to wait for the lease.
func (w *world) unheld(n *wnode, st ferryman.Step) bool {
	if !w.auto || st.Op != ferryman.OpPromote && st.Op != ferryman.OpUnfence || w.plant == promoteUnheld {
		return false
	}
	l := n.knows.Primary.Lease
	return l != nil && l.Enforced && !w.holds(n, st.Args.Epoch)
}

// answer is what an instance says of itself when it is asked what it holds.
func (w *world) answer(n *wnode, st ferryman.Step) ferryman.Result {
	r := ferryman.Result{Position: uint64(len(n.db.log)), History: n.db.history}
	if !n.db.initialised && st.Args.Epoch > 0 { // a rollout does not ask it to be the primary
		r.Blockers = append(r.Blockers, "there are no data here")
	}
	if old, ok := w.before[n]; ok && w.plant == staleSurvey && st.Args.Alone {
		r = old
	}
	return r
}

// committed follows what a commit did to the primary.
func (w *world) committed(before ferryman.State) {
	if !w.auto {
		return
	}
	if w.leader != nil && w.ready {
		w.hear(w.leader)
	}
	if before.Failover == nil && w.state.Failover != nil {
		w.begins()
	}
	if f := w.state.Failover; f != nil && f.Fenced != "" && (before.Failover == nil || before.Failover.Fenced == "") {
		switch {
		case strings.HasPrefix(f.Fenced, "no lease"):
			w.struck["leases waited out"]++
		case !f.Dead:
			w.struck["fence receipts"]++
		}
	}
	if before.Failover != nil && w.state.Primary.Epoch > before.Primary.Epoch {
		w.replaced(before)
	}
	if l, old := w.state.Primary.Lease, before.Primary.Lease; (l == nil) != (old == nil) {
		w.struck["mode changes in force"]++
	} else if l != nil && l.Length != old.Length {
		w.struck["lengths of the lease in force"]++
	}
}

// begins holds the beginning of a failover against what it must not be.
func (w *world) begins() {
	w.struck["failovers begun"]++
	if w.quiet {
		w.violated("I9", "agents were restarted, and nothing else, and a failover began: %s", w.state.Failover.Why)
	}
	for _, n := range w.nodes {
		w.before[n] = ferryman.Result{Position: uint64(len(n.db.log)), History: n.db.history}
	}
}

// replaced is I2 of a failover: what it may lose. By the cluster alone, nothing
// that was acknowledged while replication was synchronous in force; otherwise no
// more than maxLagBytes of what the leader saw of the primary.
func (w *world) replaced(before ferryman.State) {
	f, p := before.Failover, before.Primary
	from, to := w.byID(f.From), w.byID(w.state.Primary.Node)
	lost := missing(w.acked, to.db.log)
	w.struck["failovers"]++
	w.struck["writes lost"] += len(lost)
	w.log("%s takes the place of %s without %d acknowledged writes", to.name, from.name, len(lost))
	w.acked = slices.DeleteFunc(w.acked, func(id int) bool { _, gone := slices.BinarySearch(lost, id); return gone })
	if f.By != "" {
		w.struck["failovers by a person"]++
		return
	}
	if p.SyncReplicas > 0 {
		for _, n := range w.nodes {
			if kept := len(lost) - len(missing(lost, n.db.log)); n != from && kept > 0 {
				w.violated("I2", "%s lacks %d acknowledged writes, which %s holds", to.name, kept, n.name)
			}
		}
		if len(lost) > 0 {
			w.struck["writes lost with each copy"] += len(lost)
		}
		return
	}
	svc := w.judged
	if svc.Instance.History != p.History {
		w.struck["failovers without a known lag"]++
		return
	}
	limit := int(w.state.Accepted.Document.WithDefaults().Database.Failover.MaxLagBytes)
	unseen := max(0, max(from.db.had, len(from.db.log))-int(svc.Instance.Position))
	if len(lost) > limit+unseen {
		w.violated("I2", "%s lacks %d acknowledged writes, maxLagBytes is %d, and %d were not seen", to.name, len(lost), limit, unseen)
	}
}

// turned is what follows a turn of the leader.
func (w *world) turned() {
	if w.leader == nil || !w.ready {
		return
	}
	w.spread()
	if !w.proposing {
		w.edge()
	}
}

// unguarded says what automatic failover lacks.
func (w *world) unguarded() string {
	if !w.auto {
		return ""
	}
	p, doc := w.state.Primary, w.doc.WithDefaults()
	l, policy := p.Lease, doc.Database.Failover
	switch {
	case w.state.Failover != nil:
		return "a failover is open"
	case policy.Mode != ferryman.FailoverAutomatic && l != nil:
		return "failover is manual and there is a lease"
	case policy.Mode != ferryman.FailoverAutomatic || w.doc.Nodes < 3:
		return ""
	case l == nil || !l.Enforced:
		return "failover is not automatic in force"
	case l.Length != policy.LeaseTTL || l.Longest != l.Length:
		return "the lease has another length"
	case !w.holds(w.byID(p.Node), p.Epoch):
		return "the lease is not held"
	case w.leader == nil || w.leader.id == p.Node:
		return "nobody leads, or the primary's agent"
	}
	return ""
}

// person does what only a person can, where the cluster says that it waits.
func (w *world) person() {
	if !w.auto {
		return
	}
	for _, x := range w.decision.Waits {
		r := ferryman.Request{Kind: ferryman.RequestFailover, By: "a person"}
		switch {
		case x.Rule != ferryman.RulePrimary && x.Code != "primary-lost":
			continue
		case x.Code == "flapping":
		case x.Code == "failover-candidate", x.Code == "primary-empty", x.Code == "primary-lost":
			r.Dead = w.isDead(w.byID(w.state.Primary.Node))
			if !r.Dead {
				continue
			}
		default:
			continue
		}
		if w.commit(state.Command{Request: &r}) {
			w.struck["a person's words"]++
		}
		return
	}
}

// isDead tells that a person may say so: nothing on that host accepts writes,
// or is about to.
func (w *world) isDead(n *wnode) bool {
	if n.alive && (n.db.writable || n.db.running && n.db.hung) {
		return false
	}
	for _, r := range n.running {
		if r.step.Op == ferryman.OpPromote || r.step.Op == ferryman.OpUnfence {
			return false
		}
	}
	return true
}

// restartAgents is I9: a rolling restart of all agents, and nothing else, costs
// no primary its role. With fewer than three voters the group itself stands still
// while one of them is restarted.
func (w *world) restartAgents() {
	if !w.auto || w.doc.Nodes < 3 || w.rng.IntN(2) > 0 {
		return
	}
	for range 60 {
		w.turn(time.Second) // what the faults began ends
	}
	w.settle()
	w.struck["quiet restarts of agents"]++
	w.doc.Agent.RestartGeneration++
	w.publish()
	w.quiet = true
	w.turn(time.Second)
	w.settle()
}
