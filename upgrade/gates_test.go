package upgrade_test

import (
	"testing"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

func TestGates(t *testing.T) {
	t.Parallel()
	one := 1
	state := func(change func(*ferryman.Policy)) ferryman.State {
		p := ferryman.Policy{Canary: &one, Bake: ferryman.Duration(time.Minute)}
		change(&p)
		return ferryman.State{Accepted: &ferryman.Accepted{Document: ferryman.Document{Rollout: p}}}
	}
	plain := func(*ferryman.Policy) {}
	windows := func(w ...ferryman.Window) func(*ferryman.Policy) {
		return func(p *ferryman.Policy) { p.Windows = w }
	}
	night := ferryman.Window{Start: 2 * time.Hour, End: 5 * time.Hour}
	noon := ferryman.Window{Start: 11 * time.Hour, End: 13 * time.Hour}
	sunday := ferryman.Window{Days: []time.Weekday{time.Sunday}, Start: 11 * time.Hour, End: 13 * time.Hour}
	paused := state(plain)
	paused.Paused = &ferryman.Hold{By: "anna"}
	document := state(plain)
	document.Accepted.Document.Paused = true
	canary := func(ago time.Duration) ferryman.PartProgress {
		return ferryman.PartProgress{Status: ferryman.PartOpen, Carried: []ferryman.Carried{{Node: "n2", Ended: t0.Add(-ago)}}}
	}
	back := canary(0)
	back.Status = ferryman.PartReverting
	told := canary(0)
	told.Continue = true
	healthy := func(d time.Duration) func(*upgrade.Node) {
		return func(n *upgrade.Node) { n.View.HealthySince = t0.Add(-d) }
	}
	for _, tt := range []struct {
		name string
		s    ferryman.State
		pp   ferryman.PartProgress
		node upgrade.Node
		want string
	}{
		{"nothing was carried", state(plain), ferryman.PartProgress{}, replica("n2"), ""},
		{"paused by a person", paused, ferryman.PartProgress{}, replica("n2"), "paused"},
		{"paused by the document", document, ferryman.PartProgress{}, replica("n2"), "paused"},
		{"a way back, paused by a person", paused, back, replica("n2"), "paused"},
		{"outside of the window", state(windows(night)), ferryman.PartProgress{}, replica("n2"), "window"},
		{"on another day", state(windows(sunday)), ferryman.PartProgress{}, replica("n2"), "window"},
		{"inside of one of two", state(windows(night, noon)), ferryman.PartProgress{}, replica("n2"), ""},
		{"a way back outside of the window", state(windows(night)), back, replica("n2"), ""},
		{"the canary bakes", state(plain), canary(59 * time.Second), replica("n2"), "bake"},
		{"it has", state(plain), canary(time.Minute), replica("n2"), ""},
		{"it has, and is not healthy", state(plain), canary(time.Minute), replica("n2", stopped), "bake"},
		{"it has, and was not healthy for all of it", state(plain), canary(time.Minute), replica("n2", healthy(time.Second)), "bake"},
		{"it has gone since", state(plain), canary(time.Minute), replica("n3"), ""},
		{"a person says continue", state(plain), told, replica("n2", stopped), ""},
		{"without a canary", state(func(p *ferryman.Policy) { zero := 0; p.Canary = &zero }), canary(0), replica("n2"), ""},
		{"without a bake", state(func(p *ferryman.Policy) { p.Bake = 0 }), canary(0), replica("n2"), ""},
		{"two canaries, one carried", state(func(p *ferryman.Policy) { two := 2; p.Canary = &two }), canary(0), replica("n2"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if g := upgrade.Gates(tt.s, database, tt.pp, []upgrade.Node{tt.node}, t0); g.Code != tt.want {
				t.Errorf("got %q (%s), want %q", g.Code, g.Reason, tt.want)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	absent := func(n *upgrade.Node) { n.Member.Want, n.Down = ferryman.WantMaintenance, "in maintenance" }
	for _, tt := range []struct {
		name  string
		max   int
		part  ferryman.Part
		nodes []upgrade.Node
		open  []ferryman.NodeID
		want  bool
	}{
		{"all are up", 1, database, []upgrade.Node{replica("n1"), replica("n2")}, nil, true},
		{"one is down", 1, database, []upgrade.Node{replica("n1", stopped), replica("n2")}, nil, false},
		{"one is down and two may be", 2, database, []upgrade.Node{replica("n1", stopped), replica("n2")}, nil, true},
		{"the node itself is down", 1, database, []upgrade.Node{replica("n1"), replica("n2", stopped)}, nil, true},
		{"both are down", 1, database, []upgrade.Node{replica("n1", stopped), replica("n2", stopped)}, nil, true},
		{"both are down and one is carried", 1, database, []upgrade.Node{replica("n1", stopped), replica("n2", stopped)}, []ferryman.NodeID{"n1"}, false},
		{"one is carried", 1, database, []upgrade.Node{replica("n1"), replica("n2")}, []ferryman.NodeID{"n1"}, false},
		{"one is in maintenance", 1, database, []upgrade.Node{replica("n1", absent), replica("n2")}, nil, false},
		{"agents beside a broken database", 1, agents, []upgrade.Node{replica("n1", stopped), replica("n2")}, nil, true},
		{"agents beside one that does not answer", 1, agents, []upgrade.Node{replica("n1", silent), replica("n2")}, nil, false},
		{"agents beside one in maintenance", 1, agents, []upgrade.Node{replica("n1", absent), replica("n2")}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			open := map[ferryman.NodeID]ferryman.Passage{}
			for _, id := range tt.open {
				open[id] = ferryman.Passage{}
			}
			if g := upgrade.Budget(tt.max, tt.part, tt.nodes, open, "n2"); g.Open() != tt.want {
				t.Errorf("got %q (%s), want open %v", g.Code, g.Reason, tt.want)
			}
		})
	}
}

func TestQuorum(t *testing.T) {
	t.Parallel()
	group := func(changes ...func(*upgrade.Node)) (out []upgrade.Node) {
		for i, change := range changes {
			out = append(out, replica(string(rune('a'+i)), change))
		}
		return out
	}
	up := func(*upgrade.Node) {}
	for _, tt := range []struct {
		name              string
		nodes             []upgrade.Node // the question is about a
		restart, loseVote bool
	}{
		{"one", group(up), true, true},
		{"two", group(up, up), false, true},
		{"two, one silent", group(up, silent), false, true},
		{"three", group(up, up, up), true, true},
		{"three, one silent", group(up, up, silent), false, false},
		{"three, itself silent", group(silent, up, up), true, true},
		{"four", group(up, up, up, up), true, true},
		{"four, one silent", group(up, up, up, silent), false, true},
		{"five, one silent", group(up, up, up, up, silent), true, true},
		{"five, two silent", group(up, up, up, silent, silent), false, false},
		{"nonvoters do not count", group(up, up, up, nonvoter, nonvoter), true, true},
		{"a nonvoter beside a broken group", group(nonvoter, up, silent, silent), false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if g := upgrade.Quorum(tt.nodes, "a"); g.Open() != tt.restart {
				t.Errorf("may restart: got %v (%s), want %v", g.Open(), g.Reason, tt.restart)
			}
			if g := upgrade.WithoutVote(tt.nodes, "a"); g.Open() != tt.loseVote {
				t.Errorf("may lose its vote: got %v (%s), want %v", g.Open(), g.Reason, tt.loseVote)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	goal := ferryman.Target{Version: "2"}
	newcomer := runs("")
	back := map[ferryman.Part]ferryman.Target{database: {Version: "1"}, agents: {Version: "0.1"}}
	agent := func(version string) func(*upgrade.Node) {
		return func(n *upgrade.Node) { n.View.Status.Agent.Version = version }
	}
	for _, tt := range []struct {
		name  string
		part  ferryman.Part
		goal  ferryman.Target
		nodes []upgrade.Node // the question is about n1
		want  bool
	}{
		{"one", database, goal, []upgrade.Node{replica("n1"), replica("n2")}, true},
		{"both sides", database, goal, []upgrade.Node{replica("n1"), replica("n2"), replica("n3", runs("2"))}, true},
		{"a third", database, goal, []upgrade.Node{replica("n1"), replica("n2"), replica("n3", runs("3"))}, false},
		{"its own does not count", database, goal, []upgrade.Node{replica("n1", runs("3")), replica("n2"), replica("n3", runs("2"))}, true},
		{"all others are there already", database, goal, []upgrade.Node{replica("n1"), replica("n2", runs("2"))}, true},
		{"no others are on either side", database, goal, []upgrade.Node{replica("n1", runs("3")), replica("n2", runs("3"))}, false},
		{"the way back does not make three", database, back[database], []upgrade.Node{replica("n1", runs("3")), replica("n2", runs("3"))}, true},
		{"unless it would", database, back[database], []upgrade.Node{replica("n1", runs("3")), replica("n2", runs("3")), replica("n3", runs("2"))}, false},
		{"what a newcomer will install counts", database, goal, []upgrade.Node{replica("n1"), replica("n2", newcomer), replica("n3", runs("3"))}, false},
		{"a restart brings none", database, ferryman.Target{RestartGeneration: 1}, []upgrade.Node{replica("n1"), replica("n2"), replica("n3", runs("3"))}, true},
		{"agents", agents, ferryman.Target{Version: "0.2"}, []upgrade.Node{replica("n1"), replica("n2"), replica("n3", agent("0.2"))}, true},
		{"a third agent", agents, ferryman.Target{Version: "0.2"}, []upgrade.Node{replica("n1"), replica("n2"), replica("n3", agent("0.3"))}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := upgrade.Versions(tt.nodes, tt.part, back[tt.part], tt.goal, "n1"); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
