package upgrade_test

import (
	"testing"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const (
	agents   = ferryman.PartAgents
	database = ferryman.PartDatabase
)

// replica is a node that runs version 1 as a replica of n1, votes, and has
// been healthy for an hour; the changes make it something else.
func replica(name string, changes ...func(*upgrade.Node)) upgrade.Node {
	svc := ferryman.Service{Slot: "db", Engine: "demodb", Address: name + ":5000"}
	v1 := ferryman.Target{Version: "1"}
	n := upgrade.Node{Suffrage: ferryman.Voter,
		Member: ferryman.Member{ID: ferryman.NodeID(name), Name: name, Want: ferryman.WantActive, Services: []ferryman.Service{svc}},
		View: ferryman.NodeView{Known: true, Reachable: true, CaughtUp: true, Contact: t0, HealthySince: t0.Add(-time.Hour), Status: ferryman.NodeStatus{
			Agent: ferryman.Target{Version: "0.1"},
			Services: []ferryman.ServiceStatus{{Service: svc, Selected: v1, Launched: v1, Unit: ferryman.UnitState{Active: true},
				Traits: ferryman.Traits{Primaries: 1, Ops: []ferryman.Op{ferryman.OpFollow, ferryman.OpClone}},
				Instance: ferryman.Instance{Running: true, Initialised: true, Healthy: true, Role: ferryman.RoleReplica, Version: "1", Epoch: 3,
					History: "h", Position: 70, Following: "n1:5000", Streaming: true}}}}}}
	for _, change := range changes {
		change(&n)
	}
	return n
}

func primary(n *upgrade.Node) {
	n.Primary = true
	on(func(s *ferryman.ServiceStatus) {
		s.Instance.Role, s.Instance.Writable, s.Instance.Following, s.Instance.Streaming = ferryman.RolePrimary, true, "", false
	})(n)
}

func on(change func(*ferryman.ServiceStatus)) func(*upgrade.Node) {
	return func(n *upgrade.Node) { change(&n.View.Status.Services[0]) }
}

func runs(version string) func(*upgrade.Node) {
	return on(func(s *ferryman.ServiceStatus) {
		s.Selected.Version, s.Launched.Version, s.Instance.Version = version, version, version
	})
}

func stopped(n *upgrade.Node) {
	n.Down = "db is not running"
	on(func(s *ferryman.ServiceStatus) { s.Unit.Active, s.Instance = false, ferryman.Instance{} })(n)
}

func silent(n *upgrade.Node) {
	n.View.Reachable, n.View.CaughtUp, n.Down = false, false, "does not answer"
}
func behind(n *upgrade.Node)   { n.View.CaughtUp = false }
func leader(n *upgrade.Node)   { n.Leader = true }
func nonvoter(n *upgrade.Node) { n.Suffrage = ferryman.Nonvoter }
func carried(n *upgrade.Node)  { n.Carried = true }
func leaving(n *upgrade.Node)  { n.Member.Want = ferryman.WantLeaving }
func witness(n *upgrade.Node) {
	n.Member.Witness, n.Member.Services, n.View.Status.Services = true, nil, nil
}

// TestAt shows what has to be observed before a node counts as carried: what
// the next start would run, what the process was started as, and what it says.
func TestAt(t *testing.T) {
	t.Parallel()
	v2 := ferryman.Target{Version: "2"}
	restart := ferryman.Target{RestartGeneration: 1}
	for _, tt := range []struct {
		name string
		node upgrade.Node
		part ferryman.Part
		goal ferryman.Target
		want bool
	}{
		{"it runs the goal", replica("n2", runs("2")), database, v2, true},
		{"it runs another", replica("n2"), database, v2, false},
		{"only the next start would", replica("n2", on(func(s *ferryman.ServiceStatus) { s.Selected = v2 })), database, v2, false},
		{"it was started as the goal and says another", replica("n2", runs("2"), on(func(s *ferryman.ServiceStatus) { s.Instance.Version = "1" })), database, v2, false},
		{"it does not answer", replica("n2", runs("2"), on(func(s *ferryman.ServiceStatus) { s.Instance.Running = false })), database, v2, false},
		{"its unit ended", replica("n2", runs("2"), on(func(s *ferryman.ServiceStatus) { s.Unit.Active = false })), database, v2, false},
		{"a goal without a version takes any", replica("n2"), database, ferryman.Target{}, true},
		{"but not another restart", replica("n2"), database, restart, false},
		{"nor other parameters", replica("n2"), database, ferryman.Target{Version: "1", Parameters: map[string]string{"a": "b"}}, false},
		{"a service that is not reported", replica("n2", func(n *upgrade.Node) { n.View.Status.Services = nil }), database, ferryman.Target{}, false},
		{"a node without services", replica("w", witness), database, v2, true},
		{"a node that was never heard", replica("n2", func(n *upgrade.Node) { n.View.Known = false }), database, ferryman.Target{}, false},
		{"an agent of the goal", replica("n2"), agents, ferryman.Target{Version: "0.1"}, true},
		{"an agent of another version", replica("n2"), agents, ferryman.Target{Version: "0.2"}, false},
		{"an agent before its restart", replica("n2"), agents, restart, false},
		{"an agent after a later restart", replica("n2", func(n *upgrade.Node) { n.View.Status.Agent.RestartGeneration = 2 }), agents, restart, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.node.At(tt.part, tt.goal); got != tt.want {
				t.Errorf("at %+v: got %v, want %v", tt.goal, got, tt.want)
			}
		})
	}
}
