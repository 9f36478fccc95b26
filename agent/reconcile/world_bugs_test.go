package reconcile_test

import (
	"slices"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/plan"
	"ferryman/agent/reconcile"
	"ferryman/agent/state"
)

// bug is something that is planted into the world to prove that a checker
// finds it. Each breaks one promise, as a careless change could.
type bug string

const (
	commitBeforeFence  bug = "the epoch is committed before the old primary is fenced"
	commitWithoutProof bug = "the epoch is committed before the successor has everything"
	largerBudget       bug = "more nodes are taken down than the document allows"
	voteOfTheLiving    bug = "a live voter loses its vote while another is dead"
	olderDocument      bug = "an older document is accepted again"
	thirdVersion       bug = "no node goes back before the next version begins"
	noJournal          bug = "a node runs what it has a record of"
	neverStarts        bug = "what ended is never started again"
	neverAsks          bug = "no hosts are asked for"
	neverSwaps         bug = "a dead node stays a member for ever"
	neverEnds          bug = "a passage never ends"
	silence            bug = "nothing says why nothing happens"
)

// batch is what the leader commits, with the bugs that are in the plan.
func (w *world) batch(outcomes []ferryman.Outcome) (state.Command, ferryman.Decision) {
	if w.plant == "" {
		return reconcile.Batch(w.state, w.view, outcomes, w.now)
	}
	switch w.plant {
	case commitBeforeFence, commitWithoutProof:
		w.commit(state.Command{Outcomes: outcomes})
		w.commitEarly()
	case olderDocument:
		if a := w.state.Accepted; a != nil && a.Document.Generation > 1 && w.rng.IntN(20) == 0 {
			old := *a
			old.Document.Generation--
			w.state.Accepted = &old
		}
	}
	return reconcile.BatchWith(w.buggy, w.state, w.view, outcomes, w.now)
}

// buggy is the plan with a bug.
func (w *world) buggy(s ferryman.State, v ferryman.View, now time.Time) (d ferryman.Decision) {
	d = plan.Next(s, v, now)
	without := func(op ferryman.Op) {
		d.Steps = slices.DeleteFunc(d.Steps, func(st ferryman.Step) bool { return st.Op == op && st.Rule != ferryman.RuleUpgrade })
	}
	never := func(forbidden func(ferryman.Transition) bool) { d.Moves = slices.DeleteFunc(d.Moves, forbidden) }
	defer func() {
		if w.plant == silence {
			d.Waits = nil
		} else {
			d.Waits = append(d.Waits, ferryman.Wait{Rule: ferryman.RuleResume, Code: "bug", Reason: string(w.plant)})
		}
	}()
	switch w.plant {
	case neverStarts:
		without(ferryman.OpStart)
	case neverAsks:
		without(ferryman.OpRequestHosts)
	case neverSwaps:
		never(func(t ferryman.Transition) bool { return t.Kind == ferryman.MoveWant && t.Lost })
	case neverEnds:
		never(func(t ferryman.Transition) bool { return t.Kind == ferryman.MoveEndPassage })
	case thirdVersion:
		for i, m := range d.Moves {
			if m.Kind == ferryman.MoveBeginPassage && s.Rollout.Part(m.Part).Status == ferryman.PartOpen {
				d.Moves[i].Goal = s.Rollout.Part(m.Part).To
			}
		}
	case voteOfTheLiving:
		if id, ok := w.liveVoter(v); ok {
			d.Steps = append(d.Steps, ferryman.Step{Op: ferryman.OpDemote, Node: id, Attempt: 1, Deadline: ferryman.Duration(time.Minute), Rule: ferryman.RuleMembers})
		}
	}
	return d
}

// liveVoter is one that a leader without the gate would demote beside a dead one.
func (w *world) liveVoter(v ferryman.View) (live ferryman.NodeID, ok bool) {
	dead := false
	for _, n := range w.nodes {
		switch {
		case v.Raft[n.id] != ferryman.Voter:
		case !v.Nodes[n.id].Reachable:
			dead = true
		case n.id != v.Self:
			live = n.id
		}
	}
	return live, dead && live != ""
}

// commitEarly passes the commit point of a switchover without what Apply asks
// for.
func (w *world) commitEarly() {
	sw, s := w.state.Switchover, w.state
	if sw == nil || sw.Committed || sw.Back != "" {
		return
	}
	if fenced, verified := s.SwitchoverProof(); w.plant == commitWithoutProof && (fenced == nil || verified != nil) {
		return
	}
	s.Primary = ferryman.Primary{Node: sw.To, Slot: "db", Epoch: s.Primary.Epoch + 1, Since: w.now}
	next := *sw
	next.Committed = true
	s.Switchover = &next
	w.state = s
}

// maxUnavailable is what the user was promised.
func (w *world) maxUnavailable() int {
	if w.plant == largerBudget {
		return ferryman.DefaultMaxUnavailable
	}
	return w.state.Policy().MaxUnavailable
}

// TestWorldFindsPlantedBugs shows that the checkers see what they are there for.
func TestWorldFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		plant bug
		want  string
	}{
		{commitBeforeFence, "I1"},
		{commitWithoutProof, "I2"},
		{largerBudget, "I3"},
		{voteOfTheLiving, "I4"},
		{olderDocument, "I5"},
		{thirdVersion, "I5"},
		{noJournal, "I6"},
		{neverStarts, "I8"},
		{neverAsks, "I8"},
		{neverSwaps, "I8"},
		{neverEnds, "I8"},
		{silence, "why"},
	} {
		t.Run(string(tt.plant), func(t *testing.T) {
			t.Parallel()
			others := map[string]int{}
			for seed := uint64(1); seed <= 300; seed++ {
				_, err := runWorld(seed, false, tt.plant)
				if err == nil {
					continue
				}
				v := err.(violation)
				if v.invariant == tt.want {
					t.Logf("seed %d: %v", seed, v)
					return
				}
				others[v.invariant]++
			}
			t.Errorf("in 300 seeds nobody saw %s broken, but %v", tt.want, others)
		})
	}
}
