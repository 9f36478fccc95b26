package state_test

import (
	"testing"
	"time"

	"ferryman"
)

// TestSteps is about the intents that no plan may have committed.
func TestSteps(t *testing.T) {
	t.Parallel()
	var (
		epoch    = func(st ferryman.Step, e uint64) ferryman.Step { return with(st, ferryman.Args{Epoch: e}) }
		run      = running(t)
		sw       = switching(t)
		promoted = apply(t, proven(t), moves(commit))
		back     = apply(t, switching(t), moves(change{Kind: ferryman.MoveBackSwitchover, Reason: "slow"}))
		up       = upgrading(t)
		carried  = apply(t, up, moves(begin(up, "n2", ferryman.PartDatabase)))
		frozen   = apply(t, run, ask(ferryman.RequestFreeze, nil))
		leaver   = apply(t, run, ask(ferryman.RequestLeave, func(r *request) { r.Node = "n3" }))
		open     = func(s ferryman.State, st ferryman.Step) ferryman.State { return apply(t, s, steps(st)) }
		agents   = func() ferryman.State {
			d := document(2, "1")
			d.Agent.RestartGeneration = 1
			s := apply(t, run, accept(d))
			return apply(t, s, moves(begin(s, "n2", ferryman.PartAgents)))
		}()
		repaired = func(st ferryman.Step) ferryman.Step { st.Rule = ferryman.RuleRepair; return st }
	)
	try(t, []row{
		{"an ordinary step", run, steps(step(ferryman.OpStart, "n2")), ""},
		{"no member", run, steps(step(ferryman.OpStart, "n9")), "no member"},
		{"no operation", run, steps(step("", "n2")), "needs an operation"},
		{"no deadline", run, steps(func() ferryman.Step { st := step(ferryman.OpStart, "n2"); st.Deadline = 0; return st }()), "deadline"},
		{"no such service", run, steps(func() ferryman.Step { st := step(ferryman.OpStart, "n2"); st.Service = "web"; return st }()), "no service"},
		{"a busy lane", open(run, step(ferryman.OpStart, "n2")), steps(step(ferryman.OpVerify, "n2")), "still open"},
		{"another lane of the node", open(run, step(ferryman.OpStart, "n2")), steps(step(ferryman.OpStage, "n2")), ""},
		{"two for one lane at once", run, steps(step(ferryman.OpStart, "n2"), step(ferryman.OpVerify, "n2")), "still open"},
		{"two changes of the Raft group", open(run, step(ferryman.OpVote, "n2")), steps(step(ferryman.OpDemote, "n3")), "one thing at a time"},
		{"a vote beside an admission", open(run, step(ferryman.OpAdmit, "n2")), steps(step(ferryman.OpVote, "n3")), ""},
		{"frozen", frozen, steps(step(ferryman.OpStart, "n2")), "frozen by anna"},
		{"frozen in a switchover: its own step", apply(t, sw, ask(ferryman.RequestFreeze, nil)), steps(step(ferryman.OpFence, "n1")), ""},
		{"frozen in a switchover: another's", apply(t, sw, ask(ferryman.RequestFreeze, nil)), steps(func() ferryman.Step { st := step(ferryman.OpStage, "n2"); st.Rule = ferryman.RuleUpgrade; return st }()), "frozen"},

		{"a second initialisation", run, steps(step(ferryman.OpInitialise, "n2")), "initialised already"},
		{"two initialisations at once", open(apply(t, born(t), accept(document(1, "1"))), step(ferryman.OpInitialise, "n1")), steps(step(ferryman.OpInitialise, "n2")), "initialises it"},

		{"promote the primary again", run, steps(epoch(step(ferryman.OpPromote, "n1"), 1)), ""},
		{"promote another", run, steps(epoch(step(ferryman.OpPromote, "n2"), 1)), "the primary of epoch 1 is n1"},
		{"promote another under the next epoch", run, steps(epoch(step(ferryman.OpPromote, "n2"), 2)), "the primary of epoch 1 is n1"},
		{"promote under an old epoch", promoted, steps(epoch(step(ferryman.OpPromote, "n2"), 1)), "epoch 2"},
		{"promote before there is a primary", born(t), steps(step(ferryman.OpPromote, "n1")), "epoch 0"},
		{"promote the old one before the commit", sw, steps(epoch(step(ferryman.OpPromote, "n1"), 1)), "a switchover is under way"},
		{"promote the new one before the commit", proven(t), steps(epoch(step(ferryman.OpPromote, "n2"), 2)), "the primary of epoch 1 is n1"},
		{"promote the new one after the commit", promoted, steps(epoch(step(ferryman.OpPromote, "n2"), 2)), ""},
		{"promote the old one after the commit", promoted, steps(epoch(step(ferryman.OpPromote, "n1"), 1)), "the primary of epoch 2 is n2"},

		{"follow", run, steps(epoch(step(ferryman.OpFollow, "n2"), 1)), ""},
		{"follow under an old epoch", promoted, steps(epoch(step(ferryman.OpFollow, "n3"), 1)), "the epoch is 2"},
		{"the primary follows", run, steps(epoch(step(ferryman.OpFollow, "n1"), 1)), "it is the primary"},
		{"fence the primary", run, steps(step(ferryman.OpFence, "n1")), "only in a switchover"},
		{"fence it in a switchover", sw, steps(step(ferryman.OpFence, "n1")), ""},
		{"fence it in one that goes back", back, steps(step(ferryman.OpFence, "n1")), "only in a switchover"},
		{"fence the new primary", promoted, steps(step(ferryman.OpFence, "n2")), "only in a switchover"},
		{"fence a stray", run, steps(step(ferryman.OpFence, "n3")), ""},
		{"unfence before the switchover goes back", sw, steps(step(ferryman.OpUnfence, "n1")), "a switchover is under way"},
		{"unfence the primary that was found fenced", run, steps(step(ferryman.OpUnfence, "n1")), ""},
		{"unfence when it does", back, steps(step(ferryman.OpUnfence, "n1")), ""},
		{"unfence another", back, steps(step(ferryman.OpUnfence, "n2")), "only the primary's fence"},
		{"unfence after the commit", promoted, steps(step(ferryman.OpUnfence, "n1")), "only the primary's fence"},
		{"unfence the new primary then, whose lease ran out", promoted, steps(step(ferryman.OpUnfence, "n2")), ""},
		{"clone over the primary", run, steps(step(ferryman.OpClone, "n1")), "not replaced"},
		{"rewind the primary", run, steps(step(ferryman.OpRewind, "n1")), "not replaced"},

		{"stop a replica within the budget", run, steps(repaired(step(ferryman.OpStop, "n2"))), ""},
		{"stop two", run, steps(step(ferryman.OpStop, "n2"), step(ferryman.OpStop, "n3")), "as many as maxUnavailable allows"},
		{"stop one beside a passage", carried, steps(step(ferryman.OpStop, "n3")), "as many as maxUnavailable allows"},
		{"stop the one that is carried", carried, steps(step(ferryman.OpStop, "n2")), ""},
		{"stop one beside a passage that leaves", apply(t, carried, ask(ferryman.RequestLeave, func(r *request) { r.Node = "n3" })), steps(step(ferryman.OpStop, "n3")), "1 nodes are down because of us"},
		{"stop the primary outside of a passage", run, steps(step(ferryman.OpStop, "n1")), "it is the primary"},
		{"end an agent outside of a passage", run, steps(step(ferryman.OpExit, "n2")), "only while a rollout carries its node"},
		{"end an agent in the database's passage", carried, steps(step(ferryman.OpExit, "n2")), "only while a rollout carries its node"},
		{"end the agent that is carried", agents, steps(step(ferryman.OpExit, "n2")), ""},
		{"end the agent beside it", agents, steps(step(ferryman.OpExit, "n3")), "only while a rollout carries its node"},
		{"depart who stays", run, steps(step(ferryman.OpDepart, "n3")), "does not leave"},
		{"depart who leaves", leaver, steps(step(ferryman.OpDepart, "n3")), ""},
		{"remove who stays", run, steps(step(ferryman.OpRemove, "n3")), "does not leave"},
		{"remove the primary", apply(t, run, ask(ferryman.RequestLeave, func(r *request) { r.Node = "n1" })), steps(step(ferryman.OpRemove, "n1")), "it is the primary"},
	})
}

// TestOutcomes is about how steps end.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	s := apply(t, running(t), steps(step(ferryman.OpClone, "n2")))
	id := s.LastStep
	try(t, []row{
		{"as running", s, command{Outcomes: []ferryman.Outcome{{Step: id, Status: ferryman.StatusRunning}}}, "cannot end as"},
		{"as nothing", s, command{Outcomes: []ferryman.Outcome{{Step: id}}}, "cannot end as"},
		{"of an unknown step", s, command{Outcomes: []ferryman.Outcome{{Step: 999, Status: ferryman.StatusDone}}}, ""},
	})

	began := t0.Add(-100 * time.Hour) // the node's clock is wrong
	o := ferryman.Outcome{Step: id, Status: ferryman.StatusDone, Began: began, Ended: began.Add(3 * time.Second), Result: ferryman.Result{SetAside: "/old"}}
	s = apply(t, s, command{Outcomes: []ferryman.Outcome{o}})
	st, _ := s.Step(id)
	if took := st.Outcome.Ended.Sub(st.Outcome.Began); took != 3*time.Second || st.Outcome.Ended.Before(t0) {
		t.Errorf("it took %s until %s, want 3s by the leader's clock", took, st.Outcome.Ended)
	}
	if last := s.Events[len(s.Events)-1]; last.Kind != "data" || !last.Bad {
		t.Errorf("the last event is %+v, want one about the data that were set aside", last)
	}
	s = apply(t, s, command{Outcomes: []ferryman.Outcome{{Step: id, Status: ferryman.StatusFailed, Reason: "late news"}}})
	if st, _ := s.Step(id); !st.Outcome.Done() {
		t.Error("the second outcome of a step replaced the first, which was acted upon")
	}
}
