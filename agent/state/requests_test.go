package state_test

import (
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

func must(t *testing.T, s ferryman.State, c command) ferryman.State {
	t.Helper()
	s, _, err := state.Apply(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRequests(t *testing.T) {
	t.Parallel()
	db := ferryman.PartDatabase
	on := func(kind ferryman.RequestKind, node string) command {
		return ask(kind, func(r *request) { r.Node = node })
	}
	token := func(kind ferryman.RequestKind, id string, expires time.Time) command {
		return ask(kind, func(r *request) { r.TokenID, r.Token = id, &ferryman.Token{Hash: "h", Expires: expires} })
	}
	var (
		run      = running(t)
		up       = upgrading(t)
		one      = apply(t, up, moves(begin(up, "n2", db)))
		back     = apply(t, up, moves(part(db, ferryman.PartReverting)))
		halted   = apply(t, up, moves(part(db, ferryman.PartHalted)))
		reverted = apply(t, back, moves(part(db, ferryman.PartReverted)))
		blocked  = apply(t, reverted, accept(document(3, "2")), moves(part(ferryman.PartAgents, ferryman.PartComplete)))
		complete = apply(t, one, moves(end("n2")), moves(part(db, ferryman.PartComplete)))
		paused   = apply(t, run, ask(ferryman.RequestPause, nil))
		brief    = apply(t, run, ask(ferryman.RequestPause, func(r *request) { r.For = ferryman.Duration(30 * time.Minute) }))
		long     = apply(t, run, ask(ferryman.RequestPause, func(r *request) { r.For = ferryman.Duration(2 * time.Hour) }))
		first    = apply(t, born(t), accept(document(1, "1")))
		endHold  = moves(change{Kind: ferryman.MoveEndHold})
		tokens   = apply(t, run, token(ferryman.RequestToken, "a", t0.Add(2*time.Hour)), token(ferryman.RequestToken, "b", t0.Add(30*time.Minute)))
	)
	try(t, []row{
		{"resume what is paused", paused, ask(ferryman.RequestResume, nil), ""},
		{"resume what is not", run, ask(ferryman.RequestResume, nil), "nothing is paused"},
		{"resume what the document pauses", apply(t, run, accept(func() ferryman.Document { d := document(2, "1"); d.Paused = true; return d }())), ask(ferryman.RequestResume, nil), "the document itself"},
		{"unfreeze what is not frozen", run, ask(ferryman.RequestUnfreeze, nil), "nothing is frozen"},
		{"a pause ran out", brief, endHold, ""},
		{"a pause that has not run out", long, endHold, "nothing ran out"},
		{"a pause without an end", paused, endHold, "nothing ran out"},

		{"continue", up, ask(ferryman.RequestContinue, nil), ""},
		{"continue without a rollout", run, ask(ferryman.RequestContinue, nil), "no rollout is open"},
		{"continue after a halt", halted, ask(ferryman.RequestContinue, nil), ""},
		{"continue a way back", back, ask(ferryman.RequestContinue, nil), "nothing waits for it"},
		{"continue with what is in quarantine", blocked, ask(ferryman.RequestContinue, nil), "lift it first"},

		{"abort", one, ask(ferryman.RequestAbort, nil), ""},
		{"abort after a halt", halted, ask(ferryman.RequestAbort, nil), ""},
		{"abort nothing", run, ask(ferryman.RequestAbort, nil), "rollout undo"},
		{"abort a way back", back, ask(ferryman.RequestAbort, nil), "carried back already"},
		{"abort where nothing was", first, ask(ferryman.RequestAbort, nil), "nothing was ever complete"},
		{"undo", complete, ask(ferryman.RequestUndo, nil), ""},
		{"undo while one is open", up, ask(ferryman.RequestUndo, nil), "rollout abort"},
		{"undo the first", run, ask(ferryman.RequestUndo, nil), "no earlier version"},
		{"undo twice", apply(t, apply(t, complete, ask(ferryman.RequestUndo, nil)), moves(part(db, ferryman.PartReverted))), ask(ferryman.RequestUndo, nil), "no earlier version"},
		{"lift", reverted, ask(ferryman.RequestLift, func(r *request) { r.Release = "demodb/2" }), ""},
		{"lift by digest", reverted, ask(ferryman.RequestLift, func(r *request) { r.Release = "sha256:s2" }), ""},
		{"lift what is not there", reverted, ask(ferryman.RequestLift, func(r *request) { r.Release = "demodb/9" }), "in quarantine"},

		{"switchover by name", run, on(ferryman.RequestSwitchover, "n2"), ""},
		{"switchover to nobody", run, on(ferryman.RequestSwitchover, "n9"), "ferryman nodes"},
		{"restart", run, ask(ferryman.RequestRestart, nil), ""},
		{"restart before a document", born(t), ask(ferryman.RequestRestart, nil), "no document"},
		{"leave twice", apply(t, run, on(ferryman.RequestLeave, "n3")), on(ferryman.RequestLeave, "n3"), ""},
		{"leave of nobody", run, on(ferryman.RequestLeave, "n9"), "ferryman nodes"},
		{"maintain nobody", run, on(ferryman.RequestMaintain, "n9"), "ferryman nodes"},
		{"use a token", tokens, token(ferryman.RequestUseToken, "a", t0), ""},
		{"use one that ran out", tokens, token(ferryman.RequestUseToken, "b", t0), "ran out"},
		{"use one twice", apply(t, tokens, token(ferryman.RequestUseToken, "a", t0)), token(ferryman.RequestUseToken, "a", t0), "used already"},
		{"a token without an id", run, token(ferryman.RequestToken, "", t0), "needs an id"},
		{"an unknown request", run, ask("sing", nil), "knows no such request"},
	})

	t.Run("abort", func(t *testing.T) {
		s := apply(t, one, ask(ferryman.RequestAbort, nil))
		if pp := s.Rollout.Parts[db]; pp.Status != ferryman.PartReverting || len(s.Quarantined) != 0 || s.Rollout.Passages["id-n2"].Goal.Target.Version != "1" {
			t.Errorf("it is %s with %v in quarantine; want reverting, the release without blame, and n2 carried to 1", pp.Status, s.Quarantined)
		}
	})
	t.Run("undo", func(t *testing.T) {
		s := apply(t, complete, ask(ferryman.RequestUndo, nil))
		if pp := s.Rollout.Parts[db]; pp.Status != ferryman.PartReverting || pp.Goal().Target.Version != "1" || s.Quarantined["sha256:s2"].Key != "demodb/2" {
			t.Errorf("it is %s to %s with %v in quarantine; want reverting to 1, demodb/2 in quarantine", pp.Status, pp.Goal().Target.Version, s.Quarantined)
		}
		if agents := s.Rollout.Parts[ferryman.PartAgents].Status; agents != ferryman.PartComplete {
			t.Errorf("agents are %s, want complete", agents)
		}
		s = apply(t, s, moves(part(db, ferryman.PartReverted)))
		if s.Complete[db].Target.Version != "1" || s.Stale() {
			t.Errorf("complete is %s, stale %v; want 1, and not at once the document's version again", s.Complete[db].Target.Version, s.Stale())
		}
	})
	t.Run("undo does not undo a restart", func(t *testing.T) {
		s := apply(t, complete, ask(ferryman.RequestRestart, nil), moves(part(ferryman.PartAgents, ferryman.PartComplete)), moves(part(db, ferryman.PartComplete)))
		if s = apply(t, s, ask(ferryman.RequestUndo, nil)); s.Rollout.Parts[db].Goal().Target.RestartGeneration != 1 {
			t.Errorf("it goes back to restart %d, want 1", s.Rollout.Parts[db].Goal().Target.RestartGeneration)
		}
	})
	t.Run("a restart begins a rollout, or is kept for the next", func(t *testing.T) {
		if s := apply(t, run, ask(ferryman.RequestRestart, nil)); !s.Rollout.Open() || s.Rollout.Parts[db].To.Target.RestartGeneration != 1 {
			t.Errorf("no rollout to restart 1 is open: %+v", s.Rollout.Parts[db])
		}
		if s := apply(t, one, ask(ferryman.RequestRestart, nil)); !s.Stale() || s.Rollout.Parts[db].To.Target.RestartGeneration != 0 {
			t.Error("the restart broke into the passage under way, or was forgotten")
		}
	})
	t.Run("continue after a halt gives new attempts", func(t *testing.T) {
		s := apply(t, halted, steps(step(ferryman.OpStage, "n2")), ask(ferryman.RequestContinue, nil))
		if pp := s.Rollout.Parts[db]; pp.Status != ferryman.PartOpen || pp.FirstStep != s.LastStep+1 || pp.Reason != "" {
			t.Errorf("it is %+v, want open, with attempts counted from step %d", pp, s.LastStep+1)
		}
	})
	t.Run("continue after a halt goes forward, also from a way back", func(t *testing.T) {
		still := part(db, ferryman.PartHalted)
		if s := apply(t, one, moves(still), ask(ferryman.RequestContinue, nil)); s.Rollout.Passages["id-n2"].FirstStep != s.LastStep+1 {
			t.Errorf("the passages are %v, want n2's with new attempts", s.Rollout.Passages)
		}
		if s := apply(t, one, ask(ferryman.RequestAbort, nil), moves(still), ask(ferryman.RequestContinue, nil)); len(s.Rollout.Passages) != 0 {
			t.Errorf("the passages are %v, want none that still goes back", s.Rollout.Passages)
		}
	})
	t.Run("tokens that ran out are swept", func(t *testing.T) {
		c := token(ferryman.RequestToken, "c", t0.Add(2*time.Hour))
		c.At = t0.Add(time.Hour)
		if s := must(t, tokens, c); len(s.Tokens) != 2 {
			t.Errorf("tokens are %v, want a and c", s.Tokens)
		}
	})
}
