package runner_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/runner"
	disk "ferryman/agent/runner/fake"
	database "ferryman/dbhooks/fake"
	"ferryman/systemd"
)

func TestCarriesAServiceToAVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		id := a.follower(t, 1)
		to := ferryman.Args{Engine: "fakedb", Version: "2.0", RestartGeneration: 5, Parameters: map[string]string{"k": "v"}, Keep: 2}
		stage := to
		stage.Release = release("a")
		a.must(t, node(id, ferryman.OpStage, stage))
		if got := a.Status().Staged; !slices.Equal(got, []string{release("a").Digest()}) {
			t.Errorf("staged: got %q", got)
		}
		a.must(t, step(id+1, ferryman.OpDrain, ferryman.Args{}))
		a.must(t, step(id+2, ferryman.OpStop, ferryman.Args{}))
		if s := a.service(t); s.Unit.Active || s.Instance.Running || !s.Instance.Initialised {
			t.Errorf("stopped: got %+v, want it down and its data remembered", s)
		}
		a.must(t, step(id+3, ferryman.OpSwitch, to))
		if s := a.service(t); !s.Selected.Equal(to.Target()) || s.Launched.Equal(to.Target()) {
			t.Errorf("switched: got selected %+v, launched %+v; want only the selection changed", s.Selected, s.Launched)
		}
		a.must(t, step(id+4, ferryman.OpStart, ferryman.Args{}))
		if s := a.service(t); !s.Launched.Equal(to.Target()) || s.Instance.Version != "2.0" {
			t.Errorf("started: got launched %+v, version %s; want %+v", s.Launched, s.Instance.Version, to.Target())
		}
		a.must(t, step(id+5, ferryman.OpVerify, to))
		other := to
		other.RestartGeneration = 6
		if out := a.carry(t, step(id+6, ferryman.OpVerify, other)); out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, "restart generation 5") {
			t.Errorf("verify of another generation: got %+v, want it failed with the one that runs", out)
		}
		// An agent that comes later adopts what runs, with what it was started under.
		starts := h.units.Starts("db")
		a.end()
		b := h.run(t)
		if s := b.service(t); !s.Launched.Equal(to.Target()) || !s.Selected.Equal(to.Target()) || h.units.Starts("db") != starts {
			t.Errorf("adopted: got %+v", s)
		}
		// Without a version a switch keeps the one that there is.
		b.must(t, step(id+7, ferryman.OpSwitch, ferryman.Args{RestartGeneration: 7}))
		if s := b.service(t); s.Selected.Version != "2.0" || s.Selected.RestartGeneration != 7 || s.Launched.RestartGeneration != 5 {
			t.Errorf("switched without a version: got selected %+v, launched %+v", s.Selected, s.Launched)
		}
	})
}

func TestRepeatReturnsTheRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		id := a.follower(t, 1)
		s := step(id, ferryman.OpFence, ferryman.Args{Epoch: 1})
		first := a.must(t, s)
		calls := h.db.Calls(ferryman.OpFence)
		if again := a.must(t, s); again.Result.Position != first.Result.Position || !again.Ended.Equal(first.Ended) {
			t.Errorf("repeat: got %+v, want %+v", again, first)
		}
		a.end()
		b := h.run(t)
		if again := b.must(t, s); again.Result.Position != first.Result.Position || !again.Ended.Equal(first.Ended) {
			t.Errorf("repeat after a restart: got %+v, want %+v", again, first)
		}
		if got := h.db.Calls(ferryman.OpFence); got != calls {
			t.Errorf("fences: got %d, want %d", got, calls)
		}
		if i := slices.IndexFunc(b.Status().Outcomes, func(o ferryman.Outcome) bool { return o.Step == id }); i < 0 {
			t.Error("the outcome is missing in the status after a restart")
		}
	})
}

func TestOneStepAService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		id := a.follower(t, 1)
		h.db.Takes(func(op ferryman.Op) time.Duration { return time.Minute })
		if _, err := a.Run(step(id, ferryman.OpDrain, ferryman.Args{})); err != nil {
			t.Fatal(err)
		}
		_, err := a.Run(step(id+1, ferryman.OpStop, ferryman.Args{}))
		if !errors.Is(err, ferryman.ErrConflict) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("step %d (drain)", id)) {
			t.Errorf("second step: got %v, want ErrConflict that names the first", err)
		}
		a.must(t, node(id+2, ferryman.OpStage, ferryman.Args{Engine: "fakedb", Version: "2.0", Release: release("a")}))
		if got := a.Status().Running; !slices.Equal(got, []uint64{id}) {
			t.Errorf("running: got %v, want the drain alone", got)
		}
		a.Cancel(id, "timed out")
		out := a.carry(t, step(id, ferryman.OpDrain, ferryman.Args{}))
		if out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, "the leader closed the step: timed out") {
			t.Errorf("cancelled: got %+v", out)
		}
		a.must(t, step(id+1, ferryman.OpStop, ferryman.Args{}))
	})
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		id := a.follower(t, 1)
		h.db.Takes(func(op ferryman.Op) time.Duration { return 24 * time.Hour })
		out := a.carry(t, step(id, ferryman.OpDrain, ferryman.Args{}))
		if out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, "its deadline passed") || out.Ended.Sub(out.Began) != 10*time.Minute {
			t.Errorf("got %+v after %s, want it failed at its deadline", out, out.Ended.Sub(out.Began))
		}
	})
}

func TestAUnitThatIsNotThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		d := h.deps()
		d.Services[0].Unit = "bd"
		a := run(t, d)
		if u := a.service(t).Unit; !strings.Contains(u.Missing, "no such unit") {
			t.Errorf("got %+v, want it missing", u)
		}
		h.units.Install("bd", h.db)
		time.Sleep(time.Minute)
		if u := a.service(t).Unit; u.Missing != "" {
			t.Errorf("installed: got %+v, want it there", u)
		}
	})
}

func TestStartOfAProcessThatDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.db.Faults(database.Faults{NoStart: "cannot read the catalogue"})
		a := h.run(t)
		out := a.carry(t, step(1, ferryman.OpStart, ferryman.Args{}))
		if out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, "cannot read the catalogue") || !strings.Contains(out.Reason, "exit-code") {
			t.Errorf("got %+v, want it failed with its log and result", out)
		}
		h.db.Faults(database.Faults{Hang: true})
		slow := step(2, ferryman.OpStart, ferryman.Args{})
		if out := a.carry(t, slow); out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, "does not answer") {
			t.Errorf("start of a process that hangs: got %+v", out)
		}
	})
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		a.must(t, step(10, ferryman.OpCheckpoint, ferryman.Args{}))
		if out := a.carry(t, step(11, ferryman.OpRewind, ferryman.Args{})); out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, ferryman.ErrUnsupported.Error()) {
			t.Errorf("rewind: got %+v, want it failed as not supported", out)
		}
		unknown := step(12, ferryman.OpStop, ferryman.Args{})
		unknown.Service = "other"
		if out := a.carry(t, unknown); out.Status != ferryman.StatusFailed {
			t.Errorf("a step on a service that is not here: got %+v, want it failed", out)
		}
		if _, err := a.Run(node(13, ferryman.OpVote, ferryman.Args{})); !errors.Is(err, ferryman.ErrInvalid) {
			t.Errorf("a step of the leader's: got %v, want ErrInvalid", err)
		}
	})
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		live := map[string]string{"k": "v"}
		a.must(t, step(10, ferryman.OpConfigure, ferryman.Args{Parameters: live}))
		if s := a.service(t); !maps.Equal(s.Selected.Parameters, live) || !maps.Equal(s.Launched.Parameters, live) {
			t.Errorf("in force at once: got %+v, %+v", s.Selected, s.Launched)
		}
		later := map[string]string{"k": "v", database.RestartParameter: "2"}
		a.must(t, step(11, ferryman.OpConfigure, ferryman.Args{Parameters: later}))
		if s := a.service(t); !maps.Equal(s.Selected.Parameters, later) || !maps.Equal(s.Launched.Parameters, live) {
			t.Errorf("in force after a restart: got %+v, %+v", s.Selected, s.Launched)
		}
	})
}

func TestShutdownLeavesTheRecordBegun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		op    ferryman.Op
		args  ferryman.Args
		want  ferryman.OutcomeStatus
		calls int // in all, with the one that was cut off
	}{
		{ferryman.OpFence, ferryman.Args{Epoch: 1}, ferryman.StatusDone, 2},
		{ferryman.OpClone, ferryman.Args{From: "p"}, ferryman.StatusFailed, 1},
		{ferryman.OpInitialise, ferryman.Args{}, ferryman.StatusDone, 1}, // there are data: that is how it came out
	}
	for _, test := range tests {
		t.Run(string(test.op), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				a := h.run(t)
				id := a.follower(t, 1)
				before := h.db.Calls(test.op)
				h.db.Takes(func(op ferryman.Op) time.Duration { return time.Minute })
				s := step(id, test.op, test.args)
				if _, err := a.Run(s); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				a.end()
				if _, err := a.Run(s); !errors.Is(err, ferryman.ErrUnavailable) {
					t.Errorf("run after the end: got %v, want ErrUnavailable", err)
				}
				b := h.run(t)
				if got := b.Status().Running; len(got) > 0 {
					t.Errorf("running before it is asked for again: got %v", got)
				}
				out := b.carry(t, s)
				if out.Status != test.want {
					t.Errorf("got %+v, want %s", out, test.want)
				}
				if got := h.db.Calls(test.op) - before; got != test.calls {
					t.Errorf("calls: got %d, want %d", got, test.calls)
				}
			})
		})
	}
}

// An agent dies at each write of its journal, before or after the new content is there. Whatever happens, the step ends once it is asked for again,
// what must not run twice does not, and an agent that was asked to end had recorded that before.
func TestCrashAtEachWrite(t *testing.T) {
	t.Parallel()
	steps := []ferryman.Step{
		step(10, ferryman.OpPromote, ferryman.Args{Epoch: 2}),
		step(10, ferryman.OpClone, ferryman.Args{From: "p"}),
		step(10, ferryman.OpStop, ferryman.Args{}),
		step(10, ferryman.OpSwitch, ferryman.Args{Version: "2.0", RestartGeneration: 3}),
		step(10, ferryman.OpStart, ferryman.Args{}),
		node(10, ferryman.OpExit, ferryman.Args{RestartGeneration: 4}),
		node(10, ferryman.OpDepart, ferryman.Args{}),
	}
	crashes := 0
	for _, s := range steps {
		for _, fault := range []disk.Fault{disk.Lost, disk.Kept} {
			for at := 1; at <= 3; at++ {
				t.Run(fmt.Sprintf("%s/%d/%d", s.Op, fault, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						if crashAt(t, s, fault, at) {
							crashes++
						}
					})
				})
			}
		}
	}
	if want := 2 * 2 * len(steps); crashes < want { // each step is begun and ended
		t.Errorf("crashes: got %d, want at least %d", crashes, want)
	}
}

func crashAt(t *testing.T, s ferryman.Step, fault disk.Fault, at int) (crashed bool) {
	h := newHost(t)
	a := h.run(t)
	a.follower(t, 1)
	a.must(t, node(5, ferryman.OpStage, ferryman.Args{Engine: "fakedb", Version: "2.0", Release: release("a")}))
	if s.Op == ferryman.OpStart {
		a.must(t, step(6, ferryman.OpStop, ferryman.Args{}))
	}
	clones := h.db.Calls(ferryman.OpClone)
	h.exits, h.recorded = nil, nil
	h.file.Fault(func(save int) disk.Fault {
		switch {
		case save < at:
			return disk.None
		case save == at:
			crashed = true
			return fault
		}
		return disk.Lost // the dead write nothing
	})
	if _, err := a.Run(s); err != nil && at > 1 {
		t.Fatalf("run: %v", err)
	}
	time.Sleep(time.Second)
	a.end()
	h.file.Fault(nil)

	b := h.run(t)
	if s.Op == ferryman.OpDepart && b.Departed() != "" {
		return crashed // it does not come up again
	}
	out := b.carry(t, s)
	synctest.Wait() // the exit follows the record
	if out.Status == ferryman.StatusRunning {
		t.Errorf("got %+v, want an end", out)
	}
	if out.Status == ferryman.StatusFailed && s.Op != ferryman.OpClone {
		t.Errorf("got %+v, want it done", out)
	}
	if got := h.db.Calls(ferryman.OpClone) - clones; got > 1 {
		t.Errorf("clones: got %d, want one at most", got)
	}
	switch s.Op {
	case ferryman.OpSwitch:
		if got := b.service(t).Selected.RestartGeneration; got != 3 {
			t.Errorf("selected generation: got %d, want 3", got)
		}
	case ferryman.OpStart:
		if st := b.service(t); !st.Instance.Running || h.units.Starts("db") != 2 {
			t.Errorf("started: got %+v after %d starts, want it running after the second", st, h.units.Starts("db"))
		}
	case ferryman.OpExit:
		if len(h.exits) > 1 || slices.Contains(h.recorded, false) {
			t.Errorf("exits: got %q, recorded before: %t; want one at most, and recorded", h.exits, h.recorded)
		}
		b.end()
		if got := h.run(t).RestartGeneration(); got != 4 {
			t.Errorf("the next agent's restart generation: got %d, want 4", got)
		}
	}
	return crashed
}

func TestLostJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		id := a.follower(t, 1)
		a.must(t, node(id, ferryman.OpStage, ferryman.Args{Engine: "fakedb", Version: "2.0", Release: release("a")}))
		a.must(t, step(id+1, ferryman.OpSwitch, ferryman.Args{Version: "2.0", RestartGeneration: 3}))
		a.end()
		h.file.Set([]byte(`{"format":1,"entries":[{"st`))
		clones := h.db.Calls(ferryman.OpClone)

		b := h.run(t)
		if got := h.file.Aside(); len(got) != 1 || !strings.HasSuffix(string(got[0]), `{"st`) {
			t.Errorf("set aside: got %q, want the old content", got)
		}
		if got := b.Status().Problems; len(got) != 1 || !strings.Contains(got[0], "aside 1") {
			t.Errorf("problems: got %q, want where the journal was set aside", got)
		}
		if s := b.service(t); s.Selected.Version != "2.0" || s.Selected.RestartGeneration != 0 {
			t.Errorf("selected: got %+v, want what is current in the store, and no generation", s.Selected)
		}
		b.end()

		c := h.run(t) // the doubt outlives agents
		if out := c.carry(t, step(id+2, ferryman.OpClone, ferryman.Args{From: "p"})); out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, "the journal was lost") {
			t.Errorf("an unsafe step of unknown fate: got %+v, want it failed", out)
		}
		if got := h.db.Calls(ferryman.OpClone); got != clones {
			t.Errorf("clones: got %d, want none since the loss", got-clones)
		}
		c.must(t, step(id+3, ferryman.OpClone, ferryman.Args{From: "p"}))
	})
}

func TestJournalOfANewerAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.file.Set([]byte(`{"format":2}`))
		if _, err := runner.New(h.deps()); err == nil || !strings.Contains(err.Error(), "format 2") {
			t.Errorf("got %v, want a refusal that names the format", err)
		}
	})
}

func TestNothingBeginsWithoutAJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		h.file.Fault(func(int) disk.Fault { return disk.Lost })
		clone := step(10, ferryman.OpClone, ferryman.Args{From: "p"})
		if _, err := a.Run(clone); err == nil {
			t.Fatal("a step began that could not be recorded")
		}
		if got := a.Status().Problems; len(got) != 1 || !strings.Contains(got[0], "no space left") {
			t.Errorf("problems: got %q, want the disk's", got)
		}
		h.file.Fault(nil)
		a.must(t, clone) // it was not begun before, so there is no doubt about it
		if got := a.Status().Problems; len(got) != 0 {
			t.Errorf("problems after it can be written again: got %q", got)
		}
	})
}

func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		for id := range uint64(300) {
			a.must(t, step(id+1, ferryman.OpSwitch, ferryman.Args{RestartGeneration: id}))
		}
		raw, err := h.file.Load()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(raw), `"attempt"`); got > 257 {
			t.Errorf("entries: got %d, want no more than 256 and the open one", got)
		}
		out := a.Status().Outcomes
		if len(out) != 64 || out[63].Step != 300 {
			t.Errorf("outcomes: got %d ending with step %d, want the newest 64", len(out), out[len(out)-1].Step)
		}
	})
}

func TestExitAndDepart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		h.exits, h.recorded = nil, nil
		a.must(t, node(10, ferryman.OpExit, ferryman.Args{RestartGeneration: 2}))
		synctest.Wait()
		if len(h.exits) != 1 || !strings.Contains(h.exits[0], "step 10") {
			t.Errorf("exit: got %q, want one that names the step", h.exits)
		}
		if got := a.RestartGeneration(); got != 0 {
			t.Errorf("generation of the process that ends: got %d, want its own, 0", got)
		}
		a.end()
		b := h.run(t)
		if got := b.RestartGeneration(); got != 2 {
			t.Errorf("generation of the next: got %d, want 2", got)
		}
		b.must(t, node(10, ferryman.OpExit, ferryman.Args{RestartGeneration: 2}))
		synctest.Wait()
		if len(h.exits) != 1 {
			t.Errorf("a repeated exit: got %q, want no second one", h.exits)
		}
		b.must(t, node(13, ferryman.OpExit, ferryman.Args{RestartGeneration: 2}))
		synctest.Wait()
		if len(h.exits) != 1 {
			t.Errorf("another exit to the generation that it came up under: got %q, want none", h.exits)
		}
		b.must(t, node(11, ferryman.OpDepart, ferryman.Args{}))
		synctest.Wait()
		if st, _ := h.units.Status(t.Context(), "db"); st.Active || b.Departed() == "" || len(h.exits) != 2 {
			t.Errorf("departed: got active %t, mark %q, exits %q", st.Active, b.Departed(), h.exits)
		}
		if _, err := b.Run(step(12, ferryman.OpStart, ferryman.Args{})); !errors.Is(err, ferryman.ErrConflict) {
			t.Errorf("a step after the departure: got %v, want ErrConflict", err)
		}
		b.end()
		if h.run(t).Departed() == "" {
			t.Error("the departure was forgotten")
		}
	})
}

func TestWitness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		d := h.deps()
		d.Services, d.Units = nil, nil
		a := run(t, d)
		to := ferryman.Args{Engine: ferryman.AgentEngine, Version: "0.2.0", RestartGeneration: 1, Release: release("b"), Keep: 1}
		a.must(t, node(1, ferryman.OpStage, to))
		a.must(t, node(2, ferryman.OpSwitch, to))
		if got := a.Status().Selected; !slices.Equal(got, []string{"ferryman/0.2.0"}) {
			t.Errorf("selected: got %q", got)
		}
		a.must(t, node(3, ferryman.OpExit, to))
		if out := a.carry(t, node(4, ferryman.OpSwitch, ferryman.Args{Engine: ferryman.AgentEngine, Version: "0.3.0"})); out.Status != ferryman.StatusFailed {
			t.Errorf("switch to what is not staged: got %+v, want it failed", out)
		}
	})
}

// TestTrial: a release of the agent is on trial until the cluster's state says
// that it has arrived, and then that it is the one of all.
func TestTrial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		to := ferryman.Args{Engine: ferryman.AgentEngine, Version: "0.2.0", RestartGeneration: 1, Release: release("b"), Keep: 1}
		a.must(t, node(1, ferryman.OpStage, to))
		a.must(t, node(7, ferryman.OpSwitch, to))
		a.must(t, node(8, ferryman.OpExit, to))
		a.end()

		d := h.deps()
		d.Release = release("b").Digest()
		b := run(t, d)
		passage := map[ferryman.NodeID]ferryman.Passage{"me": {Part: ferryman.PartAgents}}
		part := func(status ferryman.PartStatus) map[ferryman.Part]ferryman.PartProgress {
			return map[ferryman.Part]ferryman.PartProgress{ferryman.PartAgents: {Status: status}}
		}
		complete := func(version string) map[ferryman.Part]ferryman.Known {
			return map[ferryman.Part]ferryman.Known{ferryman.PartAgents: {Target: ferryman.Target{Version: version}}}
		}
		for _, tt := range []struct {
			name          string
			state         ferryman.State
			open, arrived bool
		}{
			{"a state of before the switch", ferryman.State{LastStep: 6, Rollout: &ferryman.Rollout{Parts: part(ferryman.PartComplete)}, Complete: complete("0.2.0")}, true, false},
			{"while it is carried", ferryman.State{LastStep: 9, Rollout: &ferryman.Rollout{Passages: passage, Parts: part(ferryman.PartOpen)}}, true, false},
			{"it was carried", ferryman.State{LastStep: 9, Rollout: &ferryman.Rollout{Parts: part(ferryman.PartOpen)}}, true, true},
			{"another is that of all", ferryman.State{LastStep: 9, Rollout: &ferryman.Rollout{Parts: part(ferryman.PartReverted)}, Complete: complete("0.1.0")}, true, true},
			{"it is that of all", ferryman.State{LastStep: 9, Rollout: &ferryman.Rollout{Parts: part(ferryman.PartComplete)}, Complete: complete("0.2.0")}, false, false},
		} {
			if err := b.Prove("me", tt.state); err != nil {
				t.Fatal(err)
			}
			if trial, err := h.store.Trial(ferryman.AgentEngine); err != nil || trial.Open() != tt.open || trial.Arrived != tt.arrived {
				t.Errorf("%s: the trial is %+v, %v; want open %t, arrived %t", tt.name, trial, err, tt.open, tt.arrived)
			}
		}
		if got := b.Status(); got.Release != d.Release || got.PutBack != nil {
			t.Errorf("it shows release %q, put back %v", got.Release, got.PutBack)
		}

		// What does not hold is told, and what all have is installed again.
		back := ferryman.Args{Engine: ferryman.AgentEngine, RestartGeneration: 1}
		b.must(t, node(10, ferryman.OpSwitch, back))
		h.store.PutBack(ferryman.AgentEngine, "it ended 2 times")
		b.must(t, node(11, ferryman.OpStage, to))
		if got := b.Status().PutBack; got == nil || got.Version != "" || got.Digest != "" || got.Reason != "it ended 2 times" {
			t.Errorf("put back: got %+v", got)
		}
		synctest.Wait()
		exits := len(h.exits)
		b.must(t, node(12, ferryman.OpExit, back))
		synctest.Wait()
		if len(h.exits) != exits+1 {
			t.Error("an agent that runs another release than the next start would did not end")
		}
	})
}

func TestStatusWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		time.Sleep(time.Minute)
		before := a.Status()
		changed := a.Changed(before.Seq)
		if err := h.cluster.Write("p", "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		after := a.Status()
		if after.Seq != before.Seq {
			t.Errorf("a position alone moved Seq from %d to %d: %+v, then %+v", before.Seq, after.Seq, before, after)
		}
		if was, is := before.Services[0].Instance.Position, after.Services[0].Instance.Position; is != was+1 {
			t.Errorf("position: got %d, want %d", is, was+1)
		}
		began := time.Now()
		h.units.Exit("db", 7)
		<-changed
		if s := a.service(t); s.Unit.Active || s.Instance.Running || s.Unit.Result != "exit-code" {
			t.Errorf("after the process ended: got %+v", s)
		}
		if got := time.Since(began); got != 0 {
			t.Errorf("the end of the process was noticed after %s, by a poll and not by the unit", got)
		}
		select {
		case <-a.Changed(before.Seq):
		default:
			t.Error("a caller with an old Seq waits")
		}
	})
}

func TestHungDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		h.db.Faults(database.Faults{Hang: true})
		time.Sleep(5 * time.Second)
		s := a.service(t)
		if !s.Unit.Active || s.Instance.Running || s.Instance.Healthy || s.Instance.Streaming || !strings.Contains(s.Instance.Reason, "does not answer") {
			t.Errorf("hung: got %+v, want an active unit whose database does not answer", s)
		}
		if !s.Instance.Initialised || s.Instance.History == "" {
			t.Errorf("hung: got %+v, want its data remembered", s.Instance)
		}
		h.db.Faults(database.Faults{})
		time.Sleep(5 * time.Second)
		if s := a.service(t); !s.Instance.Running || !s.Instance.Healthy {
			t.Errorf("after it answers again: got %+v", s.Instance)
		}
	})
}

func TestVerifyWaitsForHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		h.db.Faults(database.Faults{Unhealthy: "rebuilding an index"})
		s := step(10, ferryman.OpVerify, ferryman.Args{})
		if _, err := a.Run(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := a.Status().Running; !slices.Equal(got, []uint64{10}) {
			t.Errorf("running: got %v, want the verification", got)
		}
		h.db.Faults(database.Faults{})
		a.must(t, s)
		h.db.Faults(database.Faults{Unhealthy: "rebuilding an index"})
		if out := a.carry(t, step(11, ferryman.OpVerify, ferryman.Args{})); out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, "rebuilding an index") {
			t.Errorf("verify of what does not get healthy: got %+v", out)
		}
	})
}

func TestStartedBehindOurBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		a.follower(t, 1)
		a.must(t, step(10, ferryman.OpSwitch, ferryman.Args{RestartGeneration: 2}))
		if s := a.service(t); s.Launched.RestartGeneration != 0 {
			t.Errorf("launched before a restart: got %+v", s.Launched)
		}
		if err := h.units.Restart(t.Context(), systemd.Unit{Name: "db", Exec: []string{"fakedb", "1.0"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := a.service(t); s.Launched.RestartGeneration != 2 {
			t.Errorf("launched by somebody else: got %+v, want what was selected", s.Launched)
		}
	})
}
