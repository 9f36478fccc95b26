package render_test

import (
	"time"

	"ferryman"
)

// The situations that a person may meet, made by hand.

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func before(d time.Duration) time.Time { return now.Add(-d) }

const (
	old  = "1.0.0"
	next = "1.1.0"
)

func member(id ferryman.NodeID, name string) ferryman.Member {
	return ferryman.Member{ID: id, Name: name, Address: name + ".example.com:7440", Want: ferryman.WantActive, Joined: before(26 * time.Hour),
		Services: []ferryman.Service{{Slot: "db", Engine: "demodb", Address: name + ".example.com:7441"}}}
}

func replica(id ferryman.NodeID, name, version string) ferryman.NodeView {
	return ferryman.NodeView{Known: true, Reachable: true, CaughtUp: true, Contact: before(time.Second), HealthySince: before(20 * time.Minute),
		Status: ferryman.NodeStatus{ID: id, Name: name, Cluster: "orders-0123abcd", Agent: ferryman.Target{Version: "0.2.0"},
			Services: []ferryman.ServiceStatus{{Service: ferryman.Service{Slot: "db", Engine: "demodb"}, Unit: ferryman.UnitState{Active: true},
				Instance: ferryman.Instance{Running: true, Initialised: true, Role: ferryman.RoleReplica, Version: version, Position: 5829, Streaming: true, Healthy: true}}}}}
}

func primary(id ferryman.NodeID, name, version string) ferryman.NodeView {
	v := replica(id, name, version)
	in := &v.Status.Services[0].Instance
	in.Role, in.Streaming, in.Writable = ferryman.RolePrimary, false, true
	return v
}

// healthy is a cluster of three at rest under generation 6.
func healthy() ferryman.Report {
	complete := ferryman.Known{Generation: 6, Target: ferryman.Target{Version: old}}
	return ferryman.Report{Time: now,
		State: ferryman.State{
			Cluster: "orders-0123abcd",
			Accepted: &ferryman.Accepted{At: before(3 * time.Hour), Document: ferryman.Document{Cluster: "orders", Generation: 6, Nodes: 3,
				Database: ferryman.Database{Engine: "demodb", Version: old}}},
			Members:     map[ferryman.NodeID]ferryman.Member{"a1": member("a1", "n1"), "b2": member("b2", "n2"), "c3": member("c3", "n10")},
			Initialised: true,
			Primary:     ferryman.Primary{Node: "a1", Slot: "db", Epoch: 2, Since: before(2 * time.Hour)},
			Rollout: &ferryman.Rollout{Generation: 6, Opened: before(3 * time.Hour), Ended: before(170 * time.Minute), Parts: map[ferryman.Part]ferryman.PartProgress{
				ferryman.PartAgents: {Status: ferryman.PartComplete}, ferryman.PartDatabase: {Status: ferryman.PartComplete, To: complete, From: complete}}},
		},
		View: ferryman.View{Self: "b2", Term: 7, Since: before(time.Hour),
			Nodes: map[ferryman.NodeID]ferryman.NodeView{"a1": primary("a1", "n1", old), "b2": replica("b2", "n2", old), "c3": replica("c3", "n10", old)},
			Raft:  map[ferryman.NodeID]ferryman.Suffrage{"a1": ferryman.Voter, "b2": ferryman.Voter, "c3": ferryman.Voter}},
		Decision: ferryman.Decision{Waits: []ferryman.Wait{{Rule: ferryman.RuleUpgrade, Code: "done", Reason: "generation 6 is done"}}},
	}
}

// forming is a cluster that was just founded: one node, another on its way.
func forming() ferryman.Report {
	first := member("a1", "n1")
	first.Joined = before(4 * time.Second)
	newcomer := member("b2", "n2")
	newcomer.Joined = before(time.Second)
	v := replica("a1", "n1", "")
	v.HealthySince = time.Time{}
	v.Status.Services[0].Instance = ferryman.Instance{Reason: "does not run: nothing listens on n1.example.com:7441"}
	return ferryman.Report{Time: now,
		State: ferryman.State{Cluster: "orders-0123abcd", Members: map[ferryman.NodeID]ferryman.Member{"a1": first, "b2": newcomer},
			Refused:     &ferryman.Refusal{At: before(2 * time.Second), Reason: "desired state:2: nodse: unknown key; did you mean nodes?\ndesired state:3: expires: is over"},
			HostRequest: &ferryman.HostRequest{Total: 3, At: before(3 * time.Second), Answered: true}},
		View: ferryman.View{Self: "a1", Nodes: map[ferryman.NodeID]ferryman.NodeView{"a1": v}, Raft: map[ferryman.NodeID]ferryman.Suffrage{"a1": ferryman.Voter}},
		Decision: ferryman.Decision{Waits: []ferryman.Wait{
			{Rule: ferryman.RuleMembers, Code: "document", Reason: "no desired state was accepted yet"},
			{Rule: ferryman.RuleMembers, Code: "join", Node: "b2", Reason: "n2 catches up"}}},
	}
}

// midRollout carries n10, with n2 done and n1, the primary, still to come.
func midRollout() ferryman.Report {
	r := healthy()
	from, to := ferryman.Known{Generation: 6, Target: ferryman.Target{Version: old}}, ferryman.Known{Generation: 7, Target: ferryman.Target{Version: next, RestartGeneration: 1}}
	r.State.Accepted.At = before(2 * time.Minute)
	r.State.Accepted.Document.Generation, r.State.Accepted.Document.Database.Version = 7, next
	r.State.History = []ferryman.Rollout{*r.State.Rollout}
	r.State.Rollout = &ferryman.Rollout{Generation: 7, Opened: before(2 * time.Minute),
		Parts: map[ferryman.Part]ferryman.PartProgress{
			ferryman.PartAgents: {Status: ferryman.PartComplete},
			ferryman.PartDatabase: {Status: ferryman.PartOpen, From: from, To: to,
				Carried: []ferryman.Carried{{Node: "b2", Began: before(90 * time.Second), Ended: before(80 * time.Second), Version: next}}}},
		Passages: map[ferryman.NodeID]ferryman.Passage{"c3": {Part: ferryman.PartDatabase, Began: before(12 * time.Second), Goal: to}}}
	r.State.Ledger = []ferryman.Step{
		{ID: 40, Op: ferryman.OpStop, Node: "c3", Service: "db", Attempt: 1, Rule: ferryman.RuleUpgrade, Since: before(11 * time.Second), Outcome: &ferryman.Outcome{Status: ferryman.StatusDone}},
		{ID: 41, Op: ferryman.OpStart, Node: "c3", Service: "db", Attempt: 2, Rule: ferryman.RuleUpgrade, Since: before(9 * time.Second), Args: ferryman.Args{Version: next}},
	}
	r.View.Nodes["b2"] = replica("b2", "n2", next)
	v := replica("c3", "n10", next)
	v.HealthySince = time.Time{}
	v.Status.Services[0].Instance = ferryman.Instance{Role: ferryman.RoleReplica, Reason: "does not answer yet"}
	r.View.Nodes["c3"] = v
	r.Decision = ferryman.Decision{
		Steps:  []ferryman.Step{{Op: ferryman.OpCheckpoint, Node: "a1", Service: "db", Attempt: 1, Rule: ferryman.RuleUpgrade}},
		Moves:  []ferryman.Transition{{Kind: ferryman.MoveEndPassage, Node: "c3"}, {Kind: ferryman.MovePart, Part: ferryman.PartDatabase, Status: ferryman.PartReverting, Reason: "too slow"}},
		Cancel: []ferryman.Outcome{{Step: 41, Reason: "its passage is over"}},
		Waits:  []ferryman.Wait{{Rule: ferryman.RuleUpgrade, Code: "budget", Node: "a1", Reason: "n10 is down, and maxUnavailable is 1"}}}
	return r
}

// waiting is all at once: paused, a dead node, one in maintenance, a switchover.
func waiting() ferryman.Report {
	r := midRollout()
	r.State.Paused = &ferryman.Hold{By: "kim", Reason: "backup runs", At: before(5 * time.Minute), Until: now.Add(55 * time.Minute)}
	r.State.Frozen = &ferryman.Hold{By: "uid 1007", At: before(50 * time.Hour)}
	r.State.Accepted.Document.Paused = true
	r.State.Switchover = &ferryman.Switchover{From: "a1", To: "b2", Slot: "db", By: "a rollout", Began: before(3 * time.Second), Committed: true}
	n1 := r.State.Members["a1"]
	n1.Want, n1.Maintenance = ferryman.WantMaintenance, &ferryman.Maintenance{Owner: "n1", Reason: "the agent was told to stop", Until: now.Add(13 * time.Minute)}
	witness := ferryman.Member{ID: "d4", Name: "w1", Address: "w1.example.com:7440", Witness: true, Want: ferryman.WantLeaving, Why: "asked by kim"}
	r.State.Members["a1"], r.State.Members["d4"] = n1, witness
	v := r.View.Nodes["a1"]
	v.Reachable, v.Contact, v.Error = false, before(95*time.Second), "connection refused"
	v.Status.Services[0].Instance.Writable, v.Status.Services[0].Instance.Fenced = false, true
	r.View.Nodes["a1"] = v
	v = replica("d4", "w1", "")
	v.CaughtUp, v.Status.Services, v.Status.Problems = false, nil, []string{"data_dir is 97 % full; make room"}
	v.Status.Installed = "0.3.0"
	r.View.Nodes["d4"], r.View.Raft["d4"] = v, ferryman.Nonvoter
	v = replica("b2", "n2", next)
	v.Status.Services[0].Instance.Lag = 3 << 20
	r.View.Nodes["b2"] = v
	r.Decision = ferryman.Decision{Waits: []ferryman.Wait{
		{Rule: ferryman.RuleUpgrade, Code: "paused", Reason: "paused by kim; `ferryman rollout resume` goes on"},
		{Rule: ferryman.RuleRepair, Code: "maintenance", Node: "a1", Reason: "n1 is away on purpose"}}}
	return r
}

// reverted went back by itself; what failed is in quarantine.
func reverted() ferryman.Report {
	r := healthy()
	why := "start on n10 failed: the process ended before the database answered; its log ends with:\nlistening on :7441\ndemodb: cannot read its data"
	from, to := ferryman.Known{Generation: 6, Target: ferryman.Target{Version: old}}, ferryman.Known{Generation: 7, Target: ferryman.Target{Version: next}}
	r.State.Accepted.At = before(10 * time.Minute)
	r.State.Accepted.Document.Generation, r.State.Accepted.Document.Database.Version = 7, next
	r.State.History = []ferryman.Rollout{*r.State.Rollout}
	r.State.History[0].Parts[ferryman.PartDatabase] = ferryman.PartProgress{Status: ferryman.PartComplete, From: from, To: from,
		Carried: []ferryman.Carried{{Node: "b2", Began: before(179 * time.Minute), Ended: before(178 * time.Minute), Version: old}, {Node: "gone", Began: before(177 * time.Minute), Ended: before(177*time.Minute - 800*time.Millisecond)}}}
	r.State.Rollout = &ferryman.Rollout{Generation: 7, Opened: before(10 * time.Minute), Ended: before(9*time.Minute + 53*time.Second),
		Parts: map[ferryman.Part]ferryman.PartProgress{
			ferryman.PartAgents:   {Status: ferryman.PartComplete},
			ferryman.PartDatabase: {Status: ferryman.PartReverted, From: from, To: to, Reason: why}}}
	r.State.Quarantined = map[string]ferryman.Quarantine{"sha256:beef": {Key: "demodb/1.1.0", Reason: why, Generation: 7, At: before(9 * time.Minute)}}
	r.State.Events = []ferryman.Event{
		{Seq: 1, Time: before(10 * time.Minute), Kind: "rollout", Text: "the rollout of generation 7 began"},
		{Seq: 2, Time: before(594 * time.Second), Kind: "step", Node: "c3", Text: why, Bad: true},
		{Seq: 3, Time: before(593 * time.Second), Kind: "rollout", Text: "the rollout of generation 7 ended after 7s"}}
	r.Decision.Waits[0].Reason = "generation 7 is done"
	return r
}
