package plan_test

import (
	"testing"
	"time"

	"ferryman"
)

// leased is a calm cluster under automatic failover: n2 leads, and n1 holds the
// lease of 5s, which it has just renewed.
func leased(change func(*ferryman.Lease, *ferryman.LeaseView)) *sit {
	x := calm(3)
	x.v.Self = "n2"
	x.document(func(d *ferryman.Document) {
		d.Database.Failover = ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic, LeaseTTL: seconds(5)}
	})
	x.s.Primary.Lease = &ferryman.Lease{Length: seconds(5), Longest: seconds(5), Enforced: true}
	x.v.Lease = ferryman.LeaseView{Epoch: 3, Steady: seconds(3600), Length: seconds(5)}
	x.view("n1", func(v *ferryman.NodeView) { v.Status.Lease = &ferryman.LeaseStatus{Epoch: 3, Length: seconds(5)} })
	if change != nil {
		change(x.s.Primary.Lease, &x.v.Lease)
	}
	return x
}

// A lease that is held from before failover was manual may be let go any moment.
func TestOnlyALeaseOfThisSerialIsEnforced(t *testing.T) {
	t.Parallel()
	offered := func(serial uint64) *sit {
		return leased(func(l *ferryman.Lease, _ *ferryman.LeaseView) { l.Serial, l.Enforced = 8, false }).
			view("n1", func(v *ferryman.NodeView) { v.Status.Lease.Serial = serial })
	}
	try(t, []row{
		{"it is held", offered(8), "lease n1 5s of 5s enforced", ""},
		{"another is", offered(7), "", "lease"},
	})
}

func seconds(n int) ferryman.Duration { return ferryman.Duration(n) * ferryman.Duration(time.Second) }

// What the longest may still run for is forgotten after it cannot any more.
func TestALeaseIsShortenedForGoodOnlyAfterTheLongest(t *testing.T) {
	t.Parallel()
	shortened := func(steady, length int) *sit {
		return leased(func(l *ferryman.Lease, v *ferryman.LeaseView) {
			l.Longest, v.Steady, v.Length = seconds(20), seconds(steady), seconds(length)
		})
	}
	try(t, []row{
		{"in force", leased(nil), "", "complete"},
		{"the longest may run", shortened(21, 5), "", "complete"},
		{"it cannot any more", shortened(22, 5), "lease n1 5s of 5s enforced", ""},
		{"the view is of before, and its time that of another length", shortened(3600, 20), "", "complete"},
	})
}

func TestAPrimaryThatRenewsNoMoreIsReplaced(t *testing.T) {
	t.Parallel()
	quiet := func(quiet, steady int) *sit {
		return leased(func(_ *ferryman.Lease, v *ferryman.LeaseView) { v.Quiet, v.Steady = seconds(quiet), seconds(steady) })
	}
	manual := quiet(6, 3600).document(func(d *ferryman.Document) { d.Database.Failover.Mode = ferryman.FailoverManual })
	try(t, []row{
		{"it may still renew", quiet(4, 3600), "", "complete"},
		{"it does not", quiet(5, 3600), "begin-failover n1", ""},
		{"the lease was made shorter, and it may not know yet", quiet(6, 1), "", "complete"},
		{"it knows", quiet(6, 5), "begin-failover n1", ""},
		{"failover is manual now", manual, "lease", ""},
	})
}

// surveying has a failover from n1, which is fenced, so that the others are asked.
func surveying() *sit { return fencedNow(leased(nil).silent("n1", time.Second).failing(nil)) }

// A rollout asks whether a version can be taken, a failover what is held.
func TestAPreflightAnswersOnlyWhoAsked(t *testing.T) {
	t.Parallel()
	alone := func(st *ferryman.Step) { st.Args.Alone = true }
	told := func(x *sit) *sit { return x.did(ferryman.OpPreflight, "n3", alone) }
	try(t, []row{
		{"the others are asked", surveying(), "preflight n2 alone; preflight n3 alone", "survey"},
		{"the rollout's question says nothing of what is held", told(surveying()).did(ferryman.OpPreflight, "n2", nil), "preflight n2 alone", "survey"},
		{"nor while it is asked", told(surveying()).open(ferryman.OpPreflight, "n2", nil), "close 102 cancelled", "survey"},
		{"what is held says nothing to the rollout", told(calm(3).upgrade()), "preflight n1 2; preflight n2 2; preflight n3 2", ""},
	})
}

// Whoever is dead or leaves may hold the only copy, as long as there is no primary.
func TestNoCopyIsGivenUpWithoutAPrimary(t *testing.T) {
	t.Parallel()
	dead := func(x *sit) *sit {
		x.v.Self = "n2"
		x.add("n4")
		return x.silent("n3", time.Hour)
	}
	empty := func(x *sit) *sit {
		return x.instance("n1", func(in *ferryman.Instance) { in.Initialised, in.Writable = false, false })
	}
	try(t, []row{
		{"the dead is replaced", dead(calm(3)), "want n3 leaving lost; vote n4", ""},
		{"not while the primary has no data", empty(dead(calm(3))), "vote n4", "swap"},
		{"not while the primary does not answer", dead(calm(3)).silent("n1", time.Second), "vote n4", "swap"},
		{"nor while it hangs and others may hold more", func() *sit {
			x := dead(calm(3)).instance("n1", func(in *ferryman.Instance) { in.Running, in.Healthy = false, false })
			x.s.Primary.SyncReplicas = 1
			return x
		}(), "vote n4", "swap"},
		{"while a primary that holds its data is down", dead(calm(3)).stopped("n1").instance("n1", func(in *ferryman.Instance) { in.Initialised = true }), "want n3 leaving lost; start n1; vote n4", ""},
	})
}

func TestAPrimaryThatLivesAndDoesNotServeIsReplaced(t *testing.T) {
	t.Parallel()
	hangs := func(d int) *sit {
		x := leased(nil).instance("n1", func(in *ferryman.Instance) { in.Running, in.Healthy = false, false })
		return x.view("n1", func(v *ferryman.NodeView) { v.HealthySince, v.DownSince = time.Time{}, t0.Add(-seconds(d).Std()) })
	}
	empty := func(committed bool) *sit {
		x := leased(nil).switching(func(sw *switchover) { sw.From, sw.To, sw.Committed = "n2", "n1", committed })
		if !committed {
			x.s.Switchover.From, x.s.Switchover.To = "n1", "n2"
		}
		return x.instance("n1", func(in *ferryman.Instance) { in.Initialised, in.Writable = false, false })
	}
	try(t, []row{
		{"it hangs for a moment", hangs(9), "", "no-answer"},
		{"it hangs for two lengths of the lease", hangs(10), "begin-failover n1", ""},
		{"the successor of a switchover that was committed has no data", empty(true), "begin-failover n1", ""},
		{"a switchover that was not can go back", empty(false), "fence n1 epoch 3", ""},
	})
}

// What a member holds that leaves may be all that there is.
func TestAMemberThatLeavesIsAskedToo(t *testing.T) {
	t.Parallel()
	leaves := func(x *sit) *sit {
		m := x.s.Members["n3"]
		m.Want = ferryman.WantLeaving
		x.s.Members["n3"] = m
		x.v.Hosts.None = true
		return x
	}
	holds := func(x *sit, name string, position uint64) *sit {
		return x.did(ferryman.OpPreflight, name, func(st *ferryman.Step) {
			st.Args.Alone, st.Outcome.Result = true, ferryman.Result{Position: position, History: "h"}
		})
	}
	told := func(n2, n3 uint64) *sit {
		x := leaves(surveying())
		x.s.Primary.History, x.s.Primary.SyncReplicas = "h", 1
		return holds(holds(x, "n2", n2), "n3", n3)
	}
	try(t, []row{
		{"it is asked", leaves(surveying()), "preflight n2 alone; preflight n3 alone", "survey"},
		{"its database is started to be asked", leaves(surveying()).stopped("n3"), "preflight n2 alone; start n3", "survey"},
		{"another that holds as much goes before it", told(70, 70), "primary n2 epoch 4", ""},
		{"it becomes the primary where it holds most", told(70, 71), "primary n3 epoch 4", ""},
	})
}
