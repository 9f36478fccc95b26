package reconcile_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// link tells whether a message gets from one agent to another.
func (w *world) link(from, to *wnode) bool {
	return from == to || from.alive && to.alive && !from.cut && !to.cut && !w.blocked[[2]*wnode{from, to}]
}

// linked tells whether two hosts reach each other.
func (w *world) linked(a, b *wnode) bool { return w.link(a, b) && w.link(b, a) }

// majority tells whether n reaches a majority of voters, itself among them.
func (w *world) majority(n *wnode) bool {
	total, reached := 0, 0
	for id, s := range w.raft {
		if s == ferryman.Voter {
			total++
			if o := w.byID(id); o.up() && w.linked(n, o) {
				reached++
			}
		}
	}
	return reached >= total/2+1
}

// electAmong is elect where not every agent reaches every other.
func (w *world) electAmong() {
	if l := w.leader; l != nil && l.up() && w.raft[l.id] == ferryman.Voter && w.majority(l) {
		return
	}
	w.leader = nil
	var able []*wnode
	for _, n := range w.nodes {
		if w.raft[n.id] == ferryman.Voter && n.up() && w.majority(n) {
			able = append(able, n)
		}
	}
	if len(able) > 0 {
		w.lead(able[w.rng.IntN(len(able))])
	}
}

// leadAnew is what a leadership begins with. Whoever led before does not know
// yet, and may go on to believe for as long as it likes: no rule is about that.
func (w *world) leadAnew(n *wnode) {
	term := w.term
	w.proposing, w.ready = false, false
	n.leads, n.leader = term, n
	for _, o := range w.nodes {
		if believed := o.leads; o != n && believed != 0 {
			w.after(w.some(3*w.ttl()), func() {
				if o.leads == believed {
					o.leads = 0
				}
			})
		}
	}
	w.barrier(n, term)
}

// barrier is the first one of a new leader.
func (w *world) barrier(n *wnode, term uint64) {
	w.later(n, w.delay(), func() {
		if w.leader != n || w.term != term {
			return
		}
		if !w.majority(n) {
			w.barrier(n, term)
			return
		}
		w.ready, w.view.Since = true, w.now
		w.hear(n)
		if w.plant != noWait {
			n.granter.Lead()
		}
		w.spread()
	})
}

// spread tells the others what is committed, as far as they are reached. A
// follower hears it also where nobody hears the follower.
func (w *world) spread() {
	l, term := w.leader, w.term
	for _, n := range w.nodes {
		if w.raft[n.id] == "" || n.knows.LastEvent == w.state.LastEvent && n.leader == l && n.informed || w.faults && w.rng.IntN(6) == 0 {
			continue
		}
		w.later(n, w.delay(), func() {
			if w.leader == l && w.term == term && l.up() && w.link(l, n) {
				w.hear(n)
			}
		})
	}
}

// hear brings the state of one node up to date.
func (w *world) hear(n *wnode) {
	n.knows, n.informed, n.leader = w.state, true, w.leader
	if n != w.leader {
		n.leads = 0
	}
	for _, lane := range slices.Sorted(maps.Keys(n.running)) {
		id := n.running[lane].step.ID
		if st, ok := n.knows.Step(id); !ok || !st.Open() {
			delete(n.running, lane)
			n.journal[id] = ferryman.Outcome{Step: id, Status: ferryman.StatusFailed, Reason: "the leader closed it"}
		}
	}
	if n.wanted() != n.want {
		w.hold(n)
	}
}

// request asks for the lease, on behalf of n's holder.
func (w *world) request(n *wnode, epoch uint64, reply func(time.Duration, bool)) {
	l := n.leader
	if n.leads != 0 {
		l = n
	}
	if l == nil {
		w.later(n, w.delay(), func() { reply(0, false) })
		return
	}
	way := func(from, to *wnode, do func()) {
		d, last := w.delay(), false
		switch {
		case from == to:
			d = 0
		case w.now.Before(w.slow) && to == n:
			d = w.ttl()/6 + w.some(w.ttl()/12)
			last = w.faults && w.rng.IntN(3) == 0
		}
		w.after(d, func() {
			if w.link(from, to) {
				w.later(to, 0, do)
				if last && w.faults {
					w.log("%s is cut off", n.name)
					n.cut, w.lastTrouble = true, w.now
				}
			}
		})
	}
	way(n, l, func() {
		w.grant(l, n, epoch, func(length time.Duration, ok bool) {
			way(l, n, func() { reply(length, ok) })
		})
	})
}

var errNot = errors.New("not granted")

// grant answers a holder: a barrier, and then the real Granter with what this
// leader's own state says by then. An old leader answers too, if its barrier
// was confirmed before the new one was elected.
func (w *world) grant(l, n *wnode, epoch uint64, reply func(time.Duration, bool)) {
	term := l.leads
	if term == 0 {
		reply(0, false)
		return
	}
	w.later(l, w.delay(), func() {
		if now := w.leader == l && w.term == term && w.ready && w.majority(l); !now && w.plant != noBarrier {
			return // nobody confirms it any more
		}
		w.later(l, w.delay(), func() {
			length, err := l.granter.Grant(func() (uint64, ferryman.Duration, error) {
				p := l.knows.Primary
				if p.Node != n.id || p.Epoch != epoch || p.Lease == nil || l.knows.Failover != nil {
					return 0, 0, errNot
				}
				return p.Epoch, p.Lease.Length, nil
			})
			if err == nil && w.leader != l {
				w.struck["deposed leaders that answered"]++
			}
			reply(length.Std(), err == nil)
		})
	})
}

// propose commits a decision after a while, in which others commit and grants
// are given. A leader that is deposed meanwhile does not.
func (w *world) propose(cmd state.Command) {
	w.proposing = true
	term, l := w.term, w.leader
	w.judged, _ = w.view.Nodes[w.state.Primary.Node].Status.Service("db")
	began := slices.ContainsFunc(cmd.Moves, func(t ferryman.Transition) bool { return t.Kind == ferryman.MoveBeginFailover })
	if began {
		w.seen = w.clock(l) - w.view.Lease.Quiet.Std()
	}
	if began && w.faults && w.rng.IntN(2) == 0 {
		w.comesBack(w.byID(w.state.Primary.Node)) // at the worst of all moments
	}
	w.later(l, w.delay(), func() {
		if w.leader != l || w.term != term {
			return
		}
		w.proposing = false
		if w.majority(l) {
			w.commit(cmd)
			w.spread()
			w.dispatch()
			w.edge()
		}
	})
}

// edge has the leader look at the very instants for which a failover waits.
func (w *world) edge() {
	s, l, term := w.state, w.leader, w.term
	if s.Primary.Lease == nil || !w.ready {
		return
	}
	quiet, rest := l.granter.View(s).Quiet.Std(), time.Duration(0)
	switch length := s.Primary.Lease.Length.Std(); {
	case s.Failover != nil:
		rest = s.Primary.Lease.Over() - quiet
	case quiet > length/2:
		rest = length - quiet
	}
	if at := w.now.Add(own(l, rest)); rest > 0 && !at.Equal(w.edgeAt) {
		w.edgeAt = at
		w.later(l, own(l, rest), func() {
			if w.leader == l && w.term == term && l.up() && w.majority(l) {
				w.observe()
				w.decide()
			}
		})
	}
}

func (w *world) ttl() time.Duration {
	return max(w.doc.Database.Failover.LeaseTTL.Std(), time.Second)
}

func (w *world) status(n *wnode) ferryman.NodeStatus {
	st := n.status()
	if w.auto {
		in := &st.Services[0].Instance
		in.Initialised = n.db.initialised // also of one that is down: it was so when it was seen last
		if n.db.hung {
			// Nobody answers: what was seen of it before stays, as the runner has it.
			in.Running, in.Healthy, in.Streaming, in.Reason = false, false, false, "does not answer within 2s"
		}
		in.SyncReplicas = w.sync
		if h := n.held; h.epoch > 0 && w.holds(n, h.epoch) {
			st.Lease = &ferryman.LeaseStatus{Epoch: h.epoch, Serial: h.serial, Length: ferryman.Duration(h.length)}
		}
		st.Problems = append(st.Problems, fmt.Sprintf("guard out %v", n.guard.out))
	}
	return st
}
