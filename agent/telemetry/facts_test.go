package telemetry_test

import (
	"time"

	"ferryman"
	"ferryman/agent/telemetry"
)

// A cluster of three as its leader n1 sees it, in the middle of an upgrade.

var (
	now  = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	self = telemetry.Self{Cluster: "orders-0123abcd", ID: "a1", Node: "n1", Version: "0.2.0"}
)

func before(d time.Duration) time.Time { return now.Add(-d) }

func service(role ferryman.Role) ferryman.ServiceStatus {
	return ferryman.ServiceStatus{Service: ferryman.Service{Slot: "db", Engine: "redis"}, Unit: ferryman.UnitState{Active: true},
		Instance: ferryman.Instance{Running: true, Healthy: true, Role: role, Writable: role == ferryman.RolePrimary, Streaming: role == ferryman.RoleReplica, Epoch: 2, Lag: 1024}}
}

func facts() telemetry.Facts {
	status := ferryman.NodeStatus{ID: "a1", Name: "n1", Term: 7, Leader: "a1", Applied: 41, Services: []ferryman.ServiceStatus{service(ferryman.RolePrimary)},
		Lease: &ferryman.LeaseStatus{Epoch: 2, Length: ferryman.Duration(5 * time.Second)}, Problems: []string{"a disk is full"}}
	s := ferryman.State{
		Cluster: "orders-0123abcd",
		Accepted: &ferryman.Accepted{At: before(time.Hour), Document: ferryman.Document{Generation: 7, Nodes: 3,
			Database: ferryman.Database{Engine: "redis", Failover: ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic}}}},
		Refused: &ferryman.Refusal{At: before(time.Minute), Reason: "line 2: noodles: unknown key"},
		Members: map[ferryman.NodeID]ferryman.Member{
			"a1": {ID: "a1", Name: "n1", Want: ferryman.WantActive},
			"b2": {ID: "b2", Name: "n2", Want: ferryman.WantMaintenance},
			"c3": {ID: "c3", Name: "n3", Want: ferryman.WantActive},
			"d4": {ID: "d4", Name: "n3", Want: ferryman.WantLeaving, Lost: true},
		},
		Primary: ferryman.Primary{Node: "a1", Slot: "db", Epoch: 2, Lease: &ferryman.Lease{Length: ferryman.Duration(5 * time.Second), Enforced: true}},
		Rollout: &ferryman.Rollout{Generation: 7, Opened: before(time.Hour),
			Parts: map[ferryman.Part]ferryman.PartProgress{
				ferryman.PartAgents:   {Status: ferryman.PartComplete, Progress: before(time.Hour)},
				ferryman.PartDatabase: {Status: ferryman.PartOpen, Progress: before(time.Minute), Carried: []ferryman.Carried{{Node: "b2"}}}},
			Passages: map[ferryman.NodeID]ferryman.Passage{"c3": {Part: ferryman.PartDatabase}}},
		Ledger: []ferryman.Step{
			{ID: 3, Op: ferryman.OpStop, Node: "b2", Since: before(time.Hour), Outcome: &ferryman.Outcome{Status: ferryman.StatusDone}},
			{ID: 4, Op: ferryman.OpStage, Node: "c3", Since: before(30 * time.Second)},
			{ID: 5, Op: ferryman.OpStage, Node: "c3", Since: before(20 * time.Second)},
		},
	}
	return telemetry.Facts{
		At: now, Status: status, State: s, CertificateEnds: now.Add(90 * 24 * time.Hour), Guarded: true,
		Raft: telemetry.Raft{Leads: true, LastContact: now, Held: 41, Voters: 3},
		Report: &ferryman.Report{Time: now, State: s,
			Decision: ferryman.Decision{Waits: []ferryman.Wait{
				{Rule: ferryman.RuleUpgrade, Code: "min-healthy", Node: "b2", Reason: "n2 has not been healthy for 10s yet"},
				{Rule: ferryman.RuleUpgrade, Code: "min-healthy", Node: "c3", Reason: "n3 has not been healthy for 10s yet"}}},
			View: ferryman.View{Self: "a1", Term: 7, Source: ferryman.SourceView{Generation: 8, Answered: before(2 * time.Second)},
				Raft: map[ferryman.NodeID]ferryman.Suffrage{"a1": ferryman.Voter, "b2": ferryman.Voter, "c3": ferryman.Nonvoter},
				Nodes: map[ferryman.NodeID]ferryman.NodeView{
					"a1": {Status: status, Known: true, Reachable: true, CaughtUp: true},
					"b2": {Known: true},
					"c3": {Known: true, Reachable: true}}}},
	}
}

// follower is n2, well and in touch.
func follower() telemetry.Facts {
	f := facts()
	f.Report, f.Raft.Leads, f.Raft.LastContact = nil, false, before(100*time.Millisecond)
	f.Status.Services = []ferryman.ServiceStatus{service(ferryman.RoleReplica)}
	f.Status.Lease, f.Status.Problems = nil, nil
	return f
}
