package state_test

import (
	"strings"
	"testing"
	"time"

	"ferryman"
)

const second = ferryman.Duration(time.Second)

func leased(length, longest ferryman.Duration, enforced bool) change {
	return change{Kind: ferryman.MoveLease, Node: "id-n1", Lease: &ferryman.Lease{Length: length, Longest: longest, Enforced: enforced}}
}

// ended gives the newest step an outcome.
func ended(t *testing.T, s ferryman.State, r ferryman.Result) ferryman.State {
	t.Helper()
	return apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, r)}})
}

// promoted has n1 promoted under epoch 1, where it began history h1.
func promoted(t *testing.T) ferryman.State {
	t.Helper()
	s := apply(t, running(t), steps(with(step(ferryman.OpPromote, "n1"), ferryman.Args{Epoch: 1})))
	return ended(t, s, ferryman.Result{History: "h1"})
}

// enforced is promoted under a lease of 5s that is in force.
func enforced(t *testing.T) ferryman.State {
	t.Helper()
	return apply(t, promoted(t), moves(leased(5*second, 5*second, false)), moves(leased(5*second, 5*second, true)))
}

// synchronous is enforced with each write on n others.
func synchronous(t *testing.T, n int) ferryman.State {
	t.Helper()
	return apply(t, enforced(t), moves(replicas(n)))
}

func replicas(n int) change {
	return change{Kind: ferryman.MoveSyncReplicas, Node: "id-n1", Epoch: 1, SyncReplicas: n}
}

var (
	beginFailover = change{Kind: ferryman.MoveBeginFailover, Node: "id-n1", Reason: "its lease was not renewed"}
	backFailover  = change{Kind: ferryman.MoveBackFailover, Reason: "failover.mode is manual now"}
	fence         = change{Kind: ferryman.MoveFenced, Node: "id-n1"}
	expired       = change{Kind: ferryman.MoveFenced, Node: "id-n1", Expired: true}
	kill          = with(step(ferryman.OpFence, "n1"), ferryman.Args{Epoch: 1, Kill: true})
)

func failedOver(s ferryman.State, f func(*ferryman.Failover)) ferryman.State {
	change := *s.Failover
	f(&change)
	s.Failover = &change
	return s
}

// lost has a failover from n1 under way.
func lost(t *testing.T, s ferryman.State) ferryman.State {
	t.Helper()
	return apply(t, s, moves(beginFailover))
}

// over has n1 fenced, because no lease can run any more.
func over(t *testing.T, s ferryman.State) ferryman.State {
	t.Helper()
	return apply(t, lost(t, s), moves(expired))
}

// says has a node answer what it holds.
func says(t *testing.T, s ferryman.State, name, history string, position uint64, blockers ...string) ferryman.State {
	t.Helper()
	s = apply(t, s, steps(with(step(ferryman.OpPreflight, name), ferryman.Args{Epoch: 2, Alone: true})))
	return ended(t, s, ferryman.Result{History: history, Position: position, Blockers: blockers})
}

func TestBeginFailover(t *testing.T) {
	t.Parallel()
	manual := promoted(t)
	offered := apply(t, manual, moves(leased(5*second, 5*second, false)))
	dead := func(to string) command {
		return ask(ferryman.RequestFailover, func(r *request) { r.Dead, r.Node = true, to })
	}
	witness := ferryman.Member{ID: "id-w", Name: "w", Address: "w:7400", Witness: true}
	try(t, []row{
		{"of a primary whose lease is in force", enforced(t), moves(beginFailover), ""},
		{"before there is a primary", born(t), moves(beginFailover), "no primary yet"},
		{"in manual mode, by the plan", manual, moves(beginFailover), "not automatic in force"},
		{"under a lease that is not in force yet", offered, moves(beginFailover), "not automatic in force"},
		{"a second one", lost(t, enforced(t)), moves(beginFailover), "is under way"},
		{"while frozen, by the plan", apply(t, enforced(t), ask(ferryman.RequestFreeze, nil)), moves(beginFailover), "frozen by anna"},
		{"while frozen, by a person", apply(t, enforced(t), ask(ferryman.RequestFreeze, nil)), dead(""), ""},

		{"by a person's word, in manual mode", manual, dead(""), ""},
		{"in manual mode, without that word", manual, ask(ferryman.RequestFailover, nil), "--primary-is-dead"},
		{"under a lease that is not in force, without that word", offered, ask(ferryman.RequestFailover, nil), "--primary-is-dead"},
		{"by a person, under a lease in force", enforced(t), ask(ferryman.RequestFailover, nil), ""},
		{"by a person, to another node", manual, dead("n2"), ""},
		{"by a person, to the primary itself", manual, dead("n1"), "in its own place"},
		{"by a person, to a witness", apply(t, manual, command{Join: &witness}), dead("w"), "in its own place"},
		{"by a person, to nobody", manual, dead("n9"), "ferryman nodes"},
		{"by a person, before there is a primary", born(t), dead(""), "no primary yet"},
		{"by a person, while one is open", lost(t, enforced(t)), dead("n3"), ""},
		{"by a person, once more", lost(t, enforced(t)), ask(ferryman.RequestFailover, nil), "name a node"},
	})

	t.Run("ends a switchover and withdraws its steps", func(t *testing.T) {
		s := apply(t, enforced(t), moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n2"}), steps(step(ferryman.OpFence, "n1")), steps(repair(step(ferryman.OpStart, "n3"))))
		s = lost(t, s)
		fence, _ := s.Step(s.LastStep - 1)
		start, _ := s.Step(s.LastStep)
		if s.Switchover != nil || fence.Open() || fence.Outcome.Done() || !start.Open() {
			t.Errorf("switchover %+v, its fence %+v, another rule's step %+v; want the first two ended", s.Switchover, fence.Outcome, start.Outcome)
		}
	})
	t.Run("says by whom and where to", func(t *testing.T) {
		s := apply(t, manual, dead("n3"))
		if f := s.Failover; f.By != "anna" || f.To != "id-n3" || !f.Dead || f.From != "id-n1" || f.Slot != "db" || f.FirstStep != s.LastStep+1 {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("a person joins the one that is open", func(t *testing.T) {
		s := apply(t, lost(t, enforced(t)), dead("n3"))
		if f := s.Failover; f.By != "anna" || f.To != "id-n3" || !f.Dead {
			t.Errorf("got %+v, want it with anna's word", f)
		}
		s = apply(t, s, dead(""))
		if f := s.Failover; !f.Dead || f.To != "" {
			t.Errorf("got %+v, want the word kept and the choice left to the plan", f)
		}
	})
	t.Run("a person forgets the failovers before", func(t *testing.T) {
		s := enforced(t)
		s.Failovers = []time.Time{t0, t0, t0}
		if s = apply(t, s, ask(ferryman.RequestFailover, nil)); len(s.Failovers) != 0 || s.Failover != nil {
			t.Errorf("failovers %v, failover %+v; want none, as the plan decides whether the primary is lost", s.Failovers, s.Failover)
		}
	})
}

func repair(st ferryman.Step) ferryman.Step { st.Rule = ferryman.RuleRepair; return st }

func TestBackFailover(t *testing.T) {
	t.Parallel()
	open := lost(t, enforced(t))
	fencing := apply(t, open, steps(kill))
	try(t, []row{
		{"before anything was done", open, moves(backFailover), ""},
		{"without a failover", enforced(t), moves(backFailover), "no failover can go back"},
		{"once the old primary is fenced", over(t, enforced(t)), moves(backFailover), "no failover can go back"},
		{"while its fence runs", fencing, moves(backFailover), "was to fence it"},
		{"after a fence that failed, which may have worked", apply(t, fencing, command{Outcomes: []ferryman.Outcome{{Step: fencing.LastStep, Status: ferryman.StatusFailed}}}), moves(backFailover), "was to fence it"},
		{"beside the fence of a stray", apply(t, open, steps(step(ferryman.OpFence, "n3"))), moves(backFailover), ""},
	})
}

func TestFenced(t *testing.T) {
	t.Parallel()
	open := lost(t, enforced(t))
	fencing := apply(t, open, steps(kill))
	manual := apply(t, promoted(t), ask(ferryman.RequestFailover, func(r *request) { r.Dead = true }))
	polite := apply(t, open, steps(kill))
	polite.Ledger[len(polite.Ledger)-1].Args.Kill = false
	elsewhere := apply(t, open, steps(with(step(ferryman.OpFence, "n3"), ferryman.Args{Epoch: 1, Kill: true})))
	earlier := ended(t, fencing, ferryman.Result{})
	earlier = failedOver(earlier, func(f *ferryman.Failover) { f.FirstStep = earlier.LastStep + 1 })
	try(t, []row{
		{"by its own node's receipt", ended(t, fencing, ferryman.Result{}), moves(fence), ""},
		{"by the end of its lease", open, moves(expired), ""},
		{"by a person's word", manual, moves(fence), ""},
		{"by nothing", open, moves(fence), "its lease may still run"},
		{"by a fence that runs", fencing, moves(fence), "its lease may still run"},
		{"by a fence that failed", apply(t, fencing, command{Outcomes: []ferryman.Outcome{{Step: fencing.LastStep, Status: ferryman.StatusFailed}}}), moves(fence), "its lease may still run"},
		{"by one that only asked the database", ended(t, polite, ferryman.Result{}), moves(fence), "its lease may still run"},
		{"by that of another node", ended(t, elsewhere, ferryman.Result{}), moves(fence), "its lease may still run"},
		{"by one of before", earlier, moves(fence), "its lease may still run"},
		{"by the end of a lease that there is not", failedOver(manual, func(f *ferryman.Failover) { f.Dead = false }), moves(expired), "its lease may still run"},
		{"without a failover", enforced(t), moves(expired), "no failover waits"},
		{"twice", over(t, enforced(t)), moves(expired), "no failover waits"},
	})
	t.Run("says how it is known", func(t *testing.T) {
		for want, s := range map[string]ferryman.State{
			"its marker is set":                       apply(t, ended(t, fencing, ferryman.Result{}), moves(expired)),
			"no lease of at most 5s can run any more": over(t, enforced(t)),
			"anna vouches for it":                     apply(t, manual, moves(expired)),
		} {
			if f := s.Failover; !strings.Contains(f.Fenced, want) || f.Survey != s.LastStep+1 {
				t.Errorf("fenced %q, questions from step %d; want %q, from step %d", f.Fenced, f.Survey, want, s.LastStep+1)
			}
		}
	})
}

// TestSucceed is the commit point of a failover: who can be the primary without
// losing what was acknowledged.
func TestSucceed(t *testing.T) {
	t.Parallel()
	to := func(name string) command {
		return moves(change{Kind: ferryman.MovePrimary, Node: ferryman.NodeID("id-" + name), Slot: "db", Epoch: 2})
	}
	by := func(s ferryman.State) ferryman.State {
		return failedOver(s, func(f *ferryman.Failover) { f.By = "anna" })
	}
	async, one, two := over(t, enforced(t)), over(t, synchronous(t, 1)), over(t, synchronous(t, 2))
	// again was promoted twice under its epoch: h2 after h1.
	again := func() ferryman.State {
		s := apply(t, enforced(t), steps(with(step(ferryman.OpPromote, "n1"), ferryman.Args{Epoch: 1})))
		return ended(t, s, ferryman.Result{History: "h2"})
	}
	// promoting is promoted once more, after a restart, and has not told how that went.
	promoting := func() ferryman.State {
		return apply(t, enforced(t), steps(with(step(ferryman.OpPromote, "n1"), ferryman.Args{Epoch: 1})))
	}
	// young has not told yet which history it began, after h1.
	young := func() ferryman.State {
		s := says(t, over(t, enforced(t)), "n2", "h1", 7)
		s = apply(t, s, moves(change{Kind: ferryman.MovePrimary, Node: "id-n2", Slot: "db", Epoch: 2}))
		return apply(t, s, moves(beginFailover), moves(expired))
	}
	// third is young under epoch 3, after h2, which came after h1.
	third := func() ferryman.State {
		s := apply(t, says(t, over(t, enforced(t)), "n2", "h1", 7), moves(commit))
		s = ended(t, apply(t, s, steps(with(step(ferryman.OpPromote, "n2"), ferryman.Args{Epoch: 2}))), ferryman.Result{History: "h2"})
		s = says(t, apply(t, s, moves(beginFailover), moves(expired)), "n3", "h2", 9)
		s = apply(t, s, moves(change{Kind: ferryman.MovePrimary, Node: "id-n3", Slot: "db", Epoch: 3}))
		return says(t, apply(t, s, moves(beginFailover), moves(expired)), "n2", "h2", 9)
	}
	last := moves(change{Kind: ferryman.MovePrimary, Node: "id-n2", Slot: "db", Epoch: 4})
	next := func(name string) command {
		c := to(name)
		c.Moves[0].Epoch = 3
		return c
	}
	both := func(s ferryman.State, n2, n3 uint64) ferryman.State {
		return says(t, says(t, s, "n2", "h1", n2), "n3", "h1", n3)
	}
	witness := ferryman.Member{ID: "id-w", Name: "w", Address: "w:7400", Witness: true}
	try(t, []row{
		{"before the old primary is fenced", lost(t, enforced(t)), to("n2"), "its lease may still run"},
		{"without a failover", enforced(t), to("n2"), "no switchover to n2"},
		{"one that has not answered", async, to("n2"), "n2 has not said what it holds since n1 was fenced"},
		{"one that answered before the fence", apply(t, says(t, lost(t, enforced(t)), "n2", "h1", 7), moves(expired)), to("n2"), "has not said"},
		{"one that answered another question", func() ferryman.State {
			s := apply(t, async, steps(with(step(ferryman.OpPreflight, "n2"), ferryman.Args{Epoch: 2})))
			return ended(t, s, ferryman.Result{History: "h1", Position: 7})
		}(), to("n2"), "has not said"},
		{"a witness", apply(t, async, command{Join: &witness}), to("w"), "no node with services"},
		{"one that cannot", says(t, async, "n2", "h1", 7, "there are no data here"), to("n2"), "n2: there are no data here"},
		{"the one that holds most", both(async, 7, 6), to("n2"), ""},
		{"one that holds less", both(async, 7, 6), to("n3"), "n2 holds more than n3"},
		{"equals, either", both(async, 7, 7), to("n3"), ""},
		{"one that holds less, when the other cannot", says(t, says(t, async, "n2", "h1", 7, "it is broken"), "n3", "h1", 6), to("n3"), ""},
		{"but not where every write must be there", says(t, says(t, two, "n2", "h1", 7, "it is broken"), "n3", "h1", 6), to("n3"), "n2 holds more than n3"},
		{"its newest answer counts", says(t, both(async, 7, 6), "n3", "h1", 8), to("n3"), ""},
		{"of another history, however far", says(t, async, "n2", "other", 99), to("n2"), "holds history \"other\""},
		{"of no history", says(t, async, "n2", "", 0), to("n2"), "holds history \"\""},
		{"of the history before, when the primary began one", says(t, over(t, again()), "n2", "h1", 99), to("n2"), "nothing of history h2"},
		{"of its history, beside one of the one before", says(t, says(t, over(t, again()), "n2", "h1", 99), "n3", "h2", 7), to("n3"), ""},
		{"of the history before, when none is known to have begun", says(t, young(), "n3", "h1", 7), next("n3"), ""},
		{"but not beside one that may be it", says(t, says(t, young(), "n3", "h1", 7), "n1", "h2", 8), next("n3"), "n1 holds history h2, which may be what the primary began"},

		{"beside one that is of an earlier one", says(t, third(), "n1", "h1", 7), last, ""},
		{"beside one that is of none that was heard of", says(t, third(), "n1", "h9", 7), last, "n1 holds history h9, which may be what the primary began"},
		{"its history, when it may have begun another since", says(t, over(t, promoting()), "n2", "h1", 7), to("n2"), ""},
		{"but not beside one that may be that", says(t, says(t, over(t, promoting()), "n2", "h1", 7), "n3", "h2", 9), to("n2"), "n3 holds history h2, which may be what the primary began"},
		{"nor is another one, when it did not", says(t, says(t, async, "n2", "h1", 7), "n3", "h2", 9), to("n2"), ""},
		{"one of two, where each write is on one", says(t, one, "n2", "h1", 7), to("n2"), "1 of the 2 members that may hold an acknowledged write have answered, and 2 must"},
		{"two of two", both(one, 7, 7), to("n2"), ""},
		{"one of two, where each write is on both", says(t, two, "n2", "h1", 7), to("n2"), ""},
		{"itself, which holds all that it acknowledged", says(t, one, "n1", "h1", 7), to("n1"), ""},
		{"itself, when another holds more", says(t, says(t, one, "n1", "h1", 7), "n2", "h1", 8), to("n1"), "n2 holds more than n1"},
		{"another that equals it counts the others only", says(t, says(t, one, "n1", "h1", 7), "n2", "h1", 7), to("n2"), "1 of the 2 members"},
		{"a member that is lost is not waited for", apply(t, says(t, one, "n2", "h1", 7), moves(change{Kind: ferryman.MoveWant, Node: "id-n3", Want: ferryman.WantLeaving, Lost: true})), to("n2"), ""},

		{"a person takes one that holds less", by(both(async, 7, 6)), to("n3"), ""},
		{"a person takes one of too few", by(says(t, one, "n2", "h1", 7)), to("n2"), ""},
		{"a person takes another history", by(says(t, async, "n2", "other", 1)), to("n2"), ""},
		{"a person does not take one that cannot", by(says(t, async, "n2", "h1", 7, "there are no data here")), to("n2"), "there are no data here"},
		{"a person does not take one that has not answered", by(async), to("n2"), "has not said"},
		{"a person waits for the fence too", by(lost(t, enforced(t))), to("n2"), "its lease may still run"},
		{"an epoch too far", both(async, 7, 6), moves(change{Kind: ferryman.MovePrimary, Node: "id-n2", Slot: "db", Epoch: 3}), "after epoch 1 comes 2"},
	})

	t.Run("what the new primary takes over", func(t *testing.T) {
		s := apply(t, both(one, 7, 7), to("n2"))
		want := ferryman.Primary{Node: "id-n2", Slot: "db", Epoch: 2, Since: s.Primary.Since, Before: "h1", Lease: &ferryman.Lease{Serial: s.Primary.Lease.Serial, Length: 5 * second, Longest: 5 * second, Enforced: true}}
		if text(t, s.Primary) != text(t, want) {
			t.Errorf("got %s\nwant %s", text(t, s.Primary), text(t, want))
		}
		if s.Failover != nil || len(s.Failovers) != 1 {
			t.Errorf("failover %+v, remembered %v; want it ended, and one remembered", s.Failover, s.Failovers)
		}
	})
	t.Run("a person's is not remembered", func(t *testing.T) {
		if s := apply(t, by(says(t, one, "n2", "h1", 7)), to("n2")); len(s.Failovers) != 0 {
			t.Errorf("remembered %v", s.Failovers)
		}
	})
	t.Run("no more than eight are remembered", func(t *testing.T) {
		s := both(one, 7, 7)
		for i := range 8 {
			s.Failovers = append(s.Failovers, t0.Add(time.Duration(i)*time.Minute))
		}
		if s = apply(t, s, to("n2")); len(s.Failovers) != 8 || !s.Failovers[0].Equal(t0.Add(time.Minute)) {
			t.Errorf("remembered %v, want the newest eight", s.Failovers)
		}
	})
}

func TestLease(t *testing.T) {
	t.Parallel()
	manual, on := promoted(t), enforced(t)
	offered := apply(t, manual, moves(leased(5*second, 5*second, false)))
	longer := apply(t, on, moves(leased(30*second, 30*second, true)))
	shorter := apply(t, longer, moves(leased(5*second, 30*second, true)))
	end := change{Kind: ferryman.MoveLease}
	try(t, []row{
		{"begins", manual, moves(leased(5*second, 5*second, false)), ""},
		{"begins in force", manual, moves(leased(5*second, 5*second, true)), "without being enforced"},
		{"begins with a longer one that may run", manual, moves(leased(5*second, 30*second, false)), "without being enforced"},
		{"before there is a primary", born(t), moves(leased(5*second, 5*second, false)), "no primary"},
		{"too short", manual, moves(leased(second/2, second/2, false)), "cannot be"},
		{"longer than the longest", manual, moves(leased(5*second, second, false)), "cannot be"},
		{"is enforced", offered, moves(leased(5*second, 5*second, true)), ""},
		{"is not enforced any more", on, moves(leased(5*second, 5*second, false)), "what is enforced stays so"},
		{"gets longer", on, moves(leased(30*second, 30*second, true)), ""},
		{"gets shorter, and what was granted is not forgotten", longer, moves(leased(5*second, 30*second, true)), ""},
		{"gets shorter, and forgets it", longer, moves(leased(5*second, 5*second, true)), "a lease of 30s may still run"},
		{"settles", shorter, moves(leased(5*second, 5*second, true)), ""},
		{"settles halfway", shorter, moves(leased(5*second, 20*second, true)), "a lease of 30s may still run"},
		{"gets longer again within the longest", shorter, moves(leased(20*second, 30*second, true)), ""},
		{"gets longer and settles at once", shorter, moves(leased(20*second, 20*second, true)), "a lease of 30s may still run"},
		{"is longer than any mode's, for an absence", on, moves(leased(900*second, 900*second, true)), ""},
		{"ends", on, moves(end), ""},
		{"ends before it is in force", offered, moves(end), ""},
		{"ends twice", manual, moves(end), "there is no lease"},
		{"begins anew, and what was granted is forgotten", apply(t, longer, moves(end)), moves(leased(5*second, 5*second, false)), "a lease of 30s may still run"},
		{"begins anew, and it is not", apply(t, longer, moves(end)), moves(leased(5*second, 30*second, false)), ""},
		{"begins anew twice", apply(t, longer, moves(end), moves(leased(5*second, 30*second, false)), moves(end)), moves(leased(5*second, 5*second, false)), "a lease of 30s may still run"},
		{"in a failover it stays", lost(t, on), moves(leased(30*second, 30*second, true)), "a failover from n1 is under way"},
		{"nor does it end there", lost(t, on), moves(end), "a failover from n1 is under way"},
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	goesOn := func(node ferryman.NodeID, epoch uint64, history string) command {
		return moves(change{Kind: ferryman.MoveHistory, Node: node, Epoch: epoch, History: history})
	}
	one := enforced(t)
	try(t, []row{
		{"is another", one, goesOn("id-n1", 1, "g"), ""},
		{"is the same", one, goesOn("id-n1", 1, one.Primary.History), "no primary"},
		{"is none", one, goesOn("id-n1", 1, ""), "no primary"},
		{"before there is a primary", born(t), goesOn("id-n1", 1, "g"), "no primary"},
		{"of another epoch", one, goesOn("id-n1", 2, "g"), "the primary of epoch 1 is n1"},
		{"of another node", one, goesOn("id-n2", 1, "g"), "the primary of epoch 1 is n1"},
		{"in a failover", lost(t, one), goesOn("id-n1", 1, "g"), "no primary"},
		{"while a promotion begins one", apply(t, one, steps(with(step(ferryman.OpPromote, "n1"), ferryman.Args{Epoch: 1}))), goesOn("id-n1", 1, "g"), "begins another history"},
	})
	after := apply(t, one, goesOn("id-n1", 1, "g"))
	if got := after.Primary; got.History != "g" || got.Before != one.Primary.History {
		t.Errorf("history %q after %q, want g after %q", got.History, got.Before, one.Primary.History)
	}
}

func TestSyncReplicas(t *testing.T) {
	t.Parallel()
	one := synchronous(t, 1)
	configuring := apply(t, one, steps(step(ferryman.OpConfigure, "n1")))
	elsewhere := apply(t, one, steps(step(ferryman.OpConfigure, "n2")))
	try(t, []row{
		{"are noted", enforced(t), moves(replicas(1)), ""},
		{"become more", one, moves(replicas(2)), ""},
		{"become fewer", one, moves(replicas(0)), ""},
		{"less than none", one, moves(replicas(-1)), "no primary"},
		{"before there is a primary", born(t), moves(replicas(1)), "no primary"},
		{"of another epoch", one, moves(change{Kind: ferryman.MoveSyncReplicas, Node: "id-n1", Epoch: 2, SyncReplicas: 2}), "the primary of epoch 1 is n1"},
		{"of another node", one, moves(change{Kind: ferryman.MoveSyncReplicas, Node: "id-n2", Epoch: 1, SyncReplicas: 2}), "the primary of epoch 1 is n1"},
		{"in a failover", lost(t, one), moves(replicas(0)), "no primary"},
		{"while they may be changed", configuring, moves(replicas(1)), "may change that"},
		{"while another's are", elsewhere, moves(replicas(2)), ""},
	})
	if got := configuring.Primary.SyncReplicas; got != 0 {
		t.Errorf("while the primary is configured %d others are said to hold each write, want none", got)
	}
	if got := elsewhere.Primary.SyncReplicas; got != 1 {
		t.Errorf("while a replica is configured %d others are said to hold each write, want 1", got)
	}
}

// TestHistoryOfThePrimary is about which histories may hold what it acknowledged.
func TestHistoryOfThePrimary(t *testing.T) {
	t.Parallel()
	promote := func(s ferryman.State, epoch uint64, history string) ferryman.State {
		s = apply(t, s, steps(with(step(ferryman.OpPromote, s.Members[s.Primary.Node].Name), ferryman.Args{Epoch: epoch})))
		return ended(t, s, ferryman.Result{History: history})
	}
	handed := func(s ferryman.State) ferryman.State {
		return apply(t, says(t, over(t, s), "n2", "h1", 7), moves(commit))
	}
	late := apply(t, enforced(t), steps(with(step(ferryman.OpPromote, "n1"), ferryman.Args{Epoch: 1})))
	for _, tt := range []struct {
		name            string
		in              ferryman.State
		history, before string
	}{
		{"before the promotion has ended", running(t), "", ""},
		{"the promotion began it", promoted(t), "h1", ""},
		{"a second one that began none", promote(promoted(t), 1, "h1"), "h1", ""},
		{"a second one that began another", promote(promoted(t), 1, "h2"), "h2", "h1"},
		{"the next primary has not begun one yet", handed(enforced(t)), "", "h1"},
		{"the next primary", promote(handed(enforced(t)), 2, "h2"), "h2", "h1"},
		{"a promotion that was withdrawn tells nothing more", ended(t, lost(t, late), ferryman.Result{History: "h9"}), "h1", ""},
	} {
		if p := tt.in.Primary; p.History != tt.history || p.Before != tt.before {
			t.Errorf("%s: got %q after %q, want %q after %q", tt.name, p.History, p.Before, tt.history, tt.before)
		}
	}
}

// TestStepsOfAFailover is about what nobody does meanwhile.
func TestStepsOfAFailover(t *testing.T) {
	t.Parallel()
	epoch := func(st ferryman.Step, e uint64) ferryman.Step { return with(st, ferryman.Args{Epoch: e}) }
	open, after := lost(t, enforced(t)), over(t, enforced(t))
	frozen := apply(t, after, ask(ferryman.RequestFreeze, nil))
	upgrade := func(st ferryman.Step) ferryman.Step { st.Rule = ferryman.RuleUpgrade; return st }
	try(t, []row{
		{"the old primary is killed", open, steps(kill), ""},
		{"also when it is fenced already", after, steps(kill), ""},
		{"but not asked", open, steps(epoch(step(ferryman.OpFence, "n1"), 1)), "only in a switchover or a failover"},
		{"nor outside of one", enforced(t), steps(kill), "only in a switchover or a failover"},
		{"it is not promoted again", open, steps(epoch(step(ferryman.OpPromote, "n1"), 1)), "a failover is under way"},
		{"nor is its successor before the commit", after, steps(epoch(step(ferryman.OpPromote, "n2"), 2)), "the primary of epoch 1 is n1"},
		{"its fence stays", after, steps(epoch(step(ferryman.OpUnfence, "n1"), 1)), "a failover is under way"},
		{"its data stay", after, steps(step(ferryman.OpClone, "n1")), "not replaced"},
		{"it is started", after, steps(repair(step(ferryman.OpStart, "n1"))), ""},
		{"its node does not depart", apply(t, after, ask(ferryman.RequestLeave, func(r *request) { r.Node = "n1" })), steps(step(ferryman.OpDepart, "n1")), "it is the primary"},
		{"no switchover begins", open, moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n2"}), "a failover from n1 is under way"},
		{"a freeze does not stop the questions", frozen, steps(with(step(ferryman.OpPreflight, "n2"), ferryman.Args{Alone: true})), ""},
		{"but everything else", frozen, steps(upgrade(step(ferryman.OpStage, "n2"))), "frozen"},
	})
}
