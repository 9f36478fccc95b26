package reconcile_test

import (
	"cmp"
	"maps"
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

	noBarrier        bug = "a leader that is deposed grants the lease"
	countsFromAnswer bug = "the holder counts from the answer"
	noWait           bug = "a new leader does not wait for what earlier ones granted"
	promoteUnheld    bug = "a primary is promoted without its lease"
	heldUnarmed      bug = "the lease counts as held before the guard is armed"
	revives          bug = "a primary that was killed comes up as one"
	acrossHistories  bug = "positions of two histories are compared"
	shortRestart     bug = "the primary's agent restarts without a longer lease"
	forgetsLonger    bug = "a lease that is made shorter does not wait for the longer one"
	viewOfBefore     bug = "a failover trusts what was seen of the lease before it began"
	tooFewAnswers    bug = "a failover takes the best of any answers"
	staleSurvey      bug = "a survey is answered with what was before the fence"
)

// batch is what the leader commits, with the bugs that are in the plan.
func (w *world) batch(outcomes []ferryman.Outcome) (state.Command, ferryman.Decision) {
	if w.plant == "" {
		return reconcile.Batch(w.state, w.view, outcomes, w.now)
	}
	switch w.plant {
	case acrossHistories, tooFewAnswers:
		w.commit(state.Command{Outcomes: outcomes})
		w.replaceEarly()
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
	switch l, f := s.Primary.Lease, s.Failover; {
	case w.plant == noWait:
		v.Lease.Quiet = max(v.Lease.Quiet, ferryman.Duration(time.Hour))
	case w.plant == viewOfBefore && f != nil:
		v.Lease.Closed, v.Lease.Quiet = f.FirstStep, ferryman.Duration(w.clock(w.leader)-w.seen)
	case w.plant == shortRestart:
		v = w.seemsLong(s, v)
	case w.plant == forgetsLonger && l != nil:
		v.Lease.Steady, v.Lease.Length = ferryman.Duration(time.Hour), l.Length
	}
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
	case shortRestart:
		for i, m := range d.Moves {
			if m.Kind == ferryman.MoveLease && m.Lease != nil {
				d.Moves[i].Lease.Length = w.doc.Database.Failover.LeaseTTL
			}
		}
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

// seemsLong lets every lease look as long as a restart needs it.
func (w *world) seemsLong(s ferryman.State, v ferryman.View) ferryman.View {
	n := v.Nodes[s.Primary.Node]
	if n.Status.Lease == nil {
		return v
	}
	long := *n.Status.Lease
	long.Length = ferryman.RestartLease
	n.Status.Lease = &long
	v.Nodes = maps.Clone(v.Nodes)
	v.Nodes[s.Primary.Node] = n
	return v
}

// replaceEarly passes the commit point of a failover with an answer that Apply
// would not take.
func (w *world) replaceEarly() {
	s := w.state
	f, survey := s.Failover, s.Survey()
	survey = slices.DeleteFunc(survey, func(h ferryman.Held) bool { return f.From == h.Node || len(h.Blockers) > 0 })
	if len(survey) == 0 || w.plant == acrossHistories && len(survey) < len(s.Holders()) {
		return
	}
	best := survey[0]
	if w.plant == acrossHistories {
		best = slices.MaxFunc(survey, func(a, b ferryman.Held) int { return cmp.Compare(a.Position, b.Position) })
	}
	s.Failover = nil
	s.Primary = ferryman.Primary{Node: best.Node, Slot: "db", Epoch: s.Primary.Epoch + 1, Since: w.now, Before: s.Primary.History, Lease: s.Primary.Lease}
	before := w.state
	w.state = s
	w.committed(before)
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
		{noBarrier, "I1"},
		{countsFromAnswer, "I1"},
		{noWait, "I1"},
		{promoteUnheld, "I1"},
		{heldUnarmed, "I1"},
		{revives, "I1"},
		{acrossHistories, "I2"},
		{shortRestart, "I9"},
		{forgetsLonger, "I1"},
		{viewOfBefore, "I1"},
		{staleSurvey, "I2"},
		{tooFewAnswers, "I2"},
	} {
		t.Run(string(tt.plant), func(t *testing.T) {
			t.Parallel()
			others := map[string]int{}
			for seed := uint64(1); seed <= 3000; seed++ {
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
			t.Errorf("in 3000 seeds nobody saw %s broken, but %v", tt.want, others)
		})
	}
}
