package state_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// anything makes a command that may be right or wrong for s: the kinds are
// drawn from all that there are, the names and ids from few, so that both
// happen often.
func anything(rng *rand.Rand, s ferryman.State) command {
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	id := func() ferryman.NodeID { return ferryman.NodeID("id-" + one("n1", "n2", "n3", "n4")) }
	number := func() uint64 { return uint64(rng.IntN(4)) }
	c := command{At: t0.Add(time.Duration(s.LastEvent) * time.Second)}
	for range 1 + rng.IntN(2) {
		switch rng.IntN(7) {
		case 0, 1:
			ops := []ferryman.Op{ferryman.OpInitialise, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFollow, ferryman.OpFence, ferryman.OpUnfence, ferryman.OpVerify,
				ferryman.OpStop, ferryman.OpStart, ferryman.OpExit, ferryman.OpDepart, ferryman.OpVote, ferryman.OpDemote, ferryman.OpRemove, ferryman.OpRequestHosts}
			st := ferryman.Step{Op: ops[rng.IntN(len(ops))], Node: id(), Attempt: 1, Deadline: 1, Rule: ferryman.Rule(one("primary", "repair", "upgrade"))}
			if st.Op.ByEngine() || rng.IntN(2) == 0 {
				st.Service = "db"
			}
			st.Args.Epoch = s.Primary.Epoch + number()/3
			c.Steps = append(c.Steps, st)
		case 2, 3:
			for _, st := range s.Ledger {
				if st.Open() && rng.IntN(2) == 0 {
					c.Outcomes = append(c.Outcomes, ferryman.Outcome{Step: st.ID, Status: ferryman.OutcomeStatus(one("done", "done", "failed", "timed out", "running")), Reason: "a reason"})
				}
			}
		case 4, 5:
			m := change{Node: id(), Slot: "db", Epoch: s.Primary.Epoch + number()/2, Lost: rng.IntN(4) == 0, Reason: "a reason", Part: ferryman.Part(one("agents", "database")),
				Kind: ferryman.TransitionKind(one("begin-passage", "begin-passage", "end-passage", "part", "part", "supersede", "begin-switchover", "back-switchover", "end-switchover", "primary", "want", "forget",
					"end-hold", "forget-request")),
				Status: ferryman.PartStatus(one("complete", "complete", "reverting", "reverted", "halted")), Want: ferryman.Want(one("active", "maintenance", "leaving"))}
			m.Goal = s.Rollout.Part(m.Part).Goal()
			if rng.IntN(2) == 0 {
				m.Maintenance = &ferryman.Maintenance{Owner: "anna", Until: c.At}
			}
			c.Moves = append(c.Moves, m)
		case 6:
			switch rng.IntN(4) {
			case 0:
				c.Accept = accept(document(number()+uint64(s.LastEvent/20), one("1", "2", "3"))).Accept
			case 1:
				m := node(one("n1", "n2", "n3", "n4"))
				if rng.IntN(4) == 0 {
					m.ID = "id-other"
				}
				c.Join = &m
			default:
				c.Request = ask(ferryman.RequestKind(one("pause", "resume", "freeze", "unfreeze", "continue", "abort", "undo", "lift", "switchover", "restart", "leave", "maintain")),
					func(r *request) {
						r.Node, r.Release, r.For = one("n1", "n2", "n3"), "demodb/2", ferryman.Duration(number())
					}).Request
			}
		}
	}
	return c
}

// TestApplyProperties holds Apply against what raft asks of it, over states
// that random commands come to: it changes nothing that it was given, a refusal
// leaves everything as it was, and every node comes to the same.
func TestApplyProperties(t *testing.T) {
	t.Parallel()
	taken, refused := 0, 0
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 0))
		s := running(t)
		seen := []ferryman.State{s}
		texts := []string{text(t, s)}
		for i := range 150 {
			c := anything(rng, s)
			next, events, err := state.Apply(s, c)
			want := text(t, next)
			_, _, _ = state.Apply(s, anything(rng, s)) // another try from the same state, as the leader makes them
			if text(t, next) != want {
				t.Fatalf("seed %d, command %d: another command for the same state changed the result of %s", seed, i, text(t, c))
			}
			again, _, _ := state.Apply(s, c)
			if text(t, s) != texts[len(texts)-1] {
				t.Fatalf("seed %d, command %d: Apply changed the state that it was given: %s", seed, i, text(t, c))
			}
			if text(t, again) != want {
				t.Fatalf("seed %d, command %d: Apply came to two results: %s", seed, i, text(t, c))
			}
			sound(t, fmt.Sprintf("seed %d, command %d (%s)", seed, i, text(t, c)), s, next)
			if err != nil {
				refused++
				if text(t, next) != texts[len(texts)-1] || len(events) > 0 {
					t.Fatalf("seed %d, command %d: a refusal changed something: %s", seed, i, text(t, c))
				}
				continue
			}
			taken++
			s = next
			seen, texts = append(seen, s), append(texts, text(t, s))
		}
		for i, old := range seen {
			if text(t, old) != texts[i] {
				t.Fatalf("seed %d: the state after %d commands was changed by a later one", seed, i)
			}
		}
	}
	if taken < 300 || refused < 300 {
		t.Errorf("%d commands were taken and %d refused: the test does not try what it says", taken, refused)
	}
	t.Logf("%d commands were taken, %d refused", taken, refused)
}

// sound is what holds after any command whatever a leader believes.
func sound(t *testing.T, when string, before, after ferryman.State) {
	t.Helper()
	lanes, reconfigures := map[string]bool{}, 0
	for _, st := range after.Ledger {
		if !st.Open() {
			continue
		}
		lane := string(st.Node) + "/" + st.Service
		if lanes[lane] {
			t.Fatalf("%s: two steps are open on %s", when, lane)
		}
		lanes[lane] = true
		if st.Op.Reconfigures() {
			reconfigures++
		}
	}
	if reconfigures > 1 {
		t.Fatalf("%s: %d changes of the Raft group are open", when, reconfigures)
	}
	switch {
	case after.Primary.Epoch < before.Primary.Epoch || after.Primary.Epoch > before.Primary.Epoch+1:
		t.Fatalf("%s: epoch %d came after %d", when, after.Primary.Epoch, before.Primary.Epoch)
	case after.Primary.Epoch == before.Primary.Epoch && after.Primary.Node != before.Primary.Node:
		t.Fatalf("%s: epoch %d has two primaries", when, after.Primary.Epoch)
	case after.Accepted.Document.Generation < before.Accepted.Document.Generation:
		t.Fatalf("%s: generation %d came after %d", when, after.Accepted.Document.Generation, before.Accepted.Document.Generation)
	case after.LastStep < before.LastStep || after.LastEvent < before.LastEvent:
		t.Fatalf("%s: numbers run backwards", when)
	}
	if r := after.Rollout; r.Open() && len(r.Passages) > after.Policy().MaxUnavailable {
		t.Fatalf("%s: %d nodes are carried at once", when, len(r.Passages))
	}
	if _, ok := after.Members[after.Primary.Node]; !ok {
		t.Fatalf("%s: the primary is no member any more", when)
	}
}

// TestBounds shows that the state stays small however long it lives, and that
// nothing open is forgotten.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := apply(t, running(t), steps(step(ferryman.OpStage, "n1")))
	openID := s.LastStep
	for i := range 1200 {
		s = apply(t, s, steps(step(ferryman.OpVerify, "n2")))
		s = apply(t, s, command{Outcomes: []ferryman.Outcome{{Step: s.LastStep, Status: ferryman.StatusFailed}}})
		if i%50 == 0 {
			s = apply(t, s, accept(document(s.Accepted.Document.Generation+1, fmt.Sprint(i))))
		}
	}
	if len(s.Ledger) > 1024 || len(s.Events) > 256 || len(s.History) > 16 {
		t.Errorf("%d steps, %d events and %d rollouts are remembered; want at most 1024, 256 and 16", len(s.Ledger), len(s.Events), len(s.History))
	}
	if st, ok := s.Step(openID); !ok || !st.Open() {
		t.Error("an open step was forgotten")
	}
	if _, ok := s.Step(s.LastStep); !ok {
		t.Error("the newest step was forgotten")
	}
	if last := s.Events[len(s.Events)-1]; last.Seq != s.LastEvent {
		t.Errorf("the last event is %d, want %d", last.Seq, s.LastEvent)
	}
}
