package plan_test

import (
	"testing"
	"time"

	"ferryman"
)

type progress = ferryman.PartProgress

var (
	v2      = ferryman.Release{Archive: &ferryman.Archive{URL: "file:///2", SHA256: "s2", Size: 1}}
	allowed = ferryman.Result{}
)

// ready is an upgrade to version 2 for which every engine has said yes.
func ready(n int) *sit { return calm(n).upgrade().preflighted(allowed) }

func policy(change func(*ferryman.Policy)) func(*ferryman.Document) {
	return func(d *ferryman.Document) { change(&d.Rollout) }
}

func reverting(x *sit) *sit {
	return x.database(func(pp *progress) { pp.Status, pp.Reason = ferryman.PartReverting, "it broke" })
}

func newLeader(x *sit) *sit { x.v.Since = t0.Add(-time.Second); return x }

func paused(x *sit) *sit { x.s.Paused = &ferryman.Hold{By: "a person"}; return x }

// TestRolloutBegins is about what comes before the first node is touched.
func TestRolloutBegins(t *testing.T) {
	t.Parallel()
	both := func() *sit { // agents first
		return calm(3).rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration, d.Database.Version = 1, "2" })
	}
	staging := func() *sit {
		return calm(3).rollout(func(d *ferryman.Document) {
			d.Database.Version, d.Releases = "2", map[string]ferryman.Release{"demodb/2": v2}
		})
	}
	staged := func(x *sit, names ...string) *sit {
		for _, n := range names {
			x.view(n, func(v *ferryman.NodeView) { v.Status.Staged = []string{"sha256:s2"} })
		}
		return x
	}
	blocked := func(x *sit, at time.Duration) *sit {
		return x.did(ferryman.OpPreflight, "n2", func(st *step) {
			ago(at)(st)
			st.Outcome.Result.Blockers = []string{"a replication slot is in use"}
		})
	}
	others := func(x *sit) *sit { return x.did(ferryman.OpPreflight, "n1", nil).did(ferryman.OpPreflight, "n3", nil) }
	thrice := func(x *sit, op ferryman.Op, name string) *sit {
		return x.failed(op, name, ago(time.Minute)).failed(op, name, ago(time.Minute)).failed(op, name, ago(time.Minute))
	}
	missing := func(x *sit) *sit {
		return x.service("n2", func(s *ferryman.ServiceStatus) { s.Unit.Missing = "no such unit" })
	}
	unfit := func(x *sit) *sit {
		return x.service("n2", func(s *ferryman.ServiceStatus) { s.Unit.Unfit = "its unit does as it likes" })
	}
	packaged := func(x *sit) *sit {
		r := ferryman.Release{Package: &ferryman.Package{Name: "demodb", Version: "2"}}
		x.rollout(func(d *ferryman.Document) {
			d.Database.Version, d.Releases = "2", map[string]ferryman.Release{"demodb/2": r}
		})
		for _, n := range []string{"n1", "n2", "n3"} {
			x.view(n, func(v *ferryman.NodeView) { v.Status.Staged = []string{r.Digest()} })
		}
		return x
	}
	agentsOf := func(x *sit) *sit {
		for i := range x.s.Ledger {
			x.s.Ledger[i].Args.Engine = ferryman.AgentEngine
		}
		return x
	}
	stale := func(x *sit) *sit { // generation 3 came while generation 2 is carried
		return x.document(func(d *ferryman.Document) { d.Generation, d.Database.Version = 3, "3" })
	}
	slow := func(x *sit) *sit { return x.database(func(pp *progress) { pp.Progress = t0.Add(-20 * time.Minute) }) }
	try(t, []row{
		{"a new document begins a rollout", stale(calm(3)), "supersede", ""},
		{"agents come before the database", both(), "begin-passage n2 agents", ""},
		{"a release is staged on all first", staging(), "stage n1 2; stage n2 2; stage n3 2", ""},
		{"then all engines are asked", staged(staging(), "n1", "n2", "n3"), "preflight n1 2; preflight n2 2; preflight n3 2", ""},
		{"one that is not staged holds up all", others(staged(staging(), "n1", "n3")).did(ferryman.OpPreflight, "n2", nil), "stage n2 2", ""},
		{"one engine that says no holds up all", blocked(others(calm(3).upgrade()), time.Second), "", "preflight"},
		{"it is asked again after a while", blocked(others(calm(3).upgrade()), 11*time.Second), "preflight n2 2", "preflight"},
		{"and not for ever", blocked(slow(others(calm(3).upgrade())), time.Second), "part database reverting", "preflight"},
		{"so does a unit that is not there", missing(calm(3).upgrade()), "preflight n1 2; preflight n3 2", "preflight"},
		{"and not for ever either", missing(slow(others(calm(3).upgrade()))), "part database reverting", "preflight"},
		{"also where its database does not run", missing(others(calm(3).upgrade()).stopped("n2")), "start n2", "preflight"},
		{"unless a package may bring it", missing(packaged(calm(3).stopped("n2"))), "start n2; preflight n1 2; preflight n3 2", ""},
		{"but not below one that runs", missing(packaged(calm(3))), "preflight n1 2; preflight n3 2", "preflight"},
		{"nor below one that answers, whose unit this agent never saw", missing(packaged(calm(3))).service("n2", func(s *ferryman.ServiceStatus) { s.Unit.Active = false }), "start n2; preflight n1 2; preflight n3 2", "preflight"},
		{"a unit that would not be started again under a lease", unfit(leased(nil).upgrade()), "preflight n1 2; preflight n3 2", "preflight"},
		{"and is without one", unfit(calm(3).upgrade()), "preflight n1 2; preflight n2 2; preflight n3 2", ""},
		{"which each leader measures anew", newLeader(blocked(slow(others(calm(3).upgrade())), time.Second)), "", "preflight"},
		{"a node that does not answer is staged later", others(calm(3).upgrade()).silent("n2", time.Second), "", "budget"},
		{"a node that this leader has not heard of holds up all", newLeader(others(calm(3).upgrade()).view("n2", func(v *ferryman.NodeView) { *v = ferryman.NodeView{} })), "", "unreachable"},
		{"staging is tried a few times", staging().failed(ferryman.OpStage, "n1", ago(time.Minute)).failed(ferryman.OpStage, "n1", ago(time.Minute)), "stage n1 2; stage n2 2; stage n3 2", ""},
		{"and then the part has failed", thrice(staging(), ferryman.OpStage, "n1"), "part database reverting; stage n2 2; stage n3 2", ""},
		{"an instance that could not be asked proves nothing", thrice(others(calm(3).upgrade()), ferryman.OpPreflight, "n2"), "preflight n2 2", ""},
		{"until progressDeadline", thrice(slow(others(calm(3).upgrade())), ferryman.OpPreflight, "n2"), "part database reverting", ""},
		{"an agent that cannot be staged says nothing of the database's release", agentsOf(thrice(staging(), ferryman.OpStage, "n1")), "stage n1 2; stage n2 2; stage n3 2", ""},
		{"attempts before this rollout do not count", thrice(calm(3), ferryman.OpPreflight, "n2").upgrade(), "preflight n1 2; preflight n2 2; preflight n3 2", ""},
		{"a pause comes first", paused(staging()), "", "paused"},
		{"so does the document's", staging().document(func(d *ferryman.Document) { d.Paused = true }), "", "paused"},

		{"a rollout is superseded before its first node", stale(ready(3)), "supersede", ""},
		{"and between two", stale(ready(3).runs("n2", "2").carried("n2")), "supersede", ""},
		{"not while one is carried", stale(ready(3).carrying(ferryman.PartDatabase, "n2").stopped("n2")), "switch n2 2", "supersede"},
		{"and no other begins towards what is not wanted any more",
			stale(ready(4).document(policy(func(p *ferryman.Policy) { p.MaxUnavailable = 2 })).carrying(ferryman.PartDatabase, "n2").stopped("n2")), "switch n2 2", "supersede"},
		{"not while it goes back, and the way back goes on", stale(reverting(ready(3).runs("n2", "2").carried("n2"))), "begin-passage n2 database 1", "supersede"},
		{"which agents that are not carried any more do not hold up",
			stale(reverting(both().runs("n2", "2").carried("n2")).part(ferryman.PartAgents, func(pp *progress) { pp.Status = ferryman.PartOpen })), "begin-passage n2 database 1", "supersede"},
		{"one that stands still holds nothing up",
			stale(ready(3).carrying(ferryman.PartDatabase, "n2").database(func(pp *progress) { pp.Status = ferryman.PartHalted })), "supersede", ""},
		{"one that stands still says so", ready(3).database(func(pp *progress) { pp.Status, pp.Reason = ferryman.PartHalted, "it broke" }), "", "halted"},
		{"a first installation is no rollout", ready(3).database(func(pp *progress) { pp.First = true }), "", "installing"},
	})
}

// TestRolloutOrder is about which node is carried next, and when.
func TestRolloutOrder(t *testing.T) {
	t.Parallel()
	second := func() *sit { return ready(3).runs("n2", "2").carried("n2") }
	third := func() *sit { return second().runs("n3", "2").carried("n3") }
	since := func(x *sit, name string, d time.Duration) *sit {
		return x.view(name, func(v *ferryman.NodeView) { v.HealthySince = t0.Add(-d) })
	}
	baking := func(x *sit, rest time.Duration) *sit {
		return x.database(func(pp *progress) { pp.Carried[0].Ended = t0.Add(rest - time.Minute) })
	}
	told := func(x *sit) *sit { return x.database(func(pp *progress) { pp.Continue = true }) }
	agents := func(n int) *sit {
		return calm(n).rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration = 1 })
	}
	restarted := func(x *sit, names ...string) *sit {
		for _, n := range names {
			x.view(n, func(v *ferryman.NodeView) { v.Status.Agent.RestartGeneration = 1 })
		}
		return x
	}
	two := policy(func(p *ferryman.Policy) { p.MaxUnavailable = 2 })
	night := policy(func(p *ferryman.Policy) { p.Windows = []ferryman.Window{{Start: 2 * time.Hour, End: 5 * time.Hour}} })
	noon := policy(func(p *ferryman.Policy) { p.Windows = []ferryman.Window{{Start: 11 * time.Hour, End: 13 * time.Hour}} })
	manual := policy(func(p *ferryman.Policy) { p.Finalize = ferryman.FinalizeManual })
	try(t, []row{
		{"replicas first", ready(3), "begin-passage n2 database 2", ""},
		{"then the next replica", second(), "begin-passage n3 database 2", ""},
		{"the primary last", third(), "begin-passage n1 database 2", ""},
		{"one that is down already comes first and costs nothing", ready(3).stopped("n3"), "begin-passage n3 database 2; start n3", ""},
		{"parameters that want it reach the primary first",
			calm(3).rollout(func(d *ferryman.Document) { d.Database.Parameters = map[string]string{"a": "b"} }).preflighted(ferryman.Result{PrimaryFirst: true}), "begin-passage n1 database 1", ""},

		{"no more at once than maxUnavailable", ready(3).carrying(ferryman.PartDatabase, "n2"), "stop n2", ""},
		{"two if it is two", ready(4).document(two), "begin-passage n2 database 2; begin-passage n3 database 2", ""},
		{"and not two more at the next look", ready(4).document(two).carrying(ferryman.PartDatabase, "n2").carrying(ferryman.PartDatabase, "n3"), "stop n2; stop n3", ""},
		{"but one more when one is carried", ready(4).document(two).carrying(ferryman.PartDatabase, "n2"), "begin-passage n3 database 2; stop n2", ""},
		{"the primary alone", ready(3).document(two).runs("n2", "2").carried("n2").carrying(ferryman.PartDatabase, "n3"), "stop n3", ""},
		{"what is down for another reason counts", ready(4).silent("n4", time.Second), "", "budget"},
		{"also what is in maintenance", ready(4).member("n4", maintenance(time.Minute)), "", "budget"},
		{"a node that cannot be reached is not carried", second().runs("n1", "2").silent("n3", time.Second), "", "unreachable"},
		{"others have been healthy for minHealthy", since(second(), "n2", 5*time.Second).database(func(pp *progress) { pp.Continue = true }), "", "min-healthy"},
		{"none begins in a switchover", ready(3).switching(nil).open(ferryman.OpFence, "n1", nil), "", "switchover"},
		{"a pause lets no passage begin", paused(second()), "", "paused"},
		{"but those that began end", paused(ready(3).carrying(ferryman.PartDatabase, "n2").stopped("n2")), "switch n2 2", ""},
		{"time paused fails nothing", paused(second().database(func(pp *progress) { pp.Progress = t0.Add(-24 * time.Hour) })), "", "paused"},

		{"the canary bakes", baking(second(), time.Second), "", "bake"},
		{"until it has", baking(second(), 0), "begin-passage n3 database 2", ""},
		{"or a person says continue", told(baking(second(), time.Second)), "begin-passage n3 database 2", ""},
		{"it has to be healthy for as long", since(second(), "n2", 30*time.Second), "", "bake"},
		{"later ones do not bake", since(third(), "n3", 30*time.Second), "begin-passage n1 database 2", ""},
		{"none outside of the windows", ready(3).document(night), "", "window"},
		{"inside of one", ready(3).document(noon), "begin-passage n2 database 2", ""},

		{"agents: nonvoters, voters by name, the leader last", agents(4), "begin-passage n4 agents", ""},
		{"agents: then the voters", restarted(agents(4), "n4"), "begin-passage n2 agents", ""},
		{"agents: the leader last", restarted(agents(4), "n2", "n3", "n4"), "begin-passage n1 agents", ""},
		{"agents: not if Raft would lose its majority", agents(3).silent("n3", time.Second), "", "budget"},
		{"agents: nor with a larger budget", agents(3).document(two).silent("n3", time.Second), "", "quorum"},
		{"agents: not while one is on its way out with its vote", agents(4).document(nodes(3)).member("n2", leaving).stopped("n2"), "vote n4", "quorum"},
		{"agents: not in a switchover", agents(3).switching(nil).open(ferryman.OpFence, "n1", nil), "", "switchover"},

		{"when all are there the part is complete", third().runs("n1", "2").carried("n1"), "part database complete", ""},
		{"when they have been healthy for minHealthy", since(third().runs("n1", "2").carried("n1"), "n3", time.Second), "", "min-healthy"},
		{"or when a person makes it final", third().runs("n1", "2").carried("n1").document(manual), "", "finalize"},
		{"who did", told(third().runs("n1", "2").carried("n1").document(manual)), "part database complete", ""},
		{"nobody is waited for when nothing was carried", ready(3).runs("n1", "2").runs("n2", "2").runs("n3", "2").document(manual), "part database complete", ""},
	})
}

// TestPassage is about one node on its way, and how it fails.
func TestPassage(t *testing.T) {
	t.Parallel()
	carry := func() *sit { return ready(3).carrying(ferryman.PartDatabase, "n2") }
	selects := func(x *sit, version string) *sit {
		return x.service("n2", func(s *ferryman.ServiceStatus) { s.Selected.Version = version })
	}
	times := func(x *sit, n int, op ferryman.Op) *sit {
		for range n {
			x.failed(op, "n2", ago(2*time.Minute))
		}
		return x
	}
	halts := func(x *sit) *sit {
		return x.document(policy(func(p *ferryman.Policy) { p.OnFailure = ferryman.FailureHalt }))
	}
	began := func(x *sit, d time.Duration) *sit {
		pg := x.s.Rollout.Passages["n2"]
		pg.Began = t0.Add(-d)
		x.s.Rollout.Passages["n2"] = pg
		return x.database(func(pp *progress) { pp.Progress = t0.Add(-d) })
	}
	primary := func() *sit {
		return ready(3).runs("n2", "2").carried("n2").runs("n3", "2").carried("n3").carrying(ferryman.PartDatabase, "n1")
	}
	before := func(in *instance) { in.Following, in.Epoch = "n4:5000", 2 } // the primary of then
	noReturn := func(x *sit) *sit { return x.preflighted(ferryman.Result{NoReturn: true}) }
	agent := func(version string) *sit {
		x := calm(3).rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration, d.Agent.Version = 1, version })
		return x.carrying(ferryman.PartAgents, "n2")
	}
	putBack := func(x *sit, name, version string) *sit {
		return x.view(name, func(v *ferryman.NodeView) {
			v.Status.BootID, v.Status.PutBack = "b2", &ferryman.PutBack{Version: version, Reason: "it ended 2 times"}
		})
	}
	exited := func(x *sit) *sit { return x.did(ferryman.OpExit, "n2", ago(time.Minute)) }
	straggler := func(x *sit, version string) *sit { // the last node came with another agent
		return x.add("n4").document(nodes(4)).view("n4", func(v *ferryman.NodeView) {
			v.Status.Release, v.Status.Agent.Version, v.Status.Selected = "sha256:x", version, []string{"ferryman/" + version}
		})
	}
	knows := func(x *sit, formats ...uint32) *sit {
		for i, f := range formats {
			x.view([]string{"n1", "n2", "n3"}[i], func(v *ferryman.NodeView) { v.Status.Format = f })
		}
		return x
	}
	gone := func(x *sit) *sit { // and is carried to what all have
		x.s.Rollout.Ended = time.Time{}
		c := x.s.Complete[ferryman.PartAgents]
		return straggler(x, "9").part(ferryman.PartAgents, func(pp *progress) { pp.Status, pp.From, pp.To = ferryman.PartOpen, c, c }).carrying(ferryman.PartAgents, "n4")
	}
	crashes := func(restarts int) *sit {
		x := ready(3).runs("n2", "2").carried("n2").stopped("n2")
		for range restarts {
			x.did(ferryman.OpStart, "n2", func(st *step) { ago(9 * time.Minute)(st); st.Rule = ferryman.RuleRepair })
		}
		return x
	}
	failing := func() *sit { return times(selects(carry(), "2").stopped("n2"), 3, ferryman.OpStart) }
	first := func(pp *progress) { pp.First = true }
	t.Run("goes on", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"one that came with another agent is carried when nothing else is", straggler(calm(3), "9"), "carry-agents n4", ""},
			{"to what all have", gone(calm(3)), "switch n4 ", ""},
			{"a format that all understand is taken when nothing is carried", knows(calm(3), 3, 2, 2), "raise-format to 2", ""},
			{"not one that somebody does not", knows(calm(3), 3, 1, 3), "", ""},
			{"nor while somebody does not say", knows(calm(3), 2, 2, 2).silent("n2", time.Second), "", ""},
			{"nor before one with another agent is carried", knows(straggler(calm(3), "9"), 2, 2, 2), "carry-agents n4", ""},
			{"nor while an agent may be put back", knows(agent("9"), 2, 2, 2), "switch n2 9", ""},
			{"an agent that is there has arrived, also while the rest stands still", func() *sit {
				x := agent("9").view("n2", func(v *ferryman.NodeView) {
					v.Status.Agent, v.Status.BootID = ferryman.Target{Version: "9", RestartGeneration: 1}, "b2"
				})
				return x.part(ferryman.PartAgents, func(pp *progress) { pp.Status = ferryman.PartHalted })
			}(), "end-passage n2", "halted"},
			{"one that was switched and did not end yet is switched back", func() *sit {
				x := agent("9").view("n2", func(v *ferryman.NodeView) { v.Status.Selected = []string{"ferryman/9"} })
				pg := x.s.Rollout.Passages["n2"]
				pg.Goal = x.s.Complete[ferryman.PartAgents]
				x.s.Rollout.Passages["n2"] = pg
				return x.part(ferryman.PartAgents, func(pp *progress) { pp.Status = ferryman.PartReverting })
			}(), "switch n2 ", ""},
			{"it stops", carry(), "stop n2", ""},
			{"is switched", carry().stopped("n2"), "switch n2 2", ""},
			{"starts", selects(carry(), "2").stopped("n2"), "start n2", ""},
			{"follows", carry().runs("n2", "2").instance("n2", still), "follow n2 epoch 3 from n1:5000", ""},
			{"catches up", carry().runs("n2", "2").instance("n2", func(in *instance) { in.Streaming = false }), "", "passage"},
			{"is verified", carry().runs("n2", "2"), "verify n2 h:70", ""},
			{"and has ended", carry().runs("n2", "2").did(ferryman.OpVerify, "n2", nil), "end-passage n2", ""},
			{"the primary hands over first", primary(), "begin-switchover n2", ""},
			{"to a successor that streams", primary().instance("n2", still).instance("n3", still), "follow n2 epoch 3 from n1:5000; follow n3 epoch 3 from n1:5000", "switchover-candidate"},
			{"from the primary", primary().instance("n2", before).instance("n3", before), "follow n2 epoch 3 from n1:5000; follow n3 epoch 3 from n1:5000", "switchover-candidate"},
			{"a release that is missing here is staged", carry().stopped("n2").release(v2), "stage n2 2; stage n1 2; stage n3 2", ""},
			{"a node goes back as its own part does, whatever the agents' part is about",
				times(selects(carry(), "2").stopped("n2"), 3, ferryman.OpStart).database(func(pp *progress) { pp.Status = ferryman.PartReverting }).
					part(ferryman.PartAgents, func(pp *progress) { pp.Status = ferryman.PartOpen }), "part agents complete; start n2", ""},
			{"a failed step is tried again", times(selects(carry(), "2").stopped("n2"), 2, ferryman.OpStart), "start n2", ""},
			{"who does not answer is waited for", carry().silent("n2", time.Second), "", "unreachable"},
			{"a slow one has progressDeadline", began(carry().runs("n2", "2").instance("n2", func(in *instance) { in.Streaming = false }), 19*time.Minute), "", "passage"},
			{"which each leader measures anew", newLeader(began(carry(), time.Hour)), "stop n2", ""},
			{"progress elsewhere moves it on", began(carry(), time.Hour).database(func(pp *progress) { pp.Progress = t0 }), "stop n2", ""},
			{"what depends on others proves nothing", times(carry().runs("n2", "2").instance("n2", still), 9, ferryman.OpFollow), "follow n2 epoch 3 from n1:5000", ""},
			{"one crash is anyone's", crashes(0), "start n2", "bake"},
		})
	})
	t.Run("fails", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"what is tried too often goes back", failing(), "part database reverting", ""},
			{"what is done and does not hold too", times(selects(carry(), "2").stopped("n2"), 2, ferryman.OpStart).did(ferryman.OpStart, "n2", ago(time.Minute)), "part database reverting", ""},
			{"or stands still, if the policy says so", halts(failing()), "part database halted", ""},
			{"or nothing was ever complete", failing().database(first), "part database halted", ""},
			{"progressDeadline", began(carry(), 20*time.Minute), "part database reverting", ""},
			{"a way back that fails stands still", reverting(began(carry(), 20*time.Minute)), "part database halted", ""},
			{"a way back tries for as long as that takes", reverting(failing()), "start n2", ""},
			{"after the point of no return it stands still", noReturn(began(carry(), 20*time.Minute)).runs("n1", "2"), "part database halted", ""},
			{"before it goes back", noReturn(began(carry(), 20*time.Minute)), "part database reverting", ""},
			{"a carried one that crashed again and again", crashes(2), "part database reverting; start n2", ""},
			{"who is silent for too long is given up", carry().silent("n2", time.Minute), "end-passage n2 lost; request-hosts 3 remove [] lost [n2]", ""},
			{"so is its restarted agent", agent("").silent("n2", time.Minute), "end-passage n2 lost", "hosts"},
			{"an agent of a new version is blamed", agent("9").silent("n2", time.Minute), "part agents reverting; end-passage n2 lost", "hosts"},
			{"an agent that its host put back", putBack(exited(agent("9")), "n2", "9"), "part agents reverting", ""},
			{"not for an earlier try", putBack(agent("9"), "n2", "9"), "switch n2 9", ""},
			{"nor for another release", putBack(exited(agent("9")), "n2", "8"), "switch n2 9", ""},
			{"also one that was carried and is put back later",
				putBack(calm(3).rollout(func(d *ferryman.Document) { d.Agent.Version = "9" }).part(ferryman.PartAgents, func(pp *progress) {
					pp.Carried = []ferryman.Carried{{Node: "n2", Ended: t0}}
				}), "n2", "9"), "part agents reverting", ""},
			{"one that came with another agent and puts back that of all", putBack(gone(calm(3)).did(ferryman.OpExit, "n4", ago(time.Minute)), "n4", ""), "part agents halted", ""},
			{"silence is measured by each leader anew", newLeader(carry().silent("n2", time.Hour)), "", "unreachable"},
		})
	})
	t.Run("goes back", func(t *testing.T) {
		t.Parallel()
		undone := func() *sit { return reverting(ready(3).runs("n2", "2").carried("n2")) }
		night := policy(func(p *ferryman.Policy) { p.Windows = []ferryman.Window{{Start: 2 * time.Hour, End: 5 * time.Hour}} })
		try(t, []row{
			{"those that were carried are carried back", undone(), "begin-passage n2 database 1", ""},
			{"outside of windows and without baking",
				undone().document(night).database(func(pp *progress) { pp.Carried[0].Ended = t0 }), "begin-passage n2 database 1", ""},
			{"also one that is down", undone().stopped("n2"), "begin-passage n2 database 1; start n2", ""},
			{"a person's pause holds it", paused(undone()), "", "paused"},
			{"the budget counts", undone().silent("n3", time.Second), "", "budget"},
			{"it ends when all are back", undone().runs("n2", "1"), "part database reverted", ""},
			{"it needs no preflight", reverting(calm(3).upgrade().runs("n2", "2")), "begin-passage n2 database 1", ""},
			{"a node on neither side needs no way back itself", ready(4).runs("n2", "0"), "begin-passage n2 database 2", ""},
			{"a node on neither side that does not answer is waited for",
				ready(4).document(policy(func(p *ferryman.Policy) { p.MaxUnavailable = 2 })).runs("n4", "0").silent("n4", time.Second), "", "versions"},
			{"the way back of one on neither side costs its budget", ready(4).runs("n4", "0").silent("n3", time.Second), "", "budget"},
			{"a restart brings no version",
				calm(4).rollout(func(d *ferryman.Document) { d.Database.RestartGeneration = 1 }).preflighted(allowed).runs("n1", "1"), "begin-passage n2 database 1", ""},
			{"after a superseded rollout there are never three versions",
				ready(4).runs("n4", "0"), "begin-passage n4 database 1", ""},
			{"also when nobody runs what was complete any more", ready(3).runs("n1", "0").runs("n2", "0").runs("n3", "0"), "begin-passage n2 database 1", ""},
			{"nor by one that leaves", ready(4).document(nodes(3)).member("n4", func(m *ferryman.Member) { m.Want, m.Lost = ferryman.WantLeaving, true }).runs("n4", "0").silent("n4", time.Hour),
				"remove n4; request-hosts 3 remove [n4] lost []", "versions"},
			{"the way back begins with the one that makes three", reverting(ready(3).runs("n1", "0").runs("n2", "2").runs("n3", "2")), "begin-passage n1 database 1", ""},
		})
	})
}

// release makes version 2 come as an archive.
func (x *sit) release(r ferryman.Release) *sit {
	x.database(func(pp *progress) { pp.To.Release = r })
	for n, pg := range x.s.Rollout.Passages {
		pg.Goal.Release = r
		x.s.Rollout.Passages[n] = pg
	}
	return x
}
