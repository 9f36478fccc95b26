package reconcile_test

import (
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// leaseTrouble strikes at what the lease is made of; true when it did.
func (w *world) leaseTrouble() bool {
	if w.rng.IntN(20) != 0 {
		return w.rng.IntN(3) > 0 // turns are shorter here
	}
	n := w.byID(w.state.Primary.Node)
	if n == nil || w.rng.IntN(3) == 0 {
		n = w.nodes[w.rng.IntN(len(w.nodes))]
	}
	if n.gone || !n.alive {
		return true
	}
	w.lastTrouble = w.now
	some := w.some(w.ttl() * 2)
	switch w.rng.IntN(16) {
	case 0:
		o := w.nodes[w.rng.IntN(len(w.nodes))]
		w.log("what %s sends does not reach %s", n.name, o.name)
		w.struck["one-way cuts"]++
		w.block(some, [2]*wnode{n, o})
	case 1:
		if l := w.leader; l != nil && l != n {
			w.log("%s does not reach the leader", n.name)
			w.struck["cuts from the leader"]++
			w.block(some, [2]*wnode{n, l}, [2]*wnode{l, n})
		}
	case 2:
		if l := w.leader; l != nil && l != n {
			w.log("one way between %s and the leader is cut", n.name)
			w.struck["one-way cuts"]++
			way := [2]*wnode{n, l}
			if w.rng.IntN(2) == 0 {
				way = [2]*wnode{l, n}
			}
			w.block(some, way)
		}
	case 3:
		w.split(some)
	case 4:
		w.pause(n, some)
	case 5:
		if w.leader != nil {
			w.pause(w.leader, w.some(w.ttl()))
		}
	case 6:
		if n.agent && !n.paused && n.held.epoch > 0 && !n.guard.out {
			w.log("the guard of %s is paused", n.name)
			w.struck["guards paused"]++
			w.guardFails(n, some)
		}
	case 7:
		if !n.guard.out {
			w.struck["guards killed"]++
			w.guardFails(n, w.some(killing))
		}
	case 8:
		w.hang(n)
	case 9:
		w.struck["mode changes"]++
		m := &w.doc.Database.Failover.Mode
		if *m == ferryman.FailoverManual {
			*m = ferryman.FailoverAutomatic
		} else {
			*m = ferryman.FailoverManual
			if w.rng.IntN(2) == 0 { // and soon back again
				w.after(w.some(4*time.Second), func() {
					*m, w.doc.Database.Failover.LeaseTTL = ferryman.FailoverAutomatic, w.someTTL()
					w.publish()
				})
			}
		}
		w.publish()
		w.log("failover.mode is %s", *m)
	case 10, 11:
		w.struck["lease-length changes"]++
		w.doc.Database.Failover.LeaseTTL = w.someTTL()
		w.publish()
		w.log("leaseTTL is %s", w.doc.Database.Failover.LeaseTTL)
	case 12:
		r := ferryman.Request{Kind: ferryman.RequestFailover, By: "a person", Dead: w.rng.IntN(2) == 0 && w.isDead(n) && n.id == w.state.Primary.Node}
		if w.leader != nil && w.ready && w.commit(state.Command{Request: &r}) {
			w.struck["a person's words"]++
		}
	case 13:
		if n.db.running {
			w.log("database of %s crashes", n.name)
			w.struck["databases killed"]++
			w.dies(n)
		}
	case 14, 15:
		w.log("answers are slow")
		w.struck["slow answers"]++
		w.slow = w.now.Add(some)
	}
	return true
}

// comesBack ends what keeps a host from the leader.
func (w *world) comesBack(n *wnode) {
	w.log("%s comes back just when it is given up", n.name)
	clear(w.blocked)
	n.cut = false
	if n.paused {
		w.resume(n)
	}
}

// block cuts ways for a while.
func (w *world) block(d time.Duration, ways ...[2]*wnode) {
	for _, x := range ways {
		if x[0] != x[1] {
			w.blocked[x] = true
			w.after(d, func() { delete(w.blocked, x) })
		}
	}
}

// split cuts the hosts into two halves.
func (w *world) split(d time.Duration) {
	w.log("the network splits")
	w.struck["splits"]++
	side := map[*wnode]bool{}
	for _, n := range w.nodes {
		side[n] = w.rng.IntN(2) == 0
	}
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if side[a] != side[b] {
				w.block(d, [2]*wnode{a, b})
			}
		}
	}
}

// pause stops the agent where it is, and lets it go on later.
func (w *world) pause(n *wnode, d time.Duration) {
	if !n.agent || n.paused || n.guard.out {
		return
	}
	w.log("the agent of %s is paused", n.name)
	w.struck["agents paused"]++
	n.paused = true
	boot := n.bootID
	w.after(d, func() {
		if n.bootID == boot && n.alive && n.agent {
			w.resume(n)
		}
	})
}

func (w *world) resume(n *wnode) {
	missed := n.missed
	n.paused, n.missed = false, nil
	for _, do := range missed {
		w.later(n, 0, do)
	}
}

// hang has the database do nothing, for a while or until it is killed.
func (w *world) hang(n *wnode) {
	if !n.db.running || n.db.hung {
		return
	}
	w.log("database of %s hangs", n.name)
	w.struck["databases hung"]++
	n.db.hung = true
	start := n.db.start
	w.after(w.some(40*time.Second), func() {
		if n.db.start == start {
			n.db.hung = false
		}
	})
}

// crashes ends everything on a host.
func (w *world) crashes(n *wnode) {
	w.dies(n)
	n.crashHost()
	n.paused, n.missed, n.held, n.guard = false, nil, wheld{}, wguard{}
}

// heal ends what was done to hosts. A database that hangs is left to the
// failover, where there is one.
func (w *world) heal() {
	if !w.auto {
		return
	}
	clear(w.blocked)
	w.slow = time.Time{}
	l := w.state.Primary.Lease
	for _, n := range w.nodes {
		if n.paused {
			w.resume(n)
		}
		w.guardReturns(n)
		if n.id != w.state.Primary.Node || l == nil || !l.Enforced {
			n.db.hung = false
		}
	}
}
