package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"ferryman"
)

// attempt is what the leader remembers of having a node carry out a step.
type attempt struct {
	calling bool
	next    time.Time
	pause   time.Duration
	// refusals counts those in a row; why is the newest.
	refusals int
	why      string
}

// forget drops what concerns steps that are no longer open.
func (t *term) forget(s ferryman.State) {
	closed := func(id uint64) bool {
		st, ok := s.Step(id)
		return !ok || !st.Open()
	}
	for id := range t.attempts {
		if closed(id) {
			delete(t.attempts, id)
		}
	}
	for id, cancel := range t.operating {
		if closed(id) {
			cancel() // its end removes it
		}
	}
	for id := range t.results {
		if closed(id) {
			delete(t.results, id)
		}
	}
}

// outcomes are those of open steps that came in and are not committed yet, from
// the leader's own operations, answers to RunStep, and the nodes' statuses.
func (t *term) outcomes(s ferryman.State) []ferryman.Outcome {
	var all []ferryman.Outcome
	for _, st := range s.Ledger {
		if !st.Open() {
			continue
		}
		if o, ok := t.results[st.ID]; ok {
			all = append(all, o)
		} else if !st.Op.ByLeader() {
			// Only the node that the step is for is heard about it.
			if o, ok := recorded(t.view.Nodes[st.Node].Status, st.ID); ok {
				all = append(all, o)
			}
		}
	}
	return all
}

func recorded(s ferryman.NodeStatus, id uint64) (ferryman.Outcome, bool) {
	for _, o := range s.Outcomes {
		if o.Step == id && o.Status != ferryman.StatusRunning {
			return o, true
		}
	}
	return ferryman.Outcome{}, false
}

// dispatch has nodes carry out their open steps. A step is asked for again
// until its outcome comes or the plan closes it; the node runs each attempt
// once. When to give up is for the plan to say, not for the loop.
func (t *term) dispatch(s ferryman.State, index uint64, now time.Time) {
	for _, st := range s.Ledger {
		if !st.Open() || st.Op.ByLeader() {
			continue
		}
		if _, ok := t.results[st.ID]; ok {
			continue
		}
		node := t.view.Nodes[st.Node]
		if !node.Reachable || slices.Contains(node.Status.Running, st.ID) {
			continue
		}
		if _, ok := recorded(node.Status, st.ID); ok {
			continue
		}
		a := t.attempts[st.ID]
		if a == nil {
			a = &attempt{pause: retryFirst}
			t.attempts[st.ID] = a
		}
		if a.calling {
			continue
		}
		if now.Before(a.next) {
			t.by(a.next)
			continue
		}
		a.calling = true
		m, id := s.Members[st.Node], st.ID
		t.owned.Go(func() { t.call(m, id, index) })
	}
}

func (t *term) call(m ferryman.Member, id, index uint64) {
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	o, err := t.Peers.RunStep(ctx, m, id, index, t.leader.Term())
	cancel()
	t.tell(func(t *term) {
		a := t.attempts[id]
		if a == nil {
			return // closed in the meantime
		}
		a.calling = false
		t.changed = true
		switch {
		case err != nil:
			a.refusals, a.why = a.refusals+1, reason(err)
			if !errors.Is(err, ferryman.ErrRefused) {
				a.refusals = 0
			}
			t.log.Warn("a step could not be started; it will be asked for again", "step", id, "node", m.Name, "error", err)
			a.next = time.Now().Add(a.pause)
			a.pause = min(2*a.pause, retryLast)
		case o.Status == ferryman.StatusRunning || o.Step != id:
			a.refusals = 0
			// The node's status says so too before long.
			a.next, a.pause = time.Now().Add(retryLast), retryFirst
		default:
			t.results[id] = o
		}
	})
}
