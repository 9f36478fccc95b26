package state_test

import (
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

func want(name string, w ferryman.Want, lost bool) change {
	return change{Kind: ferryman.MoveWant, Node: ferryman.NodeID("id-" + name), Want: w, Lost: lost, Reason: "a reason"}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	joins := func(m ferryman.Member, change func(*ferryman.Member)) command {
		change(&m)
		return command{Join: &m}
	}
	same := func(*ferryman.Member) {}
	other := func(m *ferryman.Member) { m.ID = "id-other" }
	var (
		run    = running(t)
		lost   = apply(t, run, moves(want("n3", ferryman.WantLeaving, true)))
		leaver = apply(t, run, moves(want("n3", ferryman.WantLeaving, false)))
		forget = func(name string) command {
			return moves(change{Kind: ferryman.MoveForget, Node: ferryman.NodeID("id-" + name)})
		}
		absent   = apply(t, run, ask(ferryman.RequestMaintain, func(r *request) { r.Node, r.For = "n3", ferryman.Duration(time.Minute) }))
		takeOver = apply(t, lost, joins(node("n3"), other))
	)
	try(t, []row{
		{"bootstrap", ferryman.State{}, command{Bootstrap: &state.Bootstrap{Cluster: "c-1", Format: state.Format, Member: node("n1")}}, ""},
		{"bootstrap twice", run, command{Bootstrap: &state.Bootstrap{Cluster: "c-1", Format: state.Format, Member: node("n1")}}, "exists already"},
		{"bootstrap without an id", ferryman.State{}, command{Bootstrap: &state.Bootstrap{Member: node("n1")}}, "needs an id"},
		{"join nothing", ferryman.State{}, joins(node("n1"), same), "no cluster yet"},
		{"join", run, joins(node("n4"), same), ""},
		{"join again", run, joins(node("n3"), func(m *ferryman.Member) { m.Address = "elsewhere:7400" }), ""},
		{"without a name", run, joins(node("n4"), func(m *ferryman.Member) { m.Name = "" }), "needs an id, a name"},
		{"without an id", run, joins(node("n4"), func(m *ferryman.Member) { m.ID = "" }), "needs an id, a name"},
		{"without an address", run, joins(node("n4"), func(m *ferryman.Member) { m.Address = "" }), "needs an id, a name"},
		{"with a name that is taken", run, joins(node("n3"), other), "the name n3 belongs to node id-n3"},
		{"with an address that is taken", run, joins(node("n3"), func(m *ferryman.Member) { other(m); m.Name = "n4" }), "the address n3:7400 belongs to n3"},
		{"with the name and address of one that leaves", leaver, joins(node("n3"), other), "the name n3 belongs"},
		{"with the name and address of one that is lost", lost, joins(node("n3"), other), ""},
		{"again while leaving", leaver, joins(node("n3"), same), "n3 is leaving"},

		{"leave", run, moves(want("n3", ferryman.WantLeaving, false)), ""},
		{"leave, and be lost on the way", leaver, moves(want("n3", ferryman.WantLeaving, true)), ""},
		{"come back from leaving", leaver, moves(want("n3", ferryman.WantActive, false)), "is leaving"},
		{"maintenance while leaving", leaver, ask(ferryman.RequestMaintain, func(r *request) { r.Node = "n3" }), "is leaving"},
		{"come back from maintenance", absent, moves(want("n3", ferryman.WantActive, false)), ""},
		{"maintenance without an end", run, moves(want("n3", ferryman.WantMaintenance, false)), "needs an owner and an end"},
		{"nobody", run, moves(want("n9", ferryman.WantActive, false)), "no member"},
		{"nothing", run, moves(want("n3", "happy", false)), "nothing to want"},
		{"forget", leaver, forget("n3"), ""},
		{"forget who stays", run, forget("n3"), "does not leave"},
		{"forget the primary", apply(t, run, moves(want("n1", ferryman.WantLeaving, false))), forget("n1"), "is the primary"},
		{"forget nobody", run, forget("n9"), "no member"},
	})

	t.Run("the name of a lost node is the newcomer's", func(t *testing.T) {
		for range 20 { // maps have no order
			if m, _ := takeOver.Member("n3"); m.ID != "id-other" {
				t.Fatalf("n3 is %s, want id-other", m.ID)
			}
		}
		if m, _ := takeOver.Member("id-n3"); m.ID != "id-n3" {
			t.Errorf("id-n3 is %s", m.ID)
		}
	})
	t.Run("joining again renews what the node says and nothing else", func(t *testing.T) {
		s := apply(t, absent, joins(node("n3"), func(m *ferryman.Member) {
			m.Address, m.Want, m.Joined = "elsewhere:7400", ferryman.WantActive, t0.Add(time.Hour)
		}))
		if m := s.Members["id-n3"]; m.Address != "elsewhere:7400" || m.Want != ferryman.WantMaintenance || m.Maintenance == nil || !m.Joined.Equal(run.Members["id-n3"].Joined) {
			t.Errorf("it is %+v, want the new address in maintenance as before", m)
		}
	})
	t.Run("what is open on a lost node ends", func(t *testing.T) {
		s := apply(t, run, steps(step(ferryman.OpStart, "n3"), step(ferryman.OpDemote, "n3")))
		s = apply(t, s, moves(want("n3", ferryman.WantLeaving, true)))
		start, _ := s.Step(s.LastStep - 1)
		demote, _ := s.Step(s.LastStep)
		if start.Open() || !demote.Open() {
			t.Errorf("start is open: %v, the leader's own demote: %v; want false and true", start.Open(), demote.Open())
		}
	})
	t.Run("who leaves is carried no further", func(t *testing.T) {
		s := upgrading(t)
		s = apply(t, s, moves(begin(s, "n3", ferryman.PartDatabase)), moves(want("n3", ferryman.WantLeaving, false)))
		if len(s.Rollout.Passages) != 0 {
			t.Errorf("passages are %v, want none", s.Rollout.Passages)
		}
	})
}
