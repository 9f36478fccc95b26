package reconcile_test

import (
	"container/heap"
	"time"
)

// wevent is something that happens at an instant between two turns.
type wevent struct {
	at time.Time
	no int // of equal instants the one that was told first
	do func()
}

// wqueue is a heap of what is still to happen.
type wqueue []wevent

func (q wqueue) Len() int { return len(q) }
func (q wqueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].no < q[j].no
}
func (q wqueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *wqueue) Push(x any)   { *q = append(*q, x.(wevent)) }
func (q *wqueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// after has something happen, whoever lives by then.
func (w *world) after(d time.Duration, do func()) {
	w.told++
	heap.Push(&w.queue, wevent{w.now.Add(max(d, 0)), w.told, do})
}

// later has the agent that runs on n now do something. One that has ended by
// then does not, and one that is paused does it when it goes on.
func (w *world) later(n *wnode, d time.Duration, do func()) {
	boot := n.bootID
	w.after(d, func() {
		switch {
		case n.bootID != boot || !n.alive || !n.agent:
		case n.paused:
			n.missed = append(n.missed, do)
		default:
			do()
		}
	})
}

// pass lets time go on to an instant, event by event.
func (w *world) pass(to time.Time) {
	for len(w.queue) > 0 && !w.queue[0].at.After(to) {
		e := heap.Pop(&w.queue).(wevent)
		w.now = e.at
		e.do()
		w.exclusive()
	}
	w.now = to
}

// some is a random duration below d.
func (w *world) some(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(max(d, 1))))
}

// delay is how long a message, a write to a disk or a call takes: little,
// mostly. Nothing that must always hold may rely on that.
func (w *world) delay() time.Duration {
	if w.faults && w.rng.IntN(12) == 0 {
		return w.some(w.ttl() / 3)
	}
	return w.some(20 * time.Millisecond)
}
