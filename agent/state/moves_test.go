package state_test

import (
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

func TestSwitchover(t *testing.T) {
	t.Parallel()
	var (
		run       = running(t)
		sw        = switching(t)
		begin     = change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n2"}
		back      = change{Kind: ferryman.MoveBackSwitchover, Reason: "slow"}
		finish    = change{Kind: ferryman.MoveEndSwitchover}
		fencing   = apply(t, sw, steps(step(ferryman.OpFence, "n1")))
		fenced    = apply(t, fencing, command{Outcomes: []ferryman.Outcome{done(fencing.LastStep, ferryman.Result{Position: 7, History: "h"})}})
		committed = apply(t, proven(t), moves(commit))
		witness   = ferryman.Member{ID: "id-w", Name: "w", Address: "w:7400", Witness: true}
		verify    = func(s ferryman.State, pos uint64, history string) ferryman.State {
			s = apply(t, s, steps(with(step(ferryman.OpVerify, "n2"), ferryman.Args{Position: pos, History: history})))
			return apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, ferryman.Result{})}})
		}
	)
	try(t, []row{
		{"begins", run, moves(begin), ""},
		{"a second one", sw, moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n3"}), "a switchover to n2 is under way"},
		{"two at once", run, moves(begin, change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n3"}), "is under way"},
		{"a second one, asked by a person", sw, ask(ferryman.RequestSwitchover, func(r *request) { r.Node = "n3" }), "is under way"},
		{"before there is a primary", born(t), moves(begin), "no primary yet"},
		{"to the primary", run, moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n1"}), "the primary already"},
		{"to nobody", run, moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n9"}), "no active node"},
		{"to a witness", apply(t, run, command{Join: &witness}), moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-w"}), "no active node"},
		{"to one that leaves", apply(t, run, ask(ferryman.RequestLeave, func(r *request) { r.Node = "n2" })), moves(begin), "no active node"},
		{"while frozen", apply(t, run, ask(ferryman.RequestFreeze, nil)), moves(begin), "frozen"},

		{"commit with proof", proven(t), moves(commit), ""},
		{"commit without a switchover", run, moves(commit), "no switchover to n2"},
		{"commit without a fence", sw, moves(commit), "n1 is not fenced"},
		{"commit while the fence runs", fencing, moves(commit), "n1 is not fenced"},
		{"commit without the successor's proof", fenced, moves(commit), "not known to have everything"},
		{"commit with a proof of less", verify(fenced, 6, "h"), moves(commit), "not known to have everything"},
		{"commit with a proof of another history", verify(fenced, 7, "g"), moves(commit), "not known to have everything"},
		{"commit with a proof from before the fence", func() ferryman.State {
			s := verify(sw, 7, "h")
			s = apply(t, s, steps(step(ferryman.OpFence, "n1")))
			return apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, ferryman.Result{Position: 7, History: "h"})}})
		}(), moves(commit), "not known to have everything"},
		{"commit with the proof of an earlier switchover", func() ferryman.State {
			s := apply(t, proven(t), moves(back))
			s = apply(t, s, steps(step(ferryman.OpUnfence, "n1")))
			return apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, ferryman.Result{})}}, moves(finish), moves(begin))
		}(), moves(commit), "n1 is not fenced"},
		{"commit to another", proven(t), moves(change{Kind: ferryman.MovePrimary, Node: "id-n3", Slot: "db", Epoch: 2}), "no switchover to n3"},
		{"commit of an epoch that was", proven(t), moves(change{Kind: ferryman.MovePrimary, Node: "id-n2", Slot: "db", Epoch: 1}), "after epoch 1 comes 2"},
		{"commit of an epoch too far", proven(t), moves(change{Kind: ferryman.MovePrimary, Node: "id-n2", Slot: "db", Epoch: 3}), "after epoch 1 comes 2"},
		{"commit when it goes back", apply(t, proven(t), moves(back)), moves(commit), "no switchover to n2"},
		{"a first primary before the database was made", born(t), moves(change{Kind: ferryman.MovePrimary, Node: "id-n1", Slot: "db", Epoch: 1}), "not initialised"},
		{"twice", committed, moves(change{Kind: ferryman.MovePrimary, Node: "id-n2", Slot: "db", Epoch: 3}), "no switchover"},

		{"back", sw, moves(back), ""},
		{"back without a switchover", run, moves(back), "no switchover can go back"},
		{"back twice", apply(t, sw, moves(back)), moves(back), "no switchover can go back"},
		{"back after the commit", committed, moves(back), "no switchover can go back"},
		{"end without a switchover", run, moves(finish), "no switchover"},
		{"end before the commit", sw, moves(finish), "under way"},
		{"end after the commit", committed, moves(finish), ""},
		{"end while the fence runs", apply(t, fencing, moves(back)), moves(finish), "is open"},
	})

	t.Run("going back withdraws what must not end under an unfenced primary", func(t *testing.T) {
		s := apply(t, fenced, steps(with(step(ferryman.OpVerify, "n2"), ferryman.Args{Position: 7, History: "h"})))
		s = apply(t, s, moves(back))
		if st, _ := s.Step(s.LastStep); st.Outcome == nil || st.Outcome.Status != ferryman.StatusCancelled {
			t.Errorf("the proof under way ended as %+v, want cancelled", st.Outcome)
		}
	})
}

func TestRollout(t *testing.T) {
	t.Parallel()
	var (
		db, agents = ferryman.PartDatabase, ferryman.PartAgents
		run        = running(t)
		up         = upgrading(t)
		one        = apply(t, up, moves(begin(up, "n2", db)))
		carried    = apply(t, one, moves(end("n2")))
		back       = apply(t, carried, moves(part(db, ferryman.PartReverting)))
		halted     = apply(t, carried, moves(part(db, ferryman.PartHalted)))
		reverted   = apply(t, back, moves(part(db, ferryman.PartReverted)))
		first      = apply(t, born(t), accept(document(1, "1")))
		leave      = ask(ferryman.RequestLeave, func(r *request) { r.Node = "n2" })
		third      = accept(document(3, "3"))
		bad        = func() change { c := begin(up, "n2", db); c.Goal.Release = release("2"); return c }()
	)
	try(t, []row{
		{"carry a node", up, moves(begin(up, "n2", db)), ""},
		{"carry it twice", one, moves(begin(up, "n2", db)), "carried already"},
		{"carry one too many", one, moves(begin(up, "n3", db)), "as many as maxUnavailable allows"},
		{"carry two at once", up, moves(begin(up, "n2", db), begin(up, "n3", db)), "as many as maxUnavailable allows"},
		{"carry one beside a stop", apply(t, up, steps(step(ferryman.OpStop, "n3"))), moves(begin(up, "n2", db)), "as many as maxUnavailable allows"},
		{"carry the one that is stopped", apply(t, up, steps(step(ferryman.OpStop, "n2"))), moves(begin(up, "n2", db)), ""},
		{"carry nobody", up, moves(begin(up, "n9", db)), "no member that stays"},
		{"carry one that leaves", apply(t, up, leave), moves(begin(up, "n2", db)), "no member that stays"},
		{"carry it elsewhere", up, moves(change{Kind: ferryman.MoveBeginPassage, Node: "id-n2", Part: db, Goal: ferryman.Known{Target: ferryman.Target{Version: "9"}}}), "go to"},
		{"carry without a rollout", run, moves(begin(up, "n2", db)), "no rollout is open"},
		{"carry for a part that is done", up, moves(begin(up, "n2", agents)), "agents are complete"},
		{"carry for a part that stands still", halted, moves(begin(up, "n3", db)), "database are halted"},
		{"carry for a part that goes back", back, moves(begin(back, "n2", db)), ""},
		{"carry while a person pauses", apply(t, up, ask(ferryman.RequestPause, nil)), moves(begin(up, "n2", db)), "paused by anna"},
		{"carry while the document pauses", apply(t, up, accept(func() ferryman.Document { d := document(3, "2"); d.Paused = true; return d }())), moves(begin(up, "n2", db)), "paused by the document"},
		{"carry while frozen", apply(t, up, ask(ferryman.RequestFreeze, nil)), moves(begin(up, "n2", db)), "frozen"},
		{"carry to what is in quarantine", back, moves(bad), "quarantine"},
		{"end a passage", one, moves(end("n2")), ""},
		{"end one that never began", up, moves(end("n2")), "not being carried"},

		{"complete", carried, moves(part(db, ferryman.PartComplete)), ""},
		{"complete while a node is carried", one, moves(part(db, ferryman.PartComplete)), "still being carried"},
		{"complete what goes back", back, moves(part(db, ferryman.PartComplete)), "database are reverting"},
		{"complete what stands still", halted, moves(part(db, ferryman.PartComplete)), "database are halted"},
		{"complete twice", carried, moves(part(agents, ferryman.PartComplete)), "agents are complete"},
		{"without a rollout", run, moves(part(db, ferryman.PartComplete)), "no rollout is open"},
		{"an unknown part", carried, moves(part("moon", ferryman.PartComplete)), "moon"},
		{"an unknown status", carried, moves(part(db, "upside down")), "no status"},
		{"superseded is not for the plan to say", carried, moves(part(db, ferryman.PartSuperseded)), "no status"},
		{"go back while a node is carried", one, moves(part(db, ferryman.PartReverting)), ""},
		{"go back twice", back, moves(part(db, ferryman.PartReverting)), "carried back already"},
		{"go back where nothing was", first, moves(part(db, ferryman.PartReverting)), "nothing was ever complete"},
		{"be back without going", carried, moves(part(db, ferryman.PartReverted)), "database are open"},
		{"be back", back, moves(part(db, ferryman.PartReverted)), ""},
		{"stand still", one, moves(part(db, ferryman.PartHalted)), ""},
		{"stand still twice", halted, moves(part(db, ferryman.PartHalted)), "stand still already"},
		{"stand still on the way back", back, moves(part(db, ferryman.PartHalted)), ""},
		{"anything after the end", reverted, moves(part(db, ferryman.PartReverting)), "no rollout is open"},

		{"carry agents on while a rollout runs", up, moves(change{Kind: ferryman.MoveCarryAgents, Node: "id-n2"}), "no rollout is over"},
		{"carry agents on when it is over", running(t), moves(change{Kind: ferryman.MoveCarryAgents, Node: "id-n2"}), ""},
		{"supersede what is wanted", up, moves(change{Kind: ferryman.MoveSupersede}), "is the one that is wanted"},
		{"supersede while a node is carried", apply(t, one, third), moves(change{Kind: ferryman.MoveSupersede}), "being carried"},
		{"supersede a way back", apply(t, back, third), moves(change{Kind: ferryman.MoveSupersede}), "carried back first"},
		{"supersede between two nodes", apply(t, apply(t, one, third), moves(end("n2"))), moves(change{Kind: ferryman.MoveSupersede}), ""},
		{"an unknown transition", up, moves(change{Kind: "beam-up"}), "knows no such transition"},
		{"the format does not fall", up, moves(change{Kind: ferryman.MoveRaiseFormat, Format: 1}), "the format is 1"},
		{"nor rise above what is understood", up, moves(change{Kind: ferryman.MoveRaiseFormat, Format: 99}), "the format is 1"},
		{"all or nothing", up, moves(begin(up, "n2", db), end("n3")), "not being carried"},
	})

	t.Run("going back", func(t *testing.T) {
		s := apply(t, one, moves(part(db, ferryman.PartReverting)))
		if got := s.Rollout.Passages["id-n2"].Goal.Target.Version; got != "1" {
			t.Errorf("the node under way is carried to %s, want 1", got)
		}
		if q := s.Quarantined["sha256:s2"]; q.Key != "demodb/2" || q.Generation != 2 {
			t.Errorf("quarantined are %v, want the digest of demodb/2", s.Quarantined)
		}
		again := apply(t, reverted, accept(document(3, "2")))
		if pp := again.Rollout.Parts[db]; pp.Status != ferryman.PartHalted {
			t.Errorf("the release in quarantine is %s by the next document, want halted", pp.Status)
		}
		d := document(3, "2b")
		d.Releases["demodb/2b"] = release("2") // by another name
		if pp := apply(t, reverted, accept(d)).Rollout.Parts[db]; pp.Status != ferryman.PartHalted {
			t.Errorf("the same digest by another name is %s, want halted", pp.Status)
		}
		if pp := apply(t, reverted, third).Rollout.Parts[db]; pp.Status != ferryman.PartOpen || pp.From.Target.Version != "1" {
			t.Errorf("the next version is %s from %s, want open from 1", pp.Status, pp.From.Target.Version)
		}
		lifted := apply(t, again, ask(ferryman.RequestLift, func(r *request) { r.Release = "demodb/2" }))
		if pp := lifted.Rollout.Parts[db]; pp.Status != ferryman.PartOpen || len(lifted.Quarantined) != 0 {
			t.Errorf("after the lift it is %s with %v in quarantine, want open and none", pp.Status, lifted.Quarantined)
		}
	})
	t.Run("the rollout ends when all parts are done", func(t *testing.T) {
		s := apply(t, carried, moves(part(db, ferryman.PartComplete)))
		if s.Rollout.Open() || s.Complete[db].Target.Version != "2" || s.Previous[db].Target.Version != "1" {
			t.Errorf("open %v, complete %s, previous %s; want ended, 2 and 1", s.Rollout.Open(), s.Complete[db].Target.Version, s.Previous[db].Target.Version)
		}
		if reverted.Rollout.Open() || reverted.Complete[db].Target.Version != "1" {
			t.Errorf("open %v, complete %s; want ended and 1", reverted.Rollout.Open(), reverted.Complete[db].Target.Version)
		}
	})
	t.Run("a document that comes in the middle waits", func(t *testing.T) {
		s := apply(t, one, third)
		if s.Accepted.Document.Generation != 3 || s.Rollout.Generation != 2 || s.Rollout.Passages["id-n2"].Goal.Target.Version != "2" {
			t.Errorf("generation %d is accepted, %d carried; want 3 accepted and 2 carried on", s.Accepted.Document.Generation, s.Rollout.Generation)
		}
		s = apply(t, s, moves(end("n2")), moves(change{Kind: ferryman.MoveSupersede}))
		if old := s.History[len(s.History)-1]; s.Rollout.Generation != 3 || old.Generation != 2 || old.Parts[db].Status != ferryman.PartSuperseded {
			t.Errorf("generation %d is carried after %d (%s); want 3 after 2, superseded", s.Rollout.Generation, old.Generation, old.Parts[db].Status)
		}
	})
	t.Run("nothing goes back beyond the point of no return", func(t *testing.T) {
		asked := func(r ferryman.Result) ferryman.State {
			s := apply(t, upgrading(t), steps(step(ferryman.OpPreflight, "n1")))
			return apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, r)}})
		}
		to := func(s ferryman.State, name string) ferryman.State {
			return apply(t, s, moves(begin(s, name, db)), moves(end(name)))
		}
		never := asked(ferryman.Result{NoReturn: true})
		for _, tt := range []struct {
			name string
			in   ferryman.State
			want string
		}{
			{"the primary took writes", to(never, "n1"), "2"},
			{"and then it stood still", apply(t, to(never, "n1"), moves(part(db, ferryman.PartHalted))), "2"},
			{"only a replica was carried", to(never, "n2"), "1"},
			{"the engine can go back", to(asked(ferryman.Result{}), "n1"), "1"},
		} {
			if got := apply(t, tt.in, third).Rollout.Parts[db].From.Target.Version; got != tt.want {
				t.Errorf("%s: the next rollout would go back to %s, want %s", tt.name, got, tt.want)
			}
		}
		for _, tt := range []struct {
			in   ferryman.State
			back bool
		}{{never, false}, {asked(ferryman.Result{}), true}} {
			s := apply(t, tt.in, moves(part(db, ferryman.PartComplete)))
			if _, _, err := state.Apply(s, ask(ferryman.RequestUndo, nil)); (err == nil) != tt.back {
				t.Errorf("undo of what is complete: %v, want it carried out: %v", err, tt.back)
			}
		}
	})
	t.Run("time that was held counts for nothing", func(t *testing.T) {
		for _, kinds := range [][2]ferryman.RequestKind{{ferryman.RequestPause, ferryman.RequestResume}, {ferryman.RequestFreeze, ferryman.RequestUnfreeze}} {
			s := apply(t, one, ask(kinds[0], nil))
			c := ask(kinds[1], nil)
			c.At = t0.Add(time.Hour)
			if got := must(t, s, c).Rollout.Parts[db].Progress; !got.Equal(c.At) {
				t.Errorf("after %s progress is measured from %s, want %s", kinds[1], got, c.At)
			}
			s = apply(t, one, ask(kinds[0], func(r *request) { r.For = ferryman.Duration(time.Minute) }))
			c = moves(change{Kind: ferryman.MoveEndHold})
			c.At = t0.Add(time.Hour)
			if got := must(t, s, c).Rollout.Parts[db].Progress; !got.Equal(c.At) {
				t.Errorf("after a %s that ran out progress is measured from %s, want %s", kinds[0], got, c.At)
			}
		}
	})
}

// A node that comes with another agent after a version failed is carried to what
// all have, and the version that failed is not tried again for it.
func TestAgentsAreCarriedOnAfterAWayBack(t *testing.T) {
	t.Parallel()
	d := document(2, "1")
	d.Agent.Version, d.Releases["ferryman/9"] = "9", release("agent")
	s := apply(t, running(t), accept(d))
	s = apply(t, s, moves(part(ferryman.PartDatabase, ferryman.PartComplete)), moves(part(ferryman.PartAgents, ferryman.PartReverting)))
	s = apply(t, s, moves(part(ferryman.PartAgents, ferryman.PartReverted)))
	if s.Rollout.Open() {
		t.Fatalf("the rollout is open: %+v", s.Rollout)
	}
	s = apply(t, s, moves(change{Kind: ferryman.MoveCarryAgents, Node: "id-n2"}))
	pp := s.Rollout.Part(ferryman.PartAgents)
	if pp.Status != ferryman.PartReverting || pp.Goal().Target.Version != "" || s.Stale() || !s.Rollout.Open() {
		t.Errorf("agents are %s, to %q, stale %t, open %t; want them on the way back", pp.Status, pp.Goal().Target.Version, s.Stale(), s.Rollout.Open())
	}
}
