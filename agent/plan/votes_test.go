package plan_test

import (
	"testing"
	"time"

	"ferryman"
)

func TestVotes(t *testing.T) {
	t.Parallel()
	all := func(n int) *sit { // everybody votes
		x := calm(n)
		for i := 1; i <= n; i++ {
			x.v.Raft[id(i)] = ferryman.Voter
		}
		return x
	}
	none := func(n int) *sit { // nobody but the leader votes
		x := calm(n)
		for i := 2; i <= n; i++ {
			x.v.Raft[id(i)] = ferryman.Nonvoter
		}
		return x
	}
	zones := func(x *sit, zs ...string) *sit {
		for i, z := range zs {
			x.member(string(id(i+1)), func(m *ferryman.Member) { m.Zone = z })
		}
		return x
	}
	most := func(x *sit, n int) *sit { x.v.Limits.MaxVoters = n; return x }
	behind := func(x *sit, names ...string) *sit {
		for _, n := range names {
			x.view(n, func(v *ferryman.NodeView) { v.CaughtUp = false })
		}
		return x
	}
	lent := func(x *sit, name string) *sit { // demoted for the restart of its agent
		x.rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration = 1 }).carrying(ferryman.PartAgents, name)
		x.v.Raft[ferryman.NodeID(name)] = ferryman.Nonvoter
		return x
	}
	try(t, []row{
		{"two nodes have one voter", none(2), "", ""},
		{"three have three: the first", none(3), "vote n2", ""},
		{"and the next", func() *sit { x := none(3); x.v.Raft["n2"] = ferryman.Voter; return x }(), "vote n3", ""},
		{"four have three", calm(4), "", ""},
		{"seven have five", calm(7), "", ""},
		{"or as many as maxVoters says", most(none(7), 7).silent("n2", 0), "vote n3", ""},
		{"at most maxVoters", most(calm(5), 3), "demote n5", ""},
		{"who has not caught up gets none", behind(none(3), "n2", "n3"), "", ""},
		{"nor if that would make the number even", behind(none(3), "n2"), "", ""},
		{"nor who does not answer", none(3).silent("n2", time.Second), "", ""},
		{"nor who is in maintenance", none(3).member("n2", maintenance(time.Minute)), "", ""},
		{"nor who is being carried", none(3).upgrade().preflighted(ferryman.Result{}).carrying(ferryman.PartDatabase, "n2"), "stop n2", ""},
		{"a vote goes to the zone that has fewest", zones(none(4), "a", "a", "b", "c"), "vote n3", ""},
		{"one vote at a time", none(3).open(ferryman.OpVote, "n2", nil), "", "step"},
		{"none while leadership moves", none(3).open(ferryman.OpTransfer, "n1", nil), "", "busy"},
		{"one too many loses its vote, who joined last", all(4), "demote n4", ""},
		{"who joined last in the fullest zone", zones(all(4), "a", "b", "b", "c"), "demote n3", ""},
		{"never the leader", func() *sit { x := all(2); x.v.Self = "n2"; return x }(), "demote n1", ""},
		{"never who does not answer", all(4).silent("n4", time.Second), "demote n3", ""},
		{"nor while a node is carried", all(4).upgrade().preflighted(ferryman.Result{}).carrying(ferryman.PartDatabase, "n2"), "stop n2", ""},
		{"a vote that was lent is still one's own", lent(all(3).add("n4").document(nodes(4)), "n2"), "exit n2", ""},
		{"of three, a dead one keeps its vote until a newcomer has one", calm(3).silent("n3", time.Hour), "request-hosts 3 remove [] lost [n3]", ""},
		{"of four, it loses it", all(4).silent("n4", time.Hour), "demote n4; request-hosts 4 remove [] lost [n4]", ""},
		{"unless that leaves no majority", all(4).silent("n4", time.Hour).silent("n3", time.Second).silent("n2", time.Second), "request-hosts 4 remove [] lost [n4]", ""},
	})
}

// TestDemotion is the rule of the design's section 7 for an agent's restart.
func TestDemotion(t *testing.T) {
	t.Parallel()
	restart := func(n int, always bool) *sit {
		return calm(n).rollout(func(d *ferryman.Document) {
			d.Agent.RestartGeneration = 1
			if always {
				d.Rollout.DemoteOnRestart = ferryman.DemoteAlways
			}
		}).carrying(ferryman.PartAgents, "n2")
	}
	raft := func(x *sit, s ferryman.Suffrage, names ...ferryman.NodeID) *sit {
		for _, n := range names {
			x.v.Raft[n] = s
		}
		return x
	}
	back := func(x *sit) *sit {
		return x.view("n2", func(v *ferryman.NodeView) { v.Status.Agent.RestartGeneration = 1 })
	}
	behind := func(v *ferryman.NodeView) { v.CaughtUp = false }
	try(t, []row{
		{"two: the only voter is another", restart(2, false), "exit n2", ""},
		{"two voters keep their votes", raft(restart(2, false), ferryman.Voter, "n2"), "exit n2", ""},
		{"three keep theirs", restart(3, false), "exit n2", ""},
		{"three and always: it is demoted", restart(3, true), "demote n2", ""},
		{"three and a spare: the spare gets a vote first", restart(4, false), "vote n4", ""},
		{"then the voter is demoted", raft(restart(4, false), ferryman.Voter, "n4"), "demote n2", ""},
		{"then its agent ends", raft(raft(restart(4, false), ferryman.Voter, "n4"), ferryman.Nonvoter, "n2"), "exit n2", ""},
		{"and it does not get its vote back, the spare has its seat",
			back(raft(raft(restart(4, false), ferryman.Voter, "n4"), ferryman.Nonvoter, "n2")), "end-passage n2", ""},
		{"a spare that has not caught up is none", restart(4, false).view("n4", behind), "exit n2", ""},
		{"five: it is demoted", restart(5, false), "demote n2", ""},
		{"then its agent ends, no other gets a vote", raft(restart(6, false), ferryman.Nonvoter, "n2"), "exit n2", ""},
		{"it has to catch up", back(raft(restart(5, false), ferryman.Nonvoter, "n2")).view("n2", behind), "", "passage"},
		{"and gets its vote back", back(raft(restart(5, false), ferryman.Nonvoter, "n2")), "vote n2", ""},
		{"then it is carried", back(restart(5, false)), "end-passage n2", ""},
		{"who had no vote gets none", func() *sit {
			x := raft(restart(5, false), ferryman.Nonvoter, "n2", "n3")
			x.s.Rollout.Passages["n2"] = ferryman.Passage{Part: ferryman.PartAgents, Began: t0, FirstStep: 101, Goal: x.s.Desired(ferryman.PartAgents)}
			return back(x)
		}(), "end-passage n2", ""},
	})
}
