package upgrade_test

import (
	"fmt"
	"testing"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// say writes down what a passage does next.
func say(n upgrade.Next) string {
	switch {
	case n.Done:
		return "done"
	case n.Switchover:
		return "switchover"
	case n.Wait != "":
		return "wait: " + n.Wait
	}
	text := string(n.Op)
	if n.Node != "" {
		text += " " + string(n.Node)
	}
	if a := n.Args; a.From != "" {
		text += fmt.Sprintf(" %s epoch %d", a.From, a.Epoch)
	}
	if n.Args.History != "" {
		text += fmt.Sprintf(" %s:%d", n.Args.History, n.Args.Position)
	}
	if n.Args.To != "" {
		text += " " + string(n.Args.To)
	}
	return text
}

// TestDatabasePassage goes through a passage op by op: the next is the first
// that is not yet true in the world.
func TestDatabasePassage(t *testing.T) {
	t.Parallel()
	goal := ferryman.Target{Version: "2"}
	can := func(ops ...ferryman.Op) func(*upgrade.Node) {
		return on(func(s *ferryman.ServiceStatus) { s.Traits.Ops = append(s.Traits.Ops, ops...) })
	}
	in := func(change func(*ferryman.Instance)) func(*upgrade.Node) {
		return on(func(s *ferryman.ServiceStatus) { change(&s.Instance) })
	}
	selected := on(func(s *ferryman.ServiceStatus) { s.Selected = goal })
	drained := in(func(i *ferryman.Instance) { i.Drained = true })
	params := ferryman.Target{Version: "1", Parameters: map[string]string{"a": "b"}}
	launched := func(tg ferryman.Target) func(*upgrade.Node) {
		return on(func(s *ferryman.ServiceStatus) { s.Launched = tg })
	}
	type steps []ferryman.Step // what was tried in the passage, in order
	did := func(op ferryman.Op, r ferryman.Result) ferryman.Step {
		return ferryman.Step{Op: op, Outcome: &ferryman.Outcome{Status: ferryman.StatusDone, Result: r}}
	}
	failed := func(op ferryman.Op) ferryman.Step {
		return ferryman.Step{Op: op, Outcome: &ferryman.Outcome{Status: ferryman.StatusFailed}}
	}
	verified := steps{did(ferryman.OpVerify, ferryman.Result{})}
	for _, tt := range []struct {
		name  string
		node  upgrade.Node
		goal  ferryman.Target
		tried steps
		facts func(*upgrade.Facts)
		want  string
	}{
		{"it stops", replica("n2"), goal, nil, nil, "stop"},
		{"drained where the engine can", replica("n2", can(ferryman.OpDrain)), goal, nil, nil, "drain"},
		{"once", replica("n2", can(ferryman.OpDrain), drained), goal, nil, nil, "stop"},
		{"after a checkpoint where the engine can", replica("n2", can(ferryman.OpCheckpoint)), goal, nil, nil, "checkpoint"},
		{"once", replica("n2", can(ferryman.OpCheckpoint)), goal, steps{did(ferryman.OpCheckpoint, ferryman.Result{})}, nil, "stop"},
		{"again if that failed", replica("n2", can(ferryman.OpCheckpoint)), goal, steps{failed(ferryman.OpCheckpoint)}, nil, "checkpoint"},
		{"not while the engine says no", replica("n2", in(func(i *ferryman.Instance) { i.Blockers = []string{"a backup runs"} })), goal, nil, nil, "wait: n2 must not be stopped now: a backup runs"},
		{"what does not answer is stopped without more", replica("n2", can(ferryman.OpDrain, ferryman.OpCheckpoint), in(func(i *ferryman.Instance) { *i = ferryman.Instance{} })), goal, nil, nil, "stop"},
		{"the primary hands over first", replica("n1", primary), goal, nil, func(f *upgrade.Facts) { f.CanSwitchOver = true }, "switchover"},
		{"if there is another", replica("n1", primary), goal, nil, nil, "stop"},
		{"then it is switched", replica("n2", stopped), goal, nil, nil, "switch"},
		{"then it starts", replica("n2", selected, stopped), goal, nil, nil, "start"},
		{"started, and not up yet", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Running = false })), goal, nil, nil, "start"},
		{"what was switched and still runs the old is stopped", replica("n2", selected), goal, nil, nil, "stop"},
		{"then it follows", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Following = "" })), goal, nil, nil, "follow n1:5000 epoch 3"},
		{"under the epoch", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Epoch = 2 })), goal, nil, nil, "follow n1:5000 epoch 3"},
		{"it clones if it has nothing", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Initialised = false })), goal, nil, nil, "clone n1:5000 epoch 3"},
		{"it clones if it diverged", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Diverged = true })), goal, nil, nil, "clone n1:5000 epoch 3"},
		{"or rewinds where the engine can", replica("n2", runs("2"), can(ferryman.OpRewind), in(func(i *ferryman.Instance) { i.Diverged = true })), goal, nil, nil, "rewind n1:5000 epoch 3"},
		{"unless that failed", replica("n2", runs("2"), can(ferryman.OpRewind), in(func(i *ferryman.Instance) { i.Diverged = true })), goal, steps{failed(ferryman.OpRewind)}, nil, "clone n1:5000 epoch 3"},
		{"it waits for a primary of the goal that is not writable yet", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Epoch = 2 })), goal, nil,
			func(f *upgrade.Facts) {
				p := replica("n1", primary, runs("2"), in(func(i *ferryman.Instance) { i.Writable = false }))
				f.PrimaryService = p.View.Status.Services[0]
			}, "wait: the primary does not accept writes yet, so that n2 cannot follow it"},
		{"not for one that is still to be carried", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Epoch, i.Streaming = 2, false })), goal, nil,
			func(f *upgrade.Facts) { f.PrimaryService.Instance = ferryman.Instance{} }, "verify"},
		{"it catches up", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Streaming = false })), goal, nil, nil, "wait: n2 is catching up with the primary"},
		{"then it is verified: version and position", replica("n2", runs("2")), goal, nil, nil, "verify h:70"},
		{"again if that failed", replica("n2", runs("2")), goal, steps{failed(ferryman.OpVerify)}, nil, "verify h:70"},
		{"again if it was started since", replica("n2", runs("2")), goal, steps{did(ferryman.OpVerify, ferryman.Result{}), did(ferryman.OpStart, ferryman.Result{})}, nil, "verify h:70"},
		{"then clients come back", replica("n2", runs("2"), can(ferryman.OpUndrain), drained), goal, verified, nil, "undrain"},
		{"then it is done", replica("n2", runs("2")), goal, verified, nil, "done"},
		{"a primary alone waits for its writes", replica("n1", primary, runs("2"), in(func(i *ferryman.Instance) { i.Writable = false })), goal, nil, nil, "wait: n1 is the primary and does not accept writes yet"},
		{"a primary alone is verified", replica("n1", primary, runs("2")), goal, nil, nil, "verify"},
		{"an engine without a primary follows nobody", replica("n2", runs("2"), in(func(i *ferryman.Instance) { i.Following, i.Streaming = "", false })), goal, verified,
			func(f *upgrade.Facts) { f.Primary = ferryman.Primary{} }, "done"},
		{"a service that is not reported", replica("n2", func(n *upgrade.Node) { n.View.Status.Services = nil }), goal, nil, nil, "wait: n2 does not report db"},
		{"a witness has nothing to carry", replica("w", witness), goal, nil, nil, "done"},

		{"parameters are taken while it runs", replica("n2"), params, nil, nil, "configure"},
		{"again if that did not take", replica("n2"), params, steps{did(ferryman.OpConfigure, ferryman.Result{})}, nil, "configure"},
		{"with a restart if that is needed", replica("n2"), params, steps{did(ferryman.OpConfigure, ferryman.Result{RestartNeeded: true})}, nil, "stop"},
		{"on a primary after a switchover", replica("n1", primary), params, steps{did(ferryman.OpConfigure, ferryman.Result{RestartNeeded: true})}, func(f *upgrade.Facts) { f.CanSwitchOver = true }, "switchover"},
		{"parameters of what is down come with the start", replica("n2", stopped), params, nil, nil, "switch"},
		{"a restart stops as well", replica("n2"), ferryman.Target{Version: "1", RestartGeneration: 1}, nil, nil, "stop"},
		{"a restart is seen in what was launched", replica("n2", launched(ferryman.Target{Version: "0"})), ferryman.Target{Version: "1"}, nil, nil, "stop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := replica("n1", primary)
			f := upgrade.Facts{Goal: ferryman.Known{Target: tt.goal}, Engine: "demodb", Primary: ferryman.Primary{Node: "n1", Slot: "db", Epoch: 3}, PrimaryService: p.View.Status.Services[0],
				Ended: func(_ string, op ferryman.Op) *ferryman.Step {
					for i := len(tt.tried) - 1; i >= 0; i-- {
						if tt.tried[i].Op == op {
							st := tt.tried[i]
							st.ID = uint64(i + 1)
							return &st
						}
					}
					return nil
				}}
			if tt.facts != nil {
				tt.facts(&f)
			}
			if got := say(upgrade.Database(tt.node, ferryman.Passage{}, f)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestAgentPassage goes through the restart of an agent, with its vote.
func TestAgentPassage(t *testing.T) {
	t.Parallel()
	restarted := func(n *upgrade.Node) { n.View.Status.Agent.RestartGeneration = 1 }
	two := func() []upgrade.Node { return []upgrade.Node{replica("n2"), replica("n3")} }
	four := func() []upgrade.Node { return append(two(), replica("n4"), replica("n5")) }
	spare := replica("n4", nonvoter)
	restart := ferryman.Target{RestartGeneration: 1}
	version := ferryman.Target{Version: "0.2"}
	selected := func(n *upgrade.Node) { n.View.Status.Selected = []string{"ferryman/0.2"} }
	upgraded := func(n *upgrade.Node) { n.View.Status.Agent.Version = "0.2" }
	for _, tt := range []struct {
		name   string
		node   upgrade.Node
		others []upgrade.Node
		goal   ferryman.Target
		always bool
		want   string
	}{
		{"of one", replica("n1", leader), nil, restart, false, "exit"},
		{"of one with a nonvoter", replica("n1", leader), []upgrade.Node{spare}, restart, false, "exit"},
		{"of two", replica("n1"), []upgrade.Node{replica("n2", leader)}, restart, false, "exit"},
		{"of three", replica("n1"), two(), restart, false, "exit"},
		{"of three, if it is wished so", replica("n1"), two(), restart, true, "demote"},
		{"of three and a spare", replica("n1"), append(two(), spare), restart, false, "vote n4"},
		{"of three and a spare that is behind", replica("n1"), append(two(), replica("n4", nonvoter, behind)), restart, false, "exit"},
		{"of three and a spare that leaves", replica("n1"), append(two(), replica("n4", nonvoter, leaving)), restart, false, "exit"},
		{"of four", replica("n1"), append(two(), replica("n4")), restart, false, "demote"},
		{"of five", replica("n1"), four(), restart, false, "demote"},
		{"a nonvoter", replica("n1", nonvoter), four(), restart, false, "exit"},

		{"the leader hands over to a voter", replica("n1", leader), two(), restart, false, "transfer n2"},
		{"not to the primary's node", replica("n1", leader), []upgrade.Node{replica("n2", primary), replica("n3")}, restart, false, "transfer n3"},
		{"unless there is no other", replica("n1", leader), []upgrade.Node{replica("n2", primary), replica("n3", behind)}, restart, false, "transfer n2"},
		{"not to a nonvoter", replica("n1", leader), []upgrade.Node{spare, replica("n5")}, restart, false, "transfer n5"},
		{"nor to one that leaves", replica("n1", leader), []upgrade.Node{replica("n2", leaving), replica("n3")}, restart, false, "transfer n3"},
		{"it waits for one that has caught up", replica("n1", leader), []upgrade.Node{replica("n2", behind), replica("n3", silent)}, restart, false,
			"wait: no other voter has caught up to take Raft's leadership from n1"},

		{"a version is switched first", replica("n1"), two(), version, false, "switch"},
		{"then the agent ends", replica("n1", selected), two(), version, false, "exit"},
		{"then it has to come back", replica("n1", upgraded, silent), two(), version, false, "wait: n1 has come back and is catching up with the Raft log"},
		{"and to catch up", replica("n1", upgraded, behind), two(), version, false, "wait: n1 has come back and is catching up with the Raft log"},
		{"then it is done", replica("n1", upgraded), two(), version, false, "done"},
		{"a spare has its seat", replica("n1", restarted, nonvoter), append(two(), replica("n4")), restart, false, "done"},
		{"its vote comes back in a group of four", replica("n1", restarted, nonvoter), four(), restart, false, "vote"},
		{"and in a group of two", replica("n1", restarted, nonvoter), two(), restart, false, "vote"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := upgrade.Facts{Goal: ferryman.Known{Target: tt.goal}}
			all := append([]upgrade.Node{tt.node}, tt.others...)
			if got := say(upgrade.Agent(tt.node, ferryman.Passage{Voter: true}, f, all, tt.always)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// An agent whose exit was done still answers for a moment, as what it was. It is
// not asked again before another process of it has answered.
func TestAnAgentThatEndsIsNotAskedToEndAgain(t *testing.T) {
	t.Parallel()
	done := &ferryman.Step{ID: 1, Op: ferryman.OpExit, Outcome: &ferryman.Outcome{Status: ferryman.StatusDone}}
	for _, tt := range []struct {
		name string
		exit *ferryman.Step
		boot string
		want string
	}{
		{"it was not asked yet", nil, "b1", "exit"},
		{"its exit was done", done, "b1", "wait: n1 ends its agent, which has not come back yet"},
		{"it came back as what it was", done, "b2", "exit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := replica("n1")
			n.View.Status.BootID = tt.boot
			f := upgrade.Facts{Goal: ferryman.Known{Target: ferryman.Target{RestartGeneration: 1}}, Ended: func(string, ferryman.Op) *ferryman.Step { return tt.exit }}
			if got := say(upgrade.Agent(n, ferryman.Passage{BootID: "b1", Voter: true}, f, []upgrade.Node{n, replica("n2"), replica("n3")}, false)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// The agent of a primary whose lease is in force ends only under one that
// outlasts its restart.
func TestAPrimarysAgentTakesALongerLeaseFirst(t *testing.T) {
	t.Parallel()
	const second = ferryman.Duration(time.Second)
	holds := func(epoch uint64, length ferryman.Duration) func(*upgrade.Node) {
		return func(n *upgrade.Node) { n.View.Status.Lease = &ferryman.LeaseStatus{Epoch: epoch, Length: length} }
	}
	force := &ferryman.Lease{Length: 30 * second, Longest: 30 * second, Enforced: true}
	offer := &ferryman.Lease{Length: 30 * second, Longest: 30 * second}
	restart := ferryman.Target{RestartGeneration: 1}
	back := func(n *upgrade.Node) { n.View.Status.Agent.RestartGeneration = 1 }
	wait := "wait: n1 takes a lease of 30s before its agent restarts"
	for _, tt := range []struct {
		name   string
		node   upgrade.Node
		lease  *ferryman.Lease
		goal   ferryman.Target
		always bool
		want   string
	}{
		{"it holds none", replica("n1", primary), force, restart, false, wait},
		{"it holds the usual one", replica("n1", primary, holds(3, 5*second)), force, restart, false, wait},
		{"it holds that of another epoch", replica("n1", primary, holds(2, 30*second)), force, restart, false, wait},
		{"it holds a longer one", replica("n1", primary, holds(3, 30*second)), force, restart, false, "exit"},
		{"or one that is longer still", replica("n1", primary, holds(3, 60*second)), force, restart, false, "exit"},
		{"before its version is switched, too", replica("n1", primary, holds(3, 5*second)), force, ferryman.Target{Version: "0.2"}, false, wait},
		{"then it is switched", replica("n1", primary, holds(3, 30*second)), force, ferryman.Target{Version: "0.2"}, false, "switch"},
		{"its vote and leadership go before", replica("n1", primary), force, restart, true, "demote"},
		{"the leader hands over before", replica("n1", primary, leader), force, restart, false, "transfer n2"},
		{"a lease that is not in force is not waited for", replica("n1", primary), offer, restart, false, "exit"},
		{"nor one that there is not", replica("n1", primary), nil, restart, false, "exit"},
		{"a replica needs none", replica("n1"), force, restart, false, "exit"},
		{"when it has come back it takes its lease", replica("n1", primary, back), force, restart, false, "wait: n1 has come back and does not hold the primary's lease yet"},
		{"not that of another epoch", replica("n1", primary, back, holds(2, 30*second)), force, restart, false, "wait: n1 has come back and does not hold the primary's lease yet"},
		{"and is done with that", replica("n1", primary, back, holds(3, 30*second)), force, restart, false, "done"},
		{"or if there is none to take", replica("n1", primary, back), offer, restart, false, "done"},
		{"or if it is no primary", replica("n1", back), force, restart, false, "done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := upgrade.Facts{Goal: ferryman.Known{Target: tt.goal}, Primary: ferryman.Primary{Node: "n1", Slot: "db", Epoch: 3, Lease: tt.lease}}
			all := []upgrade.Node{tt.node, replica("n2"), replica("n3")}
			if got := say(upgrade.Agent(tt.node, ferryman.Passage{Voter: true}, f, all, tt.always)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("while it is replaced nobody grants it", func(t *testing.T) {
		t.Parallel()
		n := replica("n1", primary, back)
		f := upgrade.Facts{Goal: ferryman.Known{Target: restart}, Primary: ferryman.Primary{Node: "n1", Slot: "db", Epoch: 3, Lease: force}, FailingOver: true}
		if got := say(upgrade.Agent(n, ferryman.Passage{Voter: true}, f, []upgrade.Node{n, replica("n2"), replica("n3")}, false)); got != "done" {
			t.Errorf("got %s, want done", got)
		}
	})
}
