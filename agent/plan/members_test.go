package plan_test

import (
	"testing"
	"time"

	"ferryman"
)

func TestMembers(t *testing.T) {
	t.Parallel()
	newcomer := func() *sit { // n4 has joined and is not in the Raft group yet
		x := calm(3).add("n4").document(nodes(4))
		delete(x.v.Raft, "n4")
		return x
	}
	gone := func(m *ferryman.Member) { m.Want, m.Lost = ferryman.WantLeaving, true }
	leaver := func(name string) *sit { return calm(4).document(nodes(3)).member(name, leaving) }
	drains := func(s *ferryman.ServiceStatus) {
		s.Traits.Ops = append(s.Traits.Ops[:len(s.Traits.Ops):len(s.Traits.Ops)], ferryman.OpDrain)
	}
	nonvoter := func(x *sit, name string) *sit { x.v.Raft[ferryman.NodeID(name)] = ferryman.Nonvoter; return x }
	voter := func(x *sit, name string) *sit { x.v.Raft[ferryman.NodeID(name)] = ferryman.Voter; return x }
	outside := func(x *sit, name string) *sit { delete(x.v.Raft, ferryman.NodeID(name)); return x }
	held := func(until time.Duration) *sit {
		x := calm(3)
		x.s.Paused = &ferryman.Hold{By: "a person", Until: t0.Add(until)}
		return x
	}
	chilled := func(until time.Duration) *sit {
		x := calm(3)
		x.s.Frozen = &ferryman.Hold{By: "a person", Until: t0.Add(until)}
		return x
	}
	noDocument := calm(3)
	noDocument.s.Accepted, noDocument.s.Refused = nil, &ferryman.Refusal{Reason: "unknown key"}

	t.Run("come", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"a newcomer is admitted without a vote", newcomer(), "admit n4", ""},
			{"not while its predecessor is in the group",
				newcomer().member("n3", func(m *ferryman.Member) { gone(m); m.Address = "n4:7400" }).silent("n3", time.Hour).document(nodes(3)), "demote n3; request-hosts 3 remove [n3] lost []", "admit"},
			{"a failed admission is repeated after a while", newcomer().failed(ferryman.OpAdmit, "n4", nil), "", "backoff"},
			{"maintenance lasts", calm(3).member("n2", maintenance(time.Second)), "", "maintenance"},
			{"maintenance runs out", calm(3).member("n2", maintenance(0)), "want n2 active", ""},
			{"maintenance ends with the node's return",
				calm(3).member("n2", maintenance(time.Hour)).view("n2", func(v *ferryman.NodeView) { v.Status.BootID = "b2" }), "want n2 active", ""},
			{"but not before it is reachable",
				calm(3).member("n2", maintenance(time.Hour)).silent("n2", time.Second).view("n2", func(v *ferryman.NodeView) { v.Status.BootID = "b2" }), "", "maintenance"},
			{"a node in maintenance is not dead", calm(3).member("n2", maintenance(time.Second)).silent("n2", time.Hour), "", "maintenance"},
			{"a pause lasts", held(time.Second), "", ""},
			{"a pause runs out", held(0), "end-hold", ""},
			{"a freeze runs out", chilled(0), "end-hold", "frozen"},
			{"a freeze lasts", chilled(time.Second), "", "frozen"},
			{"of two that leave one goes first", calm(3).member("n2", leaving).member("n3", leaving).document(nodes(1)), "stop n2", "leave"},
			{"none leaves while another is down", calm(3).member("n2", leaving).document(nodes(2)).stopped("n3"), "start n3", "leave"},
			{"without a document it says why", noDocument, "", "no-document"},
		})
	})
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"its clients go elsewhere first", leaver("n4").service("n4", drains), "drain n4", ""},
			{"then its database stops", leaver("n4"), "stop n4", ""},
			{"then another gets the vote that it has", leaver("n3").stopped("n3"), "vote n4", "vote"},
			{"then it gives up its vote", voter(leaver("n3"), "n4").stopped("n3"), "demote n3", ""},
			{"also when nobody can take it", calm(3).document(nodes(2)).member("n3", leaving).stopped("n3"), "demote n3", ""},
			{"one vote changes at a time", calm(5).document(nodes(3)).member("n4", leaving).stopped("n4").member("n5", leaving).stopped("n5"), "demote n4", "busy"},
			{"also when another leader began it", calm(5).document(nodes(3)).member("n4", leaving).stopped("n4").member("n5", leaving).stopped("n5").open(ferryman.OpDemote, "n5", nil), "", "busy step"},
			{"then its agent departs", leaver("n4").stopped("n4"), "depart n4", ""},
			{"which is waited for", leaver("n4").stopped("n4").open(ferryman.OpDepart, "n4", nil), "", "step"},
			{"then it is removed, whatever became of that", leaver("n4").stopped("n4").failed(ferryman.OpDepart, "n4", nil), "remove n4", ""},
			{"then it is forgotten", outside(leaver("n4").stopped("n4").did(ferryman.OpDepart, "n4", nil), "n4"), "forget n4", ""},
			{"who does not answer for long is not stopped", nonvoter(leaver("n3"), "n3").silent("n3", time.Hour), "remove n3", "busy"},
			{"who was never admitted goes at once", outside(leaver("n4"), "n4"), "forget n4", ""},
			{"who does not answer for a moment is", leaver("n4").silent("n4", time.Second), "stop n4", ""},
			{"the primary hands over first", leaver("n1"), "begin-switchover n2; vote n4", ""},
			{"a leader that is not the primary hands over", func() *sit {
				x := leaver("n2")
				x.v.Self = "n2"
				return x
			}(), "transfer n2 to n3", "busy"},
			{"nobody gives up a vote that a majority needs", calm(3).document(nodes(2)).member("n3", leaving).stopped("n3").silent("n2", time.Second), "", "quorum"},
			{"nor while an agent is restarted",
				calm(4).rollout(func(d *ferryman.Document) { d.Nodes, d.Agent.RestartGeneration = 3, 1 }).carrying(ferryman.PartAgents, "n2").member("n3", leaving).stopped("n3"),
				"vote n4", "quorum"},
			{"one that is lost keeps its vote until the newcomer has one", func() *sit {
				return calm(3).add("n4").member("n3", gone).silent("n3", time.Hour)
			}(), "vote n4; request-hosts 3 remove [n3] lost []", "vote"},
			{"then it loses it", func() *sit {
				x := calm(3).add("n4").member("n3", gone).silent("n3", time.Hour)
				x.v.Raft["n4"] = ferryman.Voter
				return x
			}(), "demote n3; request-hosts 3 remove [n3] lost []", ""},
			{"a primary without a successor does not go",
				leaver("n1").instance("n2", still).instance("n3", still).instance("n4", still), "follow n2 epoch 3 from n1:5000; follow n3 epoch 3 from n1:5000; follow n4 epoch 3 from n1:5000; vote n4", "switchover-candidate"},
		})
	})
}

// TestCopies is about members whose copies of acknowledged writes may be the
// only ones beside the primary's: n4 leaves, or was lost and replaced.
func TestCopies(t *testing.T) {
	t.Parallel()
	at := func(position uint64) func(*ferryman.Instance) {
		return func(in *ferryman.Instance) { in.Position = position }
	}
	leaver := func() *sit { return sync(calm(4).document(nodes(3)).member("n4", leaving).stopped("n4"), 1) }
	lost := func() *sit {
		x := sync(calm(5).silent("n4", time.Hour).document(nodes(4)), 1)
		x.s.HostRequest = &ferryman.HostRequest{Step: 1, Total: 4, Lost: []string{"n4"}, At: t0.Add(-time.Minute), Answered: true}
		return x
	}
	behind := func(x *sit) *sit { return x.instance("n1", at(71)) }
	try(t, []row{
		{"who leaves goes when another holds all", leaver(), "depart n4", ""},
		{"not while all who stay are behind the primary", behind(leaver()), "", "leave"},
		{"one of them is enough", behind(leaver()).instance("n3", at(71)), "depart n4", ""},
		{"but not one that is no longer connected, or of another history", behind(leaver()).instance("n3", at(71)).instance("n3", still).
			instance("n2", func(in *ferryman.Instance) { in.Position, in.History = 71, "x" }), "follow n3 epoch 3 from n1:5000", "leave"},
		{"nor with a history of the primary's that is not committed", leaver().instance("n1", func(in *ferryman.Instance) { in.History = "x" }), "history n1 epoch 3", "leave"},
		{"nor while the primary still sends it all", leaver().instance("n1", func(in *ferryman.Instance) { in.Replicas = []string{"n4:5000"} }), "", "leave"},
		{"who has departed goes on", behind(leaver()).did(ferryman.OpDepart, "n4", nil), "remove n4", ""},
		{"the last replica goes: there is nobody to hold anything", sync(calm(2).document(nodes(1)).member("n2", leaving).stopped("n2"), 1).instance("n1", at(71)), "depart n2", ""},
		{"who is lost is given up when another holds all", lost(), "want n4 leaving lost; demote n4", ""},
		{"not before", behind(lost()), "demote n4", "swap"},
		{"without synchronous replication nothing is promised", sync(behind(lost()), 0), "want n4 leaving lost; demote n4", ""},
	})
}

// still is a replica that follows nobody.
func still(in *ferryman.Instance) { in.Streaming, in.Following = false, "" }

// TestDead is about nodes that do not answer, with the hosts that replace them.
func TestDead(t *testing.T) {
	t.Parallel()
	dead := func() *sit { return calm(3).silent("n3", time.Minute) }
	asked := func(x *sit, at time.Duration, total int, lost ...string) *sit {
		x.s.HostRequest = &ferryman.HostRequest{Step: 1, Total: total, Lost: lost, At: t0.Add(-at), Answered: true}
		return x
	}
	newcomer := func(x *sit) *sit { return x.add("n4") }
	noServer := func(x *sit) *sit { x.v.Hosts = ferryman.HostsView{None: true}; return x }
	newLeader := func(x *sit) *sit { x.v.Since = t0.Add(-time.Second); return x }
	two := func() *sit { return calm(5).silent("n4", time.Hour).silent("n5", time.Hour) }
	try(t, []row{
		{"a node may be silent for a while", calm(3).silent("n3", 59*time.Second), "", ""},
		{"then a host is asked for first", dead(), "request-hosts 3 remove [] lost [n3]", "hosts"},
		{"beside that of one that leaves, which stays until then", calm(3).document(nodes(2)).member("n2", leaving).silent("n3", time.Minute), "request-hosts 3 remove [] lost [n3]", "hosts leave"},
		{"silence is measured by each leader anew", newLeader(dead()), "", ""},
		{"it stays a member until the newcomer is there", asked(dead(), time.Minute, 3, "n3"), "", "hosts"},
		{"and has caught up", newcomer(asked(dead(), time.Minute, 3, "n3")).view("n4", func(v *ferryman.NodeView) { v.CaughtUp = false }), "", "swap"},
		{"then they are swapped", newcomer(asked(dead(), time.Minute, 3, "n3")), "want n3 leaving lost; vote n4", ""},
		{"one at a time", two().add("n6").add("n7").member("n5", func(m *ferryman.Member) { m.Want, m.Lost = ferryman.WantLeaving, true }), "demote n5", "swap"},
		{"the first of two", two().add("n6").add("n7"), "want n4 leaving lost; vote n6", ""},
		{"a newcomer for one of two is a swap once both were asked for", asked(two(), time.Minute, 5, "n4", "n5").add("n6"), "demote n4", "hosts"},
		{"the primary is never replaced", func() *sit {
			x := calm(3).silent("n1", time.Hour)
			x.v.Self = "n2"
			return x
		}(), "", "primary-lost"},
		{"nor the founder of a database that has no primary yet", func() *sit {
			x := unborn().silent("n2", time.Hour)
			x.s.Initialised = true
			return x
		}(), "", "no-primary"},
		{"nor one whose database streams from the primary",
			dead().instance("n1", func(in *instance) { in.Replicas = []string{"n2:5000", "n3:5000"} }), "", "agent-lost"},
		{"unless the primary itself does not say so any more", func() *sit {
			x := calm(5).silent("n3", time.Hour).silent("n1", time.Second).instance("n1", func(in *instance) { in.Replicas = []string{"n3:5000"} })
			x.v.Self = "n2"
			return x
		}(), "demote n3; request-hosts 5 remove [] lost [n3]", "primary-lost"},
		{"without an api-server a person is asked", noServer(dead()), "", "dead"},
		{"also where the api-server makes no hosts", unmade(dead(), time.Minute), "", "dead"},
		{"a witness is a person's to replace", calm(3).document(nodes(2)).member("n3", func(m *ferryman.Member) { m.Witness, m.Services = true, nil }).silent("n3", time.Hour), "", "dead"},
	})
}

// TestHosts is about what is asked of the api-server, and when again.
func TestHosts(t *testing.T) {
	t.Parallel()
	grow := func() *sit { return calm(3).document(nodes(5)) }
	shrink := func() *sit { return calm(3).document(nodes(2)) }
	asked := func(x *sit, at time.Duration, change func(*ferryman.HostRequest)) *sit {
		x.s.HostRequest = &ferryman.HostRequest{Step: 1, Total: 5, At: t0.Add(-at), Answered: true}
		if change != nil {
			change(x.s.HostRequest)
		}
		return x
	}
	unknown := func(x *sit) *sit { x.v.Hosts = ferryman.HostsView{}; return x }
	noServer := func(x *sit) *sit { x.v.Hosts = ferryman.HostsView{None: true}; return x }
	minimal := func(x *sit) *sit { x.v.Hosts.Minimal = true; return x }
	terminates := func(x *sit) *sit {
		for n := range x.s.Members {
			x.member(string(n), func(m *ferryman.Member) { m.LeaveOnTerminate = true })
		}
		return x
	}
	leaves := func(x *sit) *sit { return x.member("n3", leaving).stopped("n3").silent("n2", time.Second) }
	six := func(r *ferryman.HostRequest) { r.Total = 6 }
	surplus := func(x *sit, names ...string) *sit { x.v.Hosts.Names = append(x.v.Hosts.Names, names...); return x }
	agents := func(x *sit) *sit {
		return x.rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration = 1 }).carrying(ferryman.PartAgents, "n2")
	}

	t.Run("grow", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"as many as are wanted", grow(), "request-hosts 5 remove [] lost []", "hosts"},
			{"one request is outstanding", grow().open(ferryman.OpRequestHosts, "n1", nil), "", "hosts"},
			{"also a previous leader's", grow().open(ferryman.OpRequestHosts, "n2", nil), "", "hosts"},
			{"it is not repeated", asked(grow(), time.Hour, nil).hosts(4 * time.Minute), "", "hosts"},
			{"while hosts are booting it is not either", asked(grow(), 20*time.Minute, nil).hosts(10 * time.Second), "", "hosts"},
			{"nor when it was made a moment ago", asked(grow(), time.Minute, nil).hosts(time.Hour), "", "hosts"},
			{"nor when the api-server does not say what it has", unknown(asked(grow(), time.Hour, nil)), "", "hosts"},
			{"after provisionTimeout of standstill it is", asked(grow(), 5*time.Minute, nil).hosts(5 * time.Minute), "request-hosts 5 remove [] lost []", "hosts"},
			{"another total is another request", asked(grow(), time.Second, func(r *ferryman.HostRequest) { r.Total = 4 }), "request-hosts 5 remove [] lost []", "hosts"},
			{"one that was not taken is repeated",
				asked(grow(), time.Hour, func(r *ferryman.HostRequest) { r.Answered = false }).failed(ferryman.OpRequestHosts, "n1", ago(2*time.Second)), "request-hosts 5 remove [] lost []", ""},
			{"but not by a server that counts anew, which may have taken it",
				minimal(asked(grow(), time.Minute, func(r *ferryman.HostRequest) { r.Answered = false })).failed(ferryman.OpRequestHosts, "n1", ago(time.Minute)), "", "hosts"},
			{"those of nodes that leave come on top, as the api-server counts them", leaves(grow()), "request-hosts 6 remove [] lost []", "hosts"},
			{"not of one that is gone", leaves(grow()).silent("n3", time.Hour), "request-hosts 5 remove [] lost []", "hosts"},
			{"when it is gone fewer are asked for", asked(grow(), time.Minute, six), "request-hosts 5 remove [] lost []", "hosts"},
			{"but not of a server that counts anew, while they boot", minimal(asked(grow(), time.Minute, six)), "", "hosts"},
			{"which is not for ever", minimal(asked(grow(), time.Hour, six)), "request-hosts 5 remove [] lost []", "hosts"},
			{"none while an agent is restarted", agents(grow()), "exit n2", "hosts"},
			{"none while a node is in maintenance", grow().member("n3", maintenance(time.Minute)), "", "hosts"},
			{"without an api-server a person is asked", noServer(grow()), "", "hosts"},
			{"one that makes none is not asked again", unmade(grow(), time.Minute).failed(ferryman.OpRequestHosts, "n1", ago(time.Minute)), "", "hosts"},
			{"which it may have learned an hour later", unmade(grow(), time.Hour).failed(ferryman.OpRequestHosts, "n1", ago(time.Hour)), "request-hosts 5 remove [] lost []", "hosts"},
		})
	})
	t.Run("shrink", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"neither primary nor leader, the last that joined", shrink(), "want n3 leaving", ""},
			{"not the leader", func() *sit { x := shrink(); x.v.Self = "n3"; return x }(), "want n2 leaving", ""},
			{"one at a time", calm(5).document(nodes(3)).member("n5", leaving).stopped("n5"), "demote n5", "shrink"},
			{"not while one is unavailable", calm(4).document(nodes(2)).stopped("n2"), "start n2", "shrink"},
			{"not while one is carried", agents(shrink()), "exit n2", "shrink"},
			{"not in a switchover", shrink().switching(nil).open(ferryman.OpFence, "n1", nil), "", "shrink"},
			{"a minimal server is asked for one less", minimal(terminates(calm(5).document(nodes(3)))), "request-hosts 4 remove [] lost []", ""},
			{"only if whoever it stops leaves for good", minimal(calm(5).document(nodes(3))), "", "shrink"},
			{"the server is told of hosts that left", surplus(calm(3), "n9"), "request-hosts 3 remove [n9] lost []", ""},
			{"nor is one that makes none", surplus(unmade(calm(3), time.Minute), "n9"), "", ""},
			{"which is not asked to choose either", unmade(minimal(terminates(calm(5).document(nodes(3)))), time.Minute), "want n5 leaving", ""},
			{"a minimal one is not: its hosts are its own business", surplus(minimal(calm(3)), "n9"), "", ""},
			{"a request that was met is forgotten", asked(calm(3), time.Minute, func(r *ferryman.HostRequest) { r.Total = 3 }), "forget-request", ""},
		})
	})
}

// unmade has the api-server say that it makes no hosts.
func unmade(x *sit, before time.Duration) *sit { x.v.Hosts.Unmade = t0.Add(-before); return x }

// hosts sets since when the api-server's answer has not changed.
func (x *sit) hosts(stable time.Duration) *sit { x.v.Hosts.Stable = t0.Add(-stable); return x }
