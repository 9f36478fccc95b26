package reconcile

import (
	"context"
	"fmt"
	"time"

	"ferryman"
)

// watch is what the leader remembers of one node between its answers.
type watch struct {
	member ferryman.Member
	cancel context.CancelFunc
	// bootID, target and proofs serve the judgement whether it has caught up:
	// it has when it said twice in a row, under this term, that it has applied
	// target.
	bootID string
	target uint64
	proofs int
}

// sighting is one answer, or the lack of it.
type sighting struct {
	node   ferryman.NodeID
	at     time.Time
	status ferryman.NodeStatus
	err    error
}

// watch has one goroutine look at each member, and at none that is gone.
func (t *term) watch(s ferryman.State) {
	for id, w := range t.watched {
		if m, ok := s.Members[id]; !ok || m.Address != w.member.Address {
			w.cancel()
			delete(t.watched, id)
			delete(t.view.Nodes, id)
		}
	}
	for id, m := range s.Members {
		if t.watched[id] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(t.ctx)
		w := &watch{member: m, cancel: cancel}
		t.watched[id] = w
		t.view.Nodes[id] = ferryman.NodeView{}
		t.owned.Go(func() { t.look(ctx, m, w) })
	}
}

// look asks one node for its status, again and again. The node holds its answer
// until something changed there, or for pollWait.
func (t *term) look(ctx context.Context, m ferryman.Member, w *watch) {
	var since uint64
	retry := retryFirst
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, pollWait+pollSlack)
		status, err := t.Peers.Status(call, m, since, pollWait)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil && status.ID != m.ID {
			err = fmt.Errorf("%w: node %q (%s) answers at %s, not %s", ferryman.ErrConflict, status.ID, status.Name, m.Address, m.ID)
		}
		seen := sighting{node: m.ID, at: time.Now(), status: status, err: err}
		if !t.tell(func(t *term) {
			if t.watched[m.ID] == w {
				t.saw(w, seen)
			}
		}) {
			return
		}
		pause := pollPause
		if err != nil {
			since, pause = 0, retry
			retry = min(2*retry, retryLast)
		} else {
			since, retry = status.Seq, retryFirst
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// saw takes one sighting into the view.
func (t *term) saw(w *watch, seen sighting) {
	old := t.view.Nodes[seen.node]
	now := old
	if seen.err != nil {
		now.Reachable, now.Error = false, seen.err.Error()
		// Contact stays, and so does the last status: both are what is known.
		// What follows from seeing it begins anew.
		now.CaughtUp, now.HealthySince = false, time.Time{}
		w.bootID, w.proofs = "", 0
	} else {
		now.Status, now.Known, now.Reachable, now.Error, now.Contact = seen.status, true, true, "", seen.at
		now.HealthySince = healthySince(old, seen)
		switch {
		case !now.HealthySince.IsZero():
			now.DownSince = time.Time{}
		case old.DownSince.IsZero():
			now.DownSince = seen.at
		}
		_, index := t.Store.State()
		now.CaughtUp = w.prove(seen.status, t.Self, max(index, t.barrier), t.barrier, t.leader.Term())
	}
	t.view.Nodes[seen.node] = now
	if old.Reachable != now.Reachable || old.Known != now.Known || old.Error != now.Error || old.CaughtUp != now.CaughtUp ||
		old.Status.Seq != now.Status.Seq || old.Status.BootID != now.Status.BootID || !old.HealthySince.Equal(now.HealthySince) {
		t.changed = true
	}
}

// prove judges whether the node has caught up. What it believes of itself is no
// proof: a wiped node has applied all of an empty log. So it must name this
// leader and its term, and an index that the leader knew before it asked. With
// each start of the agent and each lost contact, the proof begins anew from
// what is committed by then.
func (w *watch) prove(s ferryman.NodeStatus, self ferryman.NodeID, index, barrier, term uint64) bool {
	if w.bootID != s.BootID {
		w.bootID, w.target, w.proofs = s.BootID, max(index, barrier), 0
	}
	if s.Term != term || s.Leader != self || s.Applied < w.target {
		w.proofs = 0
		return false
	}
	w.proofs++
	return w.proofs >= 2
}

// healthySince is when all of the node's services became healthy; a service
// that was started anew in between begins anew.
func healthySince(old ferryman.NodeView, seen sighting) time.Time {
	for _, svc := range seen.status.Services {
		if !svc.Instance.Running || !svc.Instance.Healthy {
			return time.Time{}
		}
		if before, ok := old.Status.Service(svc.Slot); ok && before.Unit.StartID != svc.Unit.StartID {
			return seen.at
		}
	}
	if old.HealthySince.IsZero() {
		return seen.at
	}
	return old.HealthySince
}

// lookedAround tells whether every member answered or failed to, or had its
// time to: a new leader decides nothing about a node that it never looked at.
func (t *term) lookedAround(s ferryman.State, now time.Time) bool {
	if now.Sub(t.began) >= lookFor(s) {
		return true
	}
	for id := range s.Members {
		if v := t.view.Nodes[id]; !v.Known && v.Error == "" {
			return false
		}
	}
	return true
}

// lookFor is less than the lease of a primary that is replaced by itself: who
// does not answer at all must not hold that up, nor what others wait for.
func lookFor(s ferryman.State) time.Duration {
	if l := s.Primary.Lease; l != nil && l.Enforced {
		return min(observeFor, l.Length.Std()/2)
	}
	return observeFor
}
