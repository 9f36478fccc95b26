package reconcile_test

import (
	"time"

	"ferryman"
	"ferryman/agent/lease"
)

// wlease is what a host has of the lease: its clock, the holder in its agent,
// the guard beside it and, should it lead, the granter.
//
// The granter is the real one. The holder has goroutines and timers of its own,
// which would not replay; so its rules are written down here again: it counts
// from when it sent; the guard answers before it asks and is armed before it
// holds; what it lets go of accepts no writes, or needs no lease.
type wlease struct {
	rate    float64 // how fast its clock runs, within a twenty-fifth of true
	granter *lease.Granter
	paused  bool
	missed  []func() // what the paused agent will do

	// What its own state says, which is older than what is committed.
	knows    ferryman.State
	informed bool // since it was started
	leader   *wnode
	leads    uint64 // the term that it believes to lead; zero for none

	held  wheld
	want  wwanted // as it was looked at last
	armed bool    // as far as the agent knows
	ask   int     // number of the renewal under way; zero for none
	asked int
	timer int // number of the look that comes next

	guard wguard
}

// wheld is the lease that an agent holds; zero for none.
type wheld struct {
	epoch  uint64
	serial uint64
	length time.Duration
	until  time.Duration
}

type wwanted struct {
	known  bool
	epoch  uint64
	serial uint64
	length time.Duration
}

// wguard is what outlives the agent. A guard that was killed has a standby,
// which goes on with the same deadline.
type wguard struct {
	epoch    uint64
	deadline time.Duration // zero: none
	out      bool          // paused, or killed and not yet followed
}

// clock is the host's, which counts while it sleeps.
func (w *world) clock(n *wnode) time.Duration {
	return time.Duration(float64(w.now.Sub(begin)+time.Hour) * n.rate)
}

// own is how long a duration by the host's clock takes in truth.
func own(n *wnode, d time.Duration) time.Duration { return time.Duration(float64(d)/n.rate) + 1 }

// start starts the agent of a host.
func (w *world) start(n *wnode) {
	if !w.launch(n) {
		return
	}
	n.startAgent()
	if !w.auto {
		return
	}
	n.granter = lease.NewGranter(func() time.Duration { return w.clock(n) })
	n.paused, n.missed, n.informed, n.leader, n.leads = false, nil, false, nil, 0
	n.held, n.want, n.armed, n.ask = wheld{}, wwanted{}, true, 0
	if w.leader == n {
		w.leader = nil // it led before it was started
	}
}

// ends ends the agent of a host.
func (w *world) ends(n *wnode) {
	n.crashAgent()
	n.paused, n.missed, n.held = false, nil, wheld{}
	w.guardReturns(n)
}

func (n *wnode) wanted() wwanted {
	if !n.informed {
		return wwanted{}
	}
	x := wwanted{known: true}
	if p := n.knows.Primary; p.Node == n.id && p.Lease != nil {
		x.epoch, x.serial, x.length = p.Epoch, p.Lease.Serial, p.Lease.Length.Std()
	}
	return x
}

// hold is one look of the holder.
func (w *world) hold(n *wnode) {
	if n.ask != 0 {
		return
	}
	n.want = n.wanted()
	n.timer++
	switch {
	case !n.want.known:
	case n.want.epoch == 0:
		w.release(n)
	case w.plant == promoteUnheld && !n.db.writable:
		w.holdIn(n, n.want.length/5)
	default:
		w.renew(n, n.want)
	}
}

// holdIn has the holder look again, unless it does before.
func (w *world) holdIn(n *wnode, d time.Duration) {
	n.timer++
	timer := n.timer
	w.later(n, own(n, d), func() {
		if n.timer == timer {
			w.hold(n)
		}
	})
}

// renew gets a grant and arms the guard with it.
func (w *world) renew(n *wnode, want wwanted) {
	n.asked++
	ask := n.asked
	n.ask = ask
	began := w.clock(n)
	done := func(next time.Duration) {
		if n.ask != ask {
			return
		}
		n.ask = 0
		if n.wanted() != n.want {
			w.hold(n)
			return
		}
		w.holdIn(n, max(50*time.Millisecond, next))
	}
	retry := want.length / 20
	w.later(n, own(n, max(want.length/4, 200*time.Millisecond)), func() { done(retry) })
	if n.guard.out {
		return // it does not answer, until there is no time left
	}
	sent := w.clock(n)
	w.request(n, want.epoch, func(length time.Duration, ok bool) {
		if n.ask != ask {
			return
		}
		if !ok {
			done(retry)
			return
		}
		if w.plant == countsFromAnswer {
			sent = w.clock(n)
		}
		until := sent + length - ferryman.Allowance(length)
		n.armed = true
		arms := w.some(20 * time.Millisecond)
		if w.plant != heldUnarmed {
			// What is on its way to the guard arrives, whatever becomes of the agent.
			w.after(arms, func() { w.arm(n, want.epoch, until) })
		}
		w.later(n, arms+1, func() {
			switch {
			case n.ask != ask:
			case n.guard.out && w.plant != heldUnarmed: // it did not answer
			case w.clock(n) >= until:
				done(retry)
			default:
				n.held = wheld{want.epoch, want.serial, length, until}
				w.later(n, own(n, until-w.clock(n)), func() { w.expire(n, until) })
				w.struck["leases held"]++
				done(length/5 - (w.clock(n) - began))
			}
		})
	})
}

// expire is the agent's end of a lease that was not renewed.
func (w *world) expire(n *wnode, until time.Duration) {
	if n.held.until != until {
		return
	}
	w.log("the lease of %s runs out", n.name)
	w.struck["leases expired"]++
	epoch := n.held.epoch
	n.held = wheld{}
	w.later(n, w.some(killing), func() { w.kill(n, epoch) })
}

// holds tells whether the lease of that epoch is held now.
func (w *world) holds(n *wnode, epoch uint64) bool {
	return n.held.epoch == epoch && w.clock(n) < n.held.until
}

// release lets go of the lease, and of the guard once nothing needs it.
func (w *world) release(n *wnode) {
	n.held = wheld{}
	if !n.armed {
		return
	}
	p := n.knows.Primary
	if manual := p.Node == n.id && p.Lease == nil; !manual && n.db.running && n.db.writable {
		w.kill(n, p.Epoch)
	}
	if n.guard.out {
		w.holdIn(n, time.Second)
		return
	}
	n.guard.deadline, n.armed = 0, false
}

// arm gives the guard its deadline.
func (w *world) arm(n *wnode, epoch uint64, until time.Duration) {
	if n.guard.out || !n.alive {
		return
	}
	n.guard.epoch, n.guard.deadline = epoch, until
	w.watch(n)
}

// watch has the guard act at its deadline.
func (w *world) watch(n *wnode) {
	deadline := n.guard.deadline
	if deadline == 0 {
		return
	}
	w.after(own(n, deadline-w.clock(n)), func() {
		if n.guard.deadline != deadline || n.guard.out || !n.alive {
			return
		}
		epoch := n.guard.epoch
		w.after(w.some(killing), func() {
			if !n.alive || n.guard.out {
				return
			}
			if n.guard.deadline == deadline {
				n.guard.deadline = 0
			}
			if n.db.running {
				w.log("the guard of %s kills its database", n.name)
				w.struck["guards that killed"]++
			}
			w.kill(n, epoch)
		})
	})
}

// killing is how long a kill takes: with the time that a standby needs to take
// over, it stays within the allowance of the shortest lease.
const killing = 40 * time.Millisecond

// guardFails takes the guard away for a while. While it is paused its agent must
// be able to act: agent and guard that are both paused beside a database that
// goes on break the argument, and are no case of this world.
func (w *world) guardFails(n *wnode, d time.Duration) {
	n.guard.out = true
	w.after(d, func() { w.guardReturns(n) })
}

func (w *world) guardReturns(n *wnode) {
	if n.guard.out {
		n.guard.out = false
		w.watch(n)
	}
}

// kill is what the guard, the agent and a fence do: the process ends, its marker
// says that it is fenced, and what was started in between ends too.
func (w *world) kill(n *wnode, epoch uint64) {
	was := n.db.running
	w.dies(n)
	if d := &n.db; epoch >= d.epoch { // an older order says nothing of a newer primary
		d.named = d.named && epoch == d.epoch
		d.epoch, d.fenced = epoch, epoch
	}
	if was && w.plant == revives {
		w.after(time.Second, func() {
			if n.alive && n.db.initialised && !n.db.running {
				n.db.running, n.db.writable, n.db.role, n.db.start = true, true, ferryman.RolePrimary, n.db.start+1
			}
		})
	}
}

// dies ends the process of a database without its doing.
func (w *world) dies(n *wnode) {
	n.db.had = max(n.db.had, len(n.db.log))
	n.db.lost = n.db.lost || w.volatile && n.db.running && w.copied(n)
	n.stopDB()
}

// copied tells that another has all that n could lose with its process: no
// cluster survives the loss of the last copy.
func (w *world) copied(n *wnode) bool {
	for _, o := range w.nodes {
		m, member := w.state.Members[o.id]
		if o == n || !member || m.Want == ferryman.WantLeaving || !o.up() || o.gone || !o.db.initialised || o.db.lost || o.db.diverged {
			continue
		}
		if w.sync == 0 || len(missing(w.acked, o.db.log)) == 0 {
			return true
		}
	}
	return false
}
