package agent

import (
	"testing"

	"ferryman"
)

func TestHeadline(t *testing.T) {
	t.Parallel()
	state := ferryman.State{
		Members: map[ferryman.NodeID]ferryman.Member{"1": {ID: "1", Name: "n1"}, "2": {ID: "2", Name: "n2", Maintenance: &ferryman.Maintenance{}}},
		Ledger:  []ferryman.Step{{ID: 7, Op: ferryman.OpStart, Service: "db"}},
	}
	service := func(i ferryman.Instance) []ferryman.ServiceStatus {
		return []ferryman.ServiceStatus{{Service: ferryman.Service{Slot: "db"}, Instance: i}}
	}
	tests := []struct {
		want   string
		status ferryman.NodeStatus
	}{
		{"is not in a cluster yet", ferryman.NodeStatus{ID: "3"}},
		{"looks for a leader; db does not run", ferryman.NodeStatus{ID: "1", Services: service(ferryman.Instance{Reason: "does not run: nothing listens"})}},
		{"leads; db is primary", ferryman.NodeStatus{ID: "1", Leader: "1", Services: service(ferryman.Instance{Running: true, Healthy: true, Role: ferryman.RolePrimary})}},
		{"follows n1, in maintenance; db is not well: loads its data; step 7: start db; the disk is slow", ferryman.NodeStatus{ID: "2", Leader: "1",
			Services: service(ferryman.Instance{Running: true, Reason: "loads its data"}), Running: []uint64{7}, Problems: []string{"the disk is slow", "another"}}},
	}
	for _, tt := range tests {
		if got := headline(tt.status, state); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
