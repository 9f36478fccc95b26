package reconcile

import (
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// BatchWith is Batch with another plan.
func BatchWith(next func(ferryman.State, ferryman.View, time.Time) ferryman.Decision,
	s ferryman.State, v ferryman.View, outcomes []ferryman.Outcome, now time.Time,
) (state.Command, ferryman.Decision) {
	return batch(next, s, v, outcomes, now)
}

// CaughtUp runs the judgement over a node's answers, each with the index that
// the leader knew then.
type CaughtUp struct{ w watch }

// Hear returns whether the node counts as caught up after this answer.
func (c *CaughtUp) Hear(s ferryman.NodeStatus, self ferryman.NodeID, index, barrier, term uint64) bool {
	return c.w.prove(s, self, index, barrier, term)
}

// Miss is an answer that did not come.
func (c *CaughtUp) Miss() { c.w.bootID, c.w.proofs = "", 0 }

// HealthySince exposes the judgement.
func HealthySince(old ferryman.NodeView, s ferryman.NodeStatus, at time.Time) time.Time {
	return healthySince(old, sighting{status: s, at: at})
}
