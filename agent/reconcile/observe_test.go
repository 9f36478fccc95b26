package reconcile_test

import (
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/reconcile"
)

func TestCaughtUpTakesTwoProofsUnderThisLeader(t *testing.T) {
	t.Parallel()
	const barrier, term = 100, 7
	good := ferryman.NodeStatus{BootID: "a", Applied: barrier, Term: term, Leader: "n1"}
	with := func(change func(*ferryman.NodeStatus)) ferryman.NodeStatus {
		s := good
		change(&s)
		return s
	}
	missed := ferryman.NodeStatus{BootID: "missed"}
	tests := []struct {
		name    string
		answers []ferryman.NodeStatus
		index   uint64 // known to the leader at each answer
		want    bool
	}{
		{"never", nil, barrier, false},
		{"once", []ferryman.NodeStatus{good}, barrier, false},
		{"twice", []ferryman.NodeStatus{good, good}, barrier, true},
		{"a wiped node has applied all of nothing", []ferryman.NodeStatus{
			with(func(s *ferryman.NodeStatus) { s.Applied = 0 }), with(func(s *ferryman.NodeStatus) { s.Applied = 0 })}, barrier, false},
		{"under an older term", []ferryman.NodeStatus{
			with(func(s *ferryman.NodeStatus) { s.Term-- }), with(func(s *ferryman.NodeStatus) { s.Term-- })}, barrier, false},
		{"of another leader", []ferryman.NodeStatus{
			with(func(s *ferryman.NodeStatus) { s.Leader = "n2" }), with(func(s *ferryman.NodeStatus) { s.Leader = "n2" })}, barrier, false},
		{"not in a row", []ferryman.NodeStatus{good, with(func(s *ferryman.NodeStatus) { s.Leader = "" }), good}, barrier, false},
		{"a silence in between", []ferryman.NodeStatus{good, missed, good}, barrier, false},
		{"restarted after it was", []ferryman.NodeStatus{good, good, with(func(s *ferryman.NodeStatus) { s.BootID = "b" })}, barrier, false},
		{"restarted, and twice anew", []ferryman.NodeStatus{good, good,
			with(func(s *ferryman.NodeStatus) { s.BootID = "b" }), with(func(s *ferryman.NodeStatus) { s.BootID = "b" })}, barrier, true},
		{"behind what was committed before it was seen", []ferryman.NodeStatus{good, good}, barrier + 20, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var judge reconcile.CaughtUp
			got := false
			for _, a := range test.answers {
				if a.BootID == missed.BootID {
					judge.Miss()
					got = false
					continue
				}
				got = judge.Hear(a, "n1", test.index, barrier, term)
			}
			if got != test.want {
				t.Errorf("caught up = %v, want %v", got, test.want)
			}
		})
	}
}

func TestHealthySince(t *testing.T) {
	t.Parallel()
	before, now := t0.Add(-time.Hour), t0
	status := func(healthy bool, start string) ferryman.NodeStatus {
		return ferryman.NodeStatus{Services: []ferryman.ServiceStatus{{
			Service:  ferryman.Service{Slot: "db"},
			Instance: ferryman.Instance{Running: true, Healthy: healthy},
			Unit:     ferryman.UnitState{Active: true, StartID: start},
		}}}
	}
	tests := []struct {
		name string
		old  ferryman.NodeView
		next ferryman.NodeStatus
		want time.Time
	}{
		{"becomes healthy", ferryman.NodeView{Status: status(false, "1")}, status(true, "1"), now},
		{"stays healthy", ferryman.NodeView{Status: status(true, "1"), HealthySince: before}, status(true, "1"), before},
		{"falls ill", ferryman.NodeView{Status: status(true, "1"), HealthySince: before}, status(false, "1"), time.Time{}},
		{"was started anew", ferryman.NodeView{Status: status(true, "1"), HealthySince: before}, status(true, "2"), now},
		{"a witness has nothing to be ill", ferryman.NodeView{}, ferryman.NodeStatus{}, now},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := reconcile.HealthySince(test.old, test.next, now); !got.Equal(test.want) {
				t.Errorf("healthy since %v, want %v", got, test.want)
			}
		})
	}
}
