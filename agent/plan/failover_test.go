package plan_test

import (
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/plan"
)

func (x *sit) quiet(d time.Duration) *sit { x.v.Lease.Quiet = ferryman.Duration(d); return x }

// down is a node whose database has not been well for d.
func (x *sit) down(name string, d time.Duration) *sit {
	return x.view(name, func(v *ferryman.NodeView) { v.HealthySince, v.DownSince = time.Time{}, t0.Add(-d) })
}

// failing has a failover from n1 that began a second ago.
func (x *sit) failing(change func(*ferryman.Failover)) *sit {
	x.s.Failover = &ferryman.Failover{From: "n1", Slot: "db", Why: "it is gone", Began: t0.Add(-time.Second), FirstStep: x.s.LastStep + 1}
	if change != nil {
		change(x.s.Failover)
	}
	return x
}

// shut is failing, as the granter saw it.
func (x *sit) shut(quiet time.Duration) *sit {
	x.v.Lease.Closed = x.s.Failover.FirstStep
	return x.quiet(quiet)
}

// gone is failing from a host that does not answer.
func gone(nodes int) *sit { return watched(nodes).silent("n1", 6*time.Second).failing(nil) }

// safe is gone, and its lease is over.
func safe(nodes int) *sit { return fencedNow(gone(nodes)) }

func fencedNow(x *sit) *sit {
	x.s.Failover.Fenced, x.s.Failover.Survey = "no lease can run any more", x.s.LastStep+1
	return x
}

// says has a node answer what it holds.
func (x *sit) says(name, history string, position uint64, blockers ...string) *sit {
	return x.did(ferryman.OpPreflight, name, func(st *step) {
		st.Args.Alone, st.Outcome.Result = true, ferryman.Result{History: history, Position: position, Blockers: blockers}
	})
}

func sync(x *sit, n int) *sit { x.s.Primary.SyncReplicas = n; return x }

// TestLost is about when a primary is to be replaced.
func TestLost(t *testing.T) {
	t.Parallel()
	unwritable := func(in *instance) { in.Writable, in.Healthy = false, false }
	crashed := func() *sit {
		return watched(3).stopped("n1").service("n1", func(s *ferryman.ServiceStatus) { s.Unit.Result = "exit-code" })
	}
	repaired := func(x *sit, ago time.Duration) *sit {
		return x.did(ferryman.OpStart, "n1", func(st *step) { st.Rule, st.Outcome.Ended = ferryman.RuleRepair, t0.Add(-ago) })
	}
	flapped := func(x *sit, times ...time.Duration) *sit {
		for _, d := range times {
			x.s.Failovers = append(x.s.Failovers, t0.Add(-d))
		}
		return x
	}
	upgrading := func() *sit {
		return watched(3).upgrade().preflighted(ferryman.Result{}).carrying(ferryman.PartDatabase, "n1")
	}
	begins := "begin-failover n1"
	t.Run("by its lease", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"it was not renewed", watched(3).silent("n1", 6*time.Second).quiet(5 * time.Second), begins, ""},
			{"nearly", watched(3).silent("n1", 6*time.Second).quiet(5*time.Second - 1), "", "primary-lost"},
			{"by an agent that answers as well", watched(3).quiet(5 * time.Second), begins, ""},
			{"of another epoch", func() *sit { x := watched(3).quiet(time.Hour); x.v.Lease.Epoch = 2; return x }(), "", "complete"},
			{"before it is in force", watched(3).lease(5*second, 5*second, false).quiet(time.Hour), "lease n1 5s of 5s enforced", ""},
			{"in manual mode", calm(3).silent("n1", time.Hour).lead("n2"), "", "primary-lost"},
			{"after the mode became manual", watched(3).document(mode(ferryman.FailoverManual)).silent("n1", time.Hour).quiet(time.Hour), "lease", "primary-lost"},
			{"while a node is carried", upgrading().silent("n1", 6*time.Second).quiet(5 * time.Second), begins, ""},
			{"before the commit point of a switchover", watched(3).quiet(5*time.Second).switching(nil).open(ferryman.OpFence, "n1", nil), begins, ""},
			{"after it, the new one", watched(3).quiet(5*time.Second).silent("n2", 6*time.Second).lead("n3").switching(func(sw *switchover) { sw.Committed, sw.From, sw.To = true, "n3", "n1" }), begins, ""},
			{"with nobody who could replace it", watched(1).lead("n1").quiet(time.Hour), "", ""},
			{"with witnesses only", func() *sit {
				x := watched(3).document(nodes(1)).quiet(time.Hour)
				for _, n := range []string{"n2", "n3"} {
					x.member(n, func(m *ferryman.Member) { m.Witness, m.Services = true, nil })
				}
				return x
			}(), "", "complete"},
			{"while frozen", func() *sit { x := watched(3).quiet(time.Hour); x.s.Frozen = &ferryman.Hold{By: "a person"}; return x }(), "", "frozen"},
		})
	})
	t.Run("by its database", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"it accepts no writes for two leases", watched(3).instance("n1", unwritable).down("n1", 10*time.Second), begins, ""},
			{"it does not for less", watched(3).instance("n1", unwritable).down("n1", 10*time.Second-1), "promote n1 epoch 3", ""},
			{"as long as it is the primary", func() *sit {
				x := watched(3).instance("n1", unwritable).down("n1", time.Hour)
				x.s.Primary.Since = t0.Add(-9 * time.Second)
				return x
			}(), "promote n1 epoch 3", ""},
			{"as this leader saw it", func() *sit {
				x := watched(3).instance("n1", unwritable).down("n1", time.Hour)
				x.v.Since = t0.Add(-9 * time.Second)
				return x
			}(), "promote n1 epoch 3", ""},
			{"it is unwell and accepts writes", watched(3).instance("n1", func(in *instance) { in.Healthy = false }).down("n1", time.Hour), "", "complete"},
			{"it hangs, and accepted writes when it was heard last", watched(3).instance("n1", func(in *instance) { in.Running, in.Healthy = false, false }).down("n1", 10*time.Second), begins, "no-answer"},
			{"it came up without its data", watched(3).instance("n1", func(in *instance) { in.Writable, in.Initialised, in.Healthy = false, false, false }), begins, ""},
			{"it ended and is started again", crashed(), "start n1", ""},
			{"it ended and cannot be started", crashed().failed(ferryman.OpStart, "n1", nil), begins, ""},
			{"it is left alone because it did not last", repaired(repaired(repaired(crashed(), 5*time.Minute), 4*time.Minute), time.Second), begins, "flapping"},
			{"it ended again and again", repaired(repaired(crashed(), 50*time.Second), 10*time.Second), begins + "; start n1", ""},
			{"it ended twice, long ago", repaired(repaired(crashed(), 70*time.Second), 61*time.Second), "start n1", ""},
			{"it is carried", upgrading().instance("n1", unwritable).down("n1", time.Hour), "begin-switchover n3; promote n1 epoch 3", ""},
			{"it hands over", watched(3).instance("n1", unwritable).down("n1", time.Hour).switching(nil).open(ferryman.OpFence, "n1", nil), "", "step"},
			{"its agent is carried", watched(3).rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration = 1 }).carrying(ferryman.PartAgents, "n1").lease(30*second, 30*second, true).holds(3, 30*second).
				instance("n1", unwritable).down("n1", time.Minute), begins + "; exit n1", ""},
			{"its node does not answer", watched(3).instance("n1", unwritable).down("n1", time.Hour).silent("n1", time.Second), "", "primary-lost"},
		})
	})
	t.Run("too often", func(t *testing.T) {
		t.Parallel()
		three := []time.Duration{9 * time.Minute, 5 * time.Minute, time.Minute}
		try(t, []row{
			{"a fourth time within ten minutes", flapped(watched(3).silent("n1", 6*time.Second).quiet(5*time.Second), three...), "", "flapping primary-lost"},
			{"a third time", flapped(watched(3).silent("n1", 6*time.Second).quiet(5*time.Second), three[1:]...), begins, ""},
			{"when the first is long ago", flapped(watched(3).silent("n1", 6*time.Second).quiet(5*time.Second), 10*time.Minute, 5*time.Minute, time.Minute), begins, ""},
			{"a primary that comes back is promoted in place", flapped(watched(3).instance("n1", func(in *instance) { in.Writable = false }).quiet(5*time.Second), three...), "promote n1 epoch 3", "flapping"},
		})
	})
	t.Run("and it is said why", func(t *testing.T) {
		t.Parallel()
		for want, x := range map[string]*sit{
			"its lease of 5s was not renewed for 5s: it broke":   watched(3).quiet(5*time.Second).view("n1", func(v *ferryman.NodeView) { v.Reachable, v.Error = false, "it broke" }),
			"could not be started again":                         crashed().failed(ferryman.OpStart, "n1", nil),
			"its database ended again and again (exit-code)":     repaired(repaired(crashed(), 50*time.Second), 10*time.Second),
			"it came up without its data":                        watched(3).instance("n1", func(in *instance) { in.Writable, in.Initialised = false, false }),
			"it has not accepted writes for 10s: it is too slow": watched(3).instance("n1", func(in *instance) { unwritable(in); in.Reason = "it is too slow" }).down("n1", 10*time.Second),
		} {
			d := plan.Next(x.s, x.v, t0)
			if len(d.Moves) == 0 || !strings.Contains(d.Moves[0].Reason, want) {
				t.Errorf("moves %+v, want one because %s", d.Moves, want)
			}
		}
	})
}

// TestFence is about how it becomes known that the old primary accepts no writes.
func TestFence(t *testing.T) {
	t.Parallel()
	here := func() *sit { return watched(3).failing(nil) }
	kill := func(st *step) { st.Args.Kill = true }
	dead := func(f *ferryman.Failover) { f.By, f.Dead = "anna", true }
	manual := mode(ferryman.FailoverManual)
	stopped := func() *sit { return watched(3).stopped("n1").failing(nil) }
	noLease := func(x *sit) *sit { x.s.Primary.Lease, x.v.Lease = nil, ferryman.LeaseView{Epoch: 3}; return x }
	try(t, []row{
		{"its own node is asked to kill it", here(), "fence n1 epoch 3 kill", "lease"},
		{"it is being killed", here().open(ferryman.OpFence, "n1", kill), "", "step lease"},
		{"it was", here().did(ferryman.OpFence, "n1", kill), "fenced n1", ""},
		{"it was asked and not killed", here().did(ferryman.OpFence, "n1", nil), "fence n1 epoch 3 kill", "lease"},
		{"it is killed again if that failed", here().failed(ferryman.OpFence, "n1", func(st *step) { kill(st); ago(2 * time.Second)(st) }), "fence n1 epoch 3 kill", "lease"},
		{"after a while", here().failed(ferryman.OpFence, "n1", kill), "", "backoff lease"},
		{"what it does for others is withdrawn", here().open(ferryman.OpDrain, "n1", nil), "close 101 cancelled", "busy lease"},
		{"what replaces its process is waited for", stopped().open(ferryman.OpStart, "n1", nil), "", "busy lease"},
		{"one that does not answer is waited for", gone(3).shut(5 * time.Second), "", "lease"},
		{"until no lease can run", gone(3).shut(5500 * time.Millisecond), "fenced n1 expired", ""},
		{"to the end", gone(3).shut(5500*time.Millisecond - 1), "", "lease"},
		{"also a longer one of before", gone(3).lease(5*second, 30*second, true).shut(33*time.Second - 1), "", "lease"},
		{"and not longer", gone(3).lease(5*second, 30*second, true).shut(33 * time.Second), "fenced n1 expired", ""},
		{"a view of before the failover says nothing", gone(3).quiet(time.Hour), "", "lease"},
		{"nor one of the failover before", func() *sit { x := gone(3).shut(time.Hour); x.v.Lease.Closed--; return x }(), "", "lease"},
		{"a person vouches for it", noLease(calm(3).lead("n2").silent("n1", time.Hour).failing(dead)), "fenced n1", ""},
		{"also for one that answers", here().failing(dead), "fenced n1", ""},
		{"in manual mode nothing is done by itself", here().document(manual), "back-failover", ""},
		{"what a fence may have ended goes on", gone(3).document(manual).failed(ferryman.OpFence, "n1", kill).shut(time.Second), "", "lease"},
		{"and what a person asked for", gone(3).failing(func(f *ferryman.Failover) { f.By = "anna" }).document(manual).shut(time.Second), "", "lease"},
		{"also when it is fenced already", safe(3).document(manual), "preflight n2 alone; preflight n3 alone", "survey"},
		{"a freeze does not stop it", func() *sit { x := here(); x.s.Frozen = &ferryman.Hold{By: "a person"}; return x }(), "fence n1 epoch 3 kill", "frozen"},
		{"it is started where it stands", stopped(), "fence n1 epoch 3 kill", "busy lease"},
	})
}

// TestSurvey is about who is asked what it holds, and for how long.
func TestSurvey(t *testing.T) {
	t.Parallel()
	old := func(st *step) { st.Since = t0.Add(-2 * time.Second) }
	alone := func(st *step) { st.Args.Alone = true }
	by := func(x *sit) *sit { x.s.Failover.By = "anna"; return x }
	asks := "preflight n2 alone; preflight n3 alone"
	joined := func(x *sit) *sit { return x.add("n4").document(nodes(4)) }
	before := func(x *sit, d time.Duration) *sit { // all that was asked was answered that long ago
		for i := range x.s.Ledger {
			ago(d)(&x.s.Ledger[i])
		}
		return x
	}
	try(t, []row{
		{"all others are asked", safe(3), asks, "survey"},
		{"and the old primary, if it is back", fencedNow(watched(3).failing(nil)), "preflight n1 alone; " + asks, "survey"},
		{"not a witness", safe(3).member("n3", func(m *ferryman.Member) { m.Witness, m.Services = true, nil }).document(nodes(2)), "preflight n2 alone", "survey"},
		{"not one that does not answer", safe(3).silent("n3", time.Second), "preflight n2 alone", "survey"},
		{"not one whose database does not run", safe(3).stopped("n3"), "preflight n2 alone; start n3", "survey"},
		{"not one that is not admitted", func() *sit { x := joined(safe(3)); delete(x.v.Raft, "n4"); return x }(), asks + "; admit n4", "survey"},
		{"one that leaves holds what it holds", safe(3).member("n3", leaving).document(nodes(2)), asks, "survey leave"},
		{"one in maintenance too", safe(3).member("n3", maintenance(time.Hour)), asks, "survey"},
		{"what they do for the old primary is withdrawn", safe(3).open(ferryman.OpFollow, "n2", func(st *step) { st.ID = 1 }), "close 1 cancelled; preflight n3 alone", "survey busy"},
		{"an answer is waited for", safe(3).says("n2", "h", 70).open(ferryman.OpPreflight, "n3", alone), "", "survey"},
		{"not beyond what must have answered", sync(safe(3), 2).says("n2", "h", 70).open(ferryman.OpPreflight, "n3", alone), "primary n2 epoch 4", ""},
		{"a person waits for all of them", by(sync(safe(3), 2).says("n2", "h", 60).open(ferryman.OpPreflight, "n3", alone)), "", "survey"},
		{"for a while", safe(3).says("n2", "h", 70).open(ferryman.OpPreflight, "n3", func(st *step) { alone(st); old(st) }), "primary n2 epoch 4", ""},
		{"one that failed is asked again, and not waited for", safe(3).says("n2", "h", 70).failed(ferryman.OpPreflight, "n3", func(st *step) { alone(st); ago(2 * time.Second)(st) }), "primary n2 epoch 4; preflight n3 alone", ""},
		{"nor one that is busy with what is not withdrawn", safe(3).says("n2", "h", 70).open(ferryman.OpClone, "n3", old), "primary n2 epoch 4", ""},
		{"which is waited for as well for a while", safe(3).says("n2", "h", 70).open(ferryman.OpStart, "n3", nil), "", "survey"},
		{"an answer of before the fence is none", fencedNow(gone(3).says("n2", "h", 70).says("n3", "h", 70)), asks, "survey"},
		{"nor is what a rollout asked", safe(3).did(ferryman.OpPreflight, "n2", nil).did(ferryman.OpPreflight, "n3", nil), asks, "survey"},
		{"one that could not is asked again after a while", before(safe(3).says("n2", "h", 70, "it is broken").says("n3", "h", 70, "it is broken"), 10*time.Second), asks, "failover-candidate"},
		{"not at once", before(safe(3).says("n2", "h", 70, "it is broken").says("n3", "h", 70, "it is broken"), 9*time.Second), "", "failover-candidate"},
		{"so is one that holds something else by now", before(safe(3).says("n2", "x", 70).says("n3", "x", 69), 10*time.Second), asks, "failover-candidate"},
		{"one that holds what it said is not", before(safe(3).says("n2", "h", 70).says("n3", "h", 70), 10*time.Second), "primary n3 epoch 4", ""},
	})
}

// TestCandidate is about who becomes the primary, and why nobody does.
func TestCandidate(t *testing.T) {
	t.Parallel()
	all := func(x *sit) *sit { return x.says("n2", "h", 70).says("n3", "h", 70) }
	lag := func(limit ferryman.Bytes) func(*ferryman.Document) {
		return func(d *ferryman.Document) { d.Database.Failover.MaxLagBytes = limit }
	}
	had := func(x *sit, position uint64) *sit {
		return x.instance("n1", func(in *instance) { in.Position = position })
	}
	anna := func(to string) func(x *sit) *sit {
		return func(x *sit) *sit { x.s.Failover.By, x.s.Failover.To = "anna", ferryman.NodeID(to); return x }
	}
	back := func() *sit { return fencedNow(watched(3).failing(nil)) }
	unfit := func(x *sit, names ...string) *sit {
		for _, n := range names {
			x.service(n, func(s *ferryman.ServiceStatus) { s.Unit.Unfit = "its unit does as it likes" })
		}
		return x
	}
	commit2, commit3 := "primary n2 epoch 4", "primary n3 epoch 4"
	try(t, []row{
		{"the one that holds most", safe(3).says("n2", "h", 71).says("n3", "h", 70), commit2, ""},
		{"whoever that is", safe(3).says("n2", "h", 70).says("n3", "h", 71), commit3, ""},
		{"of equals the one that does not lead", all(safe(3)), commit3, ""},
		{"of equals the one that is not carried", all(fencedNow(watched(3).silent("n1", 6*time.Second).lead("n3").upgrade().preflighted(ferryman.Result{}).carrying(ferryman.PartDatabase, "n2").failing(nil))),
			commit3 + "; stop n2", ""},
		{"of equals not the old primary", back().says("n1", "h", 70).says("n2", "h", 70).says("n3", "h", 70), commit3, ""},
		{"the old primary in its place, if it holds most", back().says("n1", "h", 71).says("n2", "h", 70).says("n3", "h", 70), "primary n1 epoch 4", ""},
		{"one that is wanted", all(safe(3).member("n3", maintenance(time.Hour))), commit2, ""},
		{"nobody answers", safe(3).silent("n2", time.Second).silent("n3", time.Second), "", "failover-candidate"},
		{"nobody can", safe(3).says("n2", "h", 70, "it is broken").says("n3", "h", 70, "it is broken"), "", "failover-candidate"},
		{"one whose unit makes its lease worth something", unfit(all(safe(3)), "n3"), commit2, ""},
		{"there is none", unfit(all(safe(3)), "n2", "n3"), "", "failover-candidate"},
		{"a person's word does not change that", anna("n3")(unfit(all(safe(3)), "n3")), "", "failover-candidate"},
		{"nobody holds its history", safe(3).says("n2", "x", 70).says("n3", "y", 70), "", "failover-candidate"},

		{"each write is on one, and one of two answers", sync(safe(3).silent("n3", time.Second), 1).says("n2", "h", 70), "", "failover-candidate"},
		{"each write is on both, and one of two answers", sync(safe(3).silent("n3", time.Second), 2).says("n2", "h", 70), commit2, ""},
		{"each write is on one, and both answer", all(sync(safe(3), 1)), commit3, ""},
		{"the old primary alone holds all", sync(back().silent("n2", time.Second).silent("n3", time.Second), 1).says("n1", "h", 70), "primary n1 epoch 4", ""},
		{"a person takes one of two", anna("")(sync(safe(3).silent("n3", time.Second), 1).says("n2", "h", 70)), commit2, ""},
		{"a person takes most", anna("")(sync(safe(3), 1).says("n2", "h", 71).says("n3", "h", 70)), commit2, ""},
		{"a person takes one by name", anna("n3")(sync(safe(3), 1).says("n2", "h", 71).says("n3", "h", 70)), commit3, ""},
		{"a person's choice has to answer", anna("n3")(safe(3).silent("n3", time.Second).says("n2", "h", 71)), "", "failover-candidate"},

		{"asynchronously it may lack a little", all(had(safe(3), 80).document(lag(10))), commit3, ""},
		{"and no more", all(had(safe(3), 81).document(lag(10))), "", "failover-candidate"},
		{"unless a person takes it", anna("")(all(had(safe(3), 81).document(lag(10)))), commit2, ""},
		{"where each write is on another that does not matter", all(sync(had(safe(3), 81).document(lag(10)), 2)), commit3, ""},
		{"nor for the old primary itself", had(back(), 81).document(lag(10)).says("n1", "h", 71).says("n2", "h", 70).says("n3", "h", 70), "primary n1 epoch 4", ""},
		{"another history's position says nothing", all(had(safe(3), 999).instance("n1", func(in *instance) { in.History = "g" }).document(lag(10))), commit3, ""},
	})

	t.Run("it is said what speaks against the one that holds most", func(t *testing.T) {
		t.Parallel()
		x := safe(3).says("n2", "h", 70, "it is broken").says("n3", "x", 7)
		if text := waits(plan.Next(x.s, x.v, t0)); !strings.Contains(text, "by itself: n2: it is broken") {
			t.Errorf("waits %s", text)
		}
	})
	t.Run("it is said who holds what, and who has not said", func(t *testing.T) {
		t.Parallel()
		x := sync(safe(3).silent("n3", time.Second), 1).says("n2", "h", 70)
		text := waits(plan.Next(x.s, x.v, t0))
		for _, want := range []string{"n2 holds 70 of history h", "n3 has not said", "does not answer since", "ferryman failover NODE"} {
			if !strings.Contains(text, want) {
				t.Errorf("waits %s\nwant %q", text, want)
			}
		}
	})
}

// Of those that cannot take its place the one that holds most says why not: that
// the next holds less is no help.
func TestWhyNobodyCanTakeItsPlace(t *testing.T) {
	t.Parallel()
	x := safe(3).says("n2", "x", 71).says("n3", "x", 70)
	if text, want := waits(plan.Next(x.s, x.v, t0)), `n2 holds history "x", and the primary's is "h"`; !strings.Contains(text, want) {
		t.Errorf("waits %s\nwant %q", text, want)
	}
}

// TestDuringAFailover is about what the other rules do meanwhile, and after it.
func TestDuringAFailover(t *testing.T) {
	t.Parallel()
	waiting := func(x *sit) *sit { return sync(x, 1).says("n2", "h", 70) } // for n3, which does not answer
	carried := func(x *sit, name string) *sit {
		return x.upgrade().preflighted(ferryman.Result{}).carrying(ferryman.PartDatabase, name)
	}
	agents := func(x *sit) *sit {
		return x.rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration = 1 })
	}
	next := func(x *sit) *sit { // n2 was made the primary of epoch 4
		x.s.Primary = ferryman.Primary{Node: "n2", Slot: "db", Epoch: 4, Since: t0, Before: "h", Lease: x.s.Primary.Lease}
		x.s.Failover = nil
		x.v.Lease = ferryman.LeaseView{Epoch: 4, Steady: 3600 * second, Length: 5 * second}
		return x.lead("n3")
	}
	silent3 := func() *sit { return safe(3).silent("n3", 30*time.Second) }
	try(t, []row{
		{"nobody follows anybody", waiting(silent3().instance("n2", func(in *instance) { in.Following, in.Epoch = "n9:5000", 2 })), "", "failover"},
		{"also not who is carried", fencedNow(carried(watched(3).silent("n1", 6*time.Second), "n2").runs("n2", "2").instance("n2", still).failing(nil)).says("n2", "h", 70, "no").says("n3", "h", 70, "no"),
			"", "failover-candidate failover"},
		{"nor is what is carried judged meanwhile", fencedNow(carried(watched(3).silent("n1", 6*time.Second), "n2").runs("n2", "2").failing(nil)).says("n2", "h", 70, "no").says("n3", "h", 70, "no"),
			"", "failover-candidate failover"},
		{"but it goes on otherwise", fencedNow(carried(watched(3).silent("n1", 6*time.Second), "n2").stopped("n2").failing(nil)).says("n3", "h", 70, "no"), "switch n2 2", "failover-candidate"},
		{"what ended is started", waiting(silent3()).stopped("n2"), "start n2", "failover-candidate"},
		{"no agent is carried", waiting(agents(silent3())), "", "failover failover-candidate"},
		{"what a failover asked is not what a rollout asks", calm(3).upgrade().says("n2", "h", 70).says("n3", "h", 70, "it is broken"), "preflight n1 2; preflight n2 2; preflight n3 2", ""},
		{"no copy is given up", waiting(safe(3).silent("n3", time.Hour)).add("n4"), "preflight n4 alone; vote n4", "survey swap"},
		{"nobody leaves", waiting(safe(4).silent("n3", 30*time.Second).member("n4", leaving).document(nodes(3))).says("n4", "h", 70), "", "failover-candidate leave"},
		{"no lease is changed", waiting(silent3()).lease(5*second, 30*second, true), "", "failover-candidate"},
		{"a stray is fenced", waiting(silent3().instance("n2", func(in *instance) { in.Writable = true })), "fence n2 epoch 3", "stray-primary"},

		{"then the new one is promoted", next(safe(3)), "promote n2 epoch 4", "no-primary"},
		{"also when it is carried", next(carried(watched(3).silent("n1", 6*time.Second), "n2").runs("n2", "2")), "promote n2 epoch 4", ""},
		{"not what it was asked under its own epoch", next(safe(3)).open(ferryman.OpPromote, "n2", nil), "", "step"},
		{"and is lost like any other", next(safe(3)).quiet(5 * time.Second), "begin-failover n2", ""},
	})
}
