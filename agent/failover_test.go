package agent_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
	fakedb "ferryman/dbhooks/fake"
	"ferryman/systemd"
)

// automatic is a document that wants failover without a person.
func automatic(nodes int, generation uint64, ttl string) string {
	return document(nodes, generation, "  failover: {mode: automatic, leaseTTL: "+ttl+"}")
}

// guarded tells that failover is automatic in force, on a settled cluster whose
// leader is not beside the primary.
func guarded(n int) func(ferryman.Report) bool {
	whole := settled(n)
	return func(r ferryman.Report) bool {
		l := r.State.Primary.Lease
		return whole(r) && l != nil && l.Enforced && l.Longest == l.Length && r.State.Failover == nil && r.View.Self != r.State.Primary.Node
	}
}

// watched forms a cluster under automatic failover, of which it is committed that
// another holds each write that is acknowledged.
func (l *lab) watched(ttl string) (r ferryman.Report, primary *host) {
	l.t.Helper()
	l.form()
	l.db.Sync(1)
	l.doc.set(automatic(len(l.hosts), 2, ttl))
	whole := guarded(len(l.hosts))
	r, _ = l.until("automatic failover is in force", 5*time.Minute, func(r ferryman.Report) bool { return whole(r) && r.State.Primary.SyncReplicas == 1 })
	return r, l.primary(r)
}

func (l *lab) primary(r ferryman.Report) *host {
	return l.hosts[r.State.Members[r.State.Primary.Node].Name]
}

// replaced waits for a primary of a later epoch that accepts writes.
func (l *lab) replaced(before ferryman.Report, limit time.Duration) ferryman.Report {
	l.t.Helper()
	r, _ := l.until("another primary", limit, func(r ferryman.Report) bool {
		if r.State.Primary.Epoch <= before.State.Primary.Epoch {
			return false
		}
		svc, _ := r.View.Nodes[r.State.Primary.Node].Status.Service("db")
		return svc.Instance.Writable
	})
	return r
}

// lostNone fails the test if the primary misses a write that was acknowledged.
func (l *lab) lostNone(r ferryman.Report) {
	l.t.Helper()
	if missing := l.db.Missing(l.primary(r).cfg.Database.Address); len(missing) > 0 {
		l.t.Errorf("the primary misses %q", missing)
	}
}

func (l *lab) write(h *host, value string) {
	l.t.Helper()
	if err := l.db.Write(h.cfg.Database.Address, value); err != nil {
		l.t.Fatal(err)
	}
}

func TestAPrimaryThatIsLostWithItsHostIsReplaced(t *testing.T) {
	for _, ttl := range []string{"1s", "5s", "60s"} {
		t.Run(ttl, func(t *testing.T) {
			inLab(t, 30, three, func(t *testing.T, l *lab) {
				before, old := l.watched(ttl)
				l.write(old, "before")
				old.die()
				began := time.Now()
				after := l.replaced(before, 3*time.Minute)
				lease := before.State.Primary.Lease
				if took := time.Since(began); took > lease.Over()+time.Second {
					t.Errorf("it took %v, with a lease of %v", took, lease.Length)
				}
				l.lostNone(after)
				old.boots()
				after, _ = l.until("whole again", 5*time.Minute, guarded(3))
				if after.State.Primary.Epoch != before.State.Primary.Epoch+1 {
					t.Errorf("primary = %+v, want one failover", after.State.Primary)
				}
				l.lostNone(after)
			})
		})
	}
}

// The primary is cut off from everybody, and its database goes on: its guard
// ends it before another is promoted, which lab.holds sees to.
func TestAPrimaryThatIsCutOffIsFencedAndReplaced(t *testing.T) {
	inLab(t, 31, three, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		l.write(old, "before")
		l.links.Isolate(old.cfg.Node.Address)
		after := l.replaced(before, time.Minute)
		if old.guard.Kills() != 1 || old.guard.Armed() {
			t.Errorf("the guard killed %d times", old.guard.Kills())
		}
		l.lostNone(after)
		b, _ := old.backend()
		s, _ := b.Status()
		if text := strings.Join(s.Problems, "; "); !strings.Contains(text, "ran out") || !strings.Contains(text, "majority") {
			t.Errorf("the node that was cut off says %q, want that its lease ran out and what to do", text)
		}
		l.links.Rejoin(old.cfg.Node.Address)
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}

// A leader that was cut off a moment ago does not know it yet. It grants nothing.
func TestALeaderThatIsCutOffGrantsNothing(t *testing.T) {
	inLab(t, 37, three, func(t *testing.T, l *lab) {
		r, primary := l.watched("5s")
		_, leader, _ := l.report()
		b, _ := leader.backend()
		ctx, cancel := context.WithTimeout(rpc.WithCaller(context.Background(), identity.Peer{Cluster: clusterID, Name: primary.name}), 2*time.Second)
		defer cancel()
		if got, err := b.Renew(ctx, rpc.RenewRequest{Epoch: r.State.Primary.Epoch}); err != nil || got.Length.Std() != 5*time.Second {
			t.Fatalf("a leader that leads: got %v, %v; want a lease of 5s", got, err)
		}
		l.links.Isolate(leader.cfg.Node.Address)
		if got, err := b.Renew(ctx, rpc.RenewRequest{Epoch: r.State.Primary.Epoch}); err == nil {
			t.Errorf("a leader that was cut off granted %v", got)
		}
		l.links.Rejoin(leader.cfg.Node.Address)
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}

// A unit that may come up with writes by itself makes a lease worthless: its node
// gives up the primary, is none again, and does not even start it, until that is
// mended.
func TestAUnitThatMayComeUpWithWritesHoldsNoLease(t *testing.T) {
	inLab(t, 41, three, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		l.write(old, "before")
		const why = "unit db starts as it likes: sudo ferryman setup"
		old.unfit.Store(why)
		after := l.replaced(before, time.Minute)
		l.lostNone(after)
		starts := old.units.Starts("db")
		second := l.primary(after)
		r, _ := l.until("the node says what is wrong, and that it is not started", time.Minute, func(r ferryman.Report) bool {
			return slices.Contains(r.View.Nodes[before.State.Primary.Node].Status.Problems, why) &&
				slices.ContainsFunc(r.State.Ledger, func(st ferryman.Step) bool {
					return st.Op == ferryman.OpStart && st.Node == before.State.Primary.Node && strings.Contains(st.Outcome.Reason, why)
				})
		})
		if got := old.units.Starts("db"); got != starts {
			t.Errorf("it was started %d times since\n%+v", got-starts, r.State.Ledger)
		}
		old.unfit.Store("")
		l.until("whole again", 5*time.Minute, guarded(3))
		old.unfit.Store(why)
		time.Sleep(10 * time.Second)
		r, _ = l.until("a replica's unit costs nothing", time.Minute, guarded(3))
		if l.primary(r) != second {
			t.Errorf("the primary is on %s, was on %s", l.primary(r).name, second.name)
		}
		second.die()
		r = l.replaced(r, time.Minute)
		if third := l.primary(r); third == old {
			t.Errorf("%s became the primary", third.name)
		}
		old.unfit.Store("")
		second.boots()
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}

// Its agent dies and stays away, its database goes on.
func TestAPrimaryWithoutItsAgentIsFencedAndReplaced(t *testing.T) {
	inLab(t, 32, three, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		old.crash()
		after := l.replaced(before, time.Minute)
		l.lostNone(after)
		old.start()
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}

// An agent that is back within the lease costs its database nothing.
func TestAnAgentThatIsBackInTimeKeepsThePrimary(t *testing.T) {
	inLab(t, 33, three, func(t *testing.T, l *lab) {
		before, old := l.watched("20s")
		for range 5 {
			old.crash()
			time.Sleep(time.Second)
			old.start()
			l.until("whole again", time.Minute, guarded(3))
			time.Sleep(5 * time.Second)
		}
		after, _ := l.until("whole again", time.Minute, guarded(3))
		if after.State.Primary.Epoch != before.State.Primary.Epoch || old.units.Starts("db") != 1 {
			t.Errorf("primary = %+v, and its database was started %d times", after.State.Primary, old.units.Starts("db"))
		}
	})
}

// A database that ended on a host that lives is started again in its place.
func TestACrashedDatabaseIsRevivedInPlace(t *testing.T) {
	inLab(t, 34, three, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		l.write(old, "before")
		old.units.Exit("db", 139)
		began := time.Now()
		after, _ := l.until("writable again", time.Minute, func(r ferryman.Report) bool {
			svc, _ := r.View.Nodes[r.State.Primary.Node].Status.Service("db")
			return svc.Instance.Writable && svc.Unit.StartID != service(before, before.State.Primary.Node).Unit.StartID
		})
		if took := time.Since(began); took > time.Second || after.State.Primary.Epoch != before.State.Primary.Epoch {
			t.Errorf("it took %v, primary %+v", took, after.State.Primary)
		}
		l.lostNone(after)
	})
}

func service(r ferryman.Report, id ferryman.NodeID) ferryman.ServiceStatus {
	s, _ := r.View.Nodes[id].Status.Service("db")
	return s
}

// A rolling restart of all agents, the leader's and the primary's among them.
func TestAgentsRestartUnderALongerLease(t *testing.T) {
	inLab(t, 35, three, func(t *testing.T, l *lab) {
		before, old := l.watched("2s")
		l.doc.set(document(3, 3, "  failover: {mode: automatic, leaseTTL: 2s}\nagent: {restartGeneration: 1}"))
		after, _ := l.until("restarted", 10*time.Minute, func(r ferryman.Report) bool {
			return guarded(3)(r) && r.State.Rollout.Generation == 3
		})
		if after.State.Primary.Epoch != before.State.Primary.Epoch || old.units.Starts("db") != 1 || old.guard.Kills() != 0 {
			t.Errorf("primary = %+v, database started %d times, guard killed %d times", after.State.Primary, old.units.Starts("db"), old.guard.Kills())
		}
		for name, h := range l.hosts {
			if v := after.View.Nodes[l.id(after, name)]; v.Status.Agent.RestartGeneration != 1 {
				t.Errorf("the agent of %s was not restarted", h.name)
			}
		}
	})
}

// Most agents are gone: nothing is promoted, and the primary fences itself.
func TestWithoutAMajorityThePrimaryFencesItself(t *testing.T) {
	inLab(t, 36, three, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		for _, h := range l.others(old) {
			h.crash()
		}
		time.Sleep(time.Minute)
		if p := l.db.Primaries(); len(p) > 0 {
			t.Errorf("%q accept writes", p)
		}
		for _, h := range l.others(old) {
			h.start()
		}
		after, _ := l.until("whole again", 5*time.Minute, guarded(3))
		l.lostNone(after)
		_ = before
	})
}

func TestTwoVotersAreTooFewForAutomaticFailover(t *testing.T) {
	inLab(t, 37, []string{"n1", "n2"}, func(t *testing.T, l *lab) {
		l.form()
		l.doc.set(automatic(2, 2, "5s"))
		r, _ := l.until("it says so", time.Minute, func(r ferryman.Report) bool {
			for _, w := range r.Decision.Waits {
				if w.Code == "two-voters" && strings.Contains(w.Reason, "witness") {
					return true
				}
			}
			return false
		})
		if r.State.Primary.Lease != nil {
			t.Errorf("lease = %+v", r.State.Primary.Lease)
		}
	})
}

// A stop that is announced hands the primary over first.
func TestAStopOfThePrimaryHandsItOver(t *testing.T) {
	inLab(t, 38, three, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		l.write(old, "before")
		if err := old.stop(); err != nil {
			t.Fatal(err)
		}
		after := l.replaced(before, 10*time.Second)
		l.lostNone(after)
		if n := old.units.Starts("db"); n != 1 || !service(after, l.id(after, old.name)).Unit.Active {
			t.Errorf("the database of the node that stopped was started %d times", n)
		}
		time.Sleep(time.Minute)
		if old.guard.Kills() != 0 || old.guard.Armed() {
			t.Errorf("its guard is armed (%v), or killed", old.guard.Armed())
		}
		old.start()
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}

// A database that accepts writes stood on a host before its agent did. Nobody
// has said yet what it is to the cluster, and no lease was ever given.
func TestADatabaseThatIsNotAdoptedYetIsLeftAlone(t *testing.T) {
	inLab(t, 40, three, func(t *testing.T, l *lab) {
		h := l.hosts["n2"]
		l.stands(h)
		l.hosts["n1"].found()
		for _, h := range l.hosts {
			h.start()
		}
		l.until("all have joined", time.Minute, func(r ferryman.Report) bool { return len(r.State.Members) == 3 && len(r.View.Raft) == 3 })
		l.doc.set(automatic(3, 1, "5s"))
		waits := func(code string) func(ferryman.Report) bool {
			return func(r ferryman.Report) bool {
				return slices.ContainsFunc(r.Decision.Waits, func(w ferryman.Wait) bool { return w.Code == code })
			}
		}
		l.until("it asks whose that is", time.Minute, waits("foreign-data"))
		if got := l.db.Primaries(); !slices.Equal(got, []string{h.cfg.Database.Address}) || h.units.Starts("db") != 1 {
			t.Errorf("%q accept writes, and its database was started %d times", got, h.units.Starts("db"))
		}
		if err := l.ask(ferryman.Request{Kind: ferryman.RequestAdopt, Node: "n2", By: "a person"}); err != nil {
			t.Fatal(err)
		}
		r, _ := l.until("it is the primary", 5*time.Minute, guarded(3))
		if l.primary(r) != h || h.units.Starts("db") != 1 {
			t.Errorf("the primary is %s, and the database of n2 was started %d times", l.primary(r).name, h.units.Starts("db"))
		}
	})
}

// stands has a database with data run and accept writes on a host without an agent.
func (l *lab) stands(h *host) {
	l.t.Helper()
	if err := h.units.Start(l.t.Context(), systemd.Unit{Name: "db", Exec: []string{"fakedb", "1.0"}}); err != nil {
		l.t.Fatal(err)
	}
	for _, op := range []ferryman.Op{ferryman.OpInitialise, ferryman.OpPromote} {
		if _, err := h.db.Do(l.t.Context(), op, ferryman.Args{Epoch: 1}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// In manual mode nothing is fenced without a person: also no replica that does
// not answer when its agent starts.
func TestInManualModeAnAgentFencesNothingThatHangs(t *testing.T) {
	inLab(t, 41, three, func(t *testing.T, l *lab) {
		before, leader := l.form()
		h := l.others(leader)[0]
		if l.id(before, h.name) == before.State.Primary.Node {
			h = l.others(leader)[1]
		}
		h.crash()
		h.db.Faults(fakedb.Faults{Hang: true})
		h.start()
		time.Sleep(time.Minute)
		h.db.Faults(fakedb.Faults{})
		l.until("whole again", 5*time.Minute, settled(3))
		if n := h.units.Starts("db"); n != 1 {
			t.Errorf("its database was started %d times, want once", n)
		}
	})
}

// The guard dies under a lease, and the first time that the agent wants to end
// the database itself, it cannot: it tries on.
func TestAnAgentWithoutItsGuardEndsTheDatabaseItself(t *testing.T) {
	inLab(t, 42, three, func(t *testing.T, l *lab) {
		l.form()
		for _, h := range l.hosts {
			if err := h.stop(); err != nil {
				t.Fatal(err)
			}
			h.refusals = 3
			h.start()
		}
		l.until("whole again", 5*time.Minute, settled(3))
		l.db.Sync(1)
		l.doc.set(automatic(3, 2, "5s"))
		before, _ := l.until("automatic failover is in force", 5*time.Minute, guarded(3))
		old := l.primary(before)
		l.write(old, "before")
		old.guard.Die()
		l.links.Isolate(old.cfg.Node.Address)
		after := l.replaced(before, time.Minute)
		l.lostNone(after)
		old.guard.Revive()
		l.links.Rejoin(old.cfg.Node.Address)
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}

// A primary that hangs is killed and replaced: that it accepted writes when it
// was heard last says nothing.
func TestAPrimaryThatHangsIsReplaced(t *testing.T) {
	inLab(t, 43, three, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		l.write(old, "before")
		old.db.Faults(fakedb.Faults{Hang: true})
		after := l.replaced(before, time.Minute)
		l.lostNone(after)
		old.db.Faults(fakedb.Faults{})
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}

// The mode becomes manual while the primary is lost: nothing is replaced, and
// the log stays quiet.
func TestTheModeBecomesManualWhileThePrimaryIsLost(t *testing.T) {
	inLab(t, 44, three, func(t *testing.T, l *lab) {
		before, old := l.watched("20s")
		old.die()
		time.Sleep(time.Second)
		l.doc.set(document(3, 3, "  failover: {mode: manual}"))
		time.Sleep(time.Minute)
		r, _, ok := l.report()
		if !ok || r.State.Primary.Epoch != before.State.Primary.Epoch || r.State.Primary.Lease != nil || r.State.Failover != nil {
			t.Fatalf("primary %+v, failover %+v\n%s", r.State.Primary, r.State.Failover, describe(r, ok))
		}
		if n := r.State.LastEvent - before.State.LastEvent; n > 50 {
			t.Errorf("%d events in a minute of waiting", n)
		}
		old.boots()
		l.until("whole again", 5*time.Minute, settled(3))
	})
}

// Of two replicas one has a write, and does not answer when the primary is lost:
// the other waits for it, and says so.
func TestAFailoverWaitsForWhoMayHoldMore(t *testing.T) {
	inLab(t, 46, five, func(t *testing.T, l *lab) {
		before, old := l.watched("5s")
		holder := l.others(old)[0]
		for _, h := range l.others(old)[1:] {
			l.db.Cut(old.cfg.Database.Address, h.cfg.Database.Address, true)
		}
		l.write(old, "on two")
		l.links.Isolate(holder.cfg.Node.Address)
		old.die()
		for _, h := range l.others(old)[1:] {
			l.db.Cut(old.cfg.Database.Address, h.cfg.Database.Address, false)
		}
		r, _ := l.until("it waits", time.Minute, func(r ferryman.Report) bool {
			return slices.ContainsFunc(r.Decision.Waits, func(w ferryman.Wait) bool {
				return w.Code == "failover-candidate" && strings.Contains(w.Reason, holder.name+" has not said")
			})
		})
		time.Sleep(10 * time.Minute)
		if r, _, _ = l.report(); r.State.Primary.Epoch != before.State.Primary.Epoch || len(l.db.Primaries()) > 0 {
			t.Errorf("primary %+v, and %q accept writes", r.State.Primary, l.db.Primaries())
		}
		l.links.Rejoin(holder.cfg.Node.Address)
		after := l.replaced(before, time.Minute)
		l.lostNone(after)
		old.boots()
		l.until("whole again", 5*time.Minute, guarded(5))
	})
}

// All hosts lose their power at once, with writes that only some of them have.
func TestAllHostsLosePower(t *testing.T) {
	for _, ttl := range []string{"1s", "20s"} {
		t.Run(ttl, func(t *testing.T) {
			inLab(t, 45, three, func(t *testing.T, l *lab) {
				before, old := l.watched(ttl)
				others := l.others(old)
				l.db.Cut(old.cfg.Database.Address, others[0].cfg.Database.Address, true)
				l.write(old, "on two")
				for _, h := range l.hosts {
					h.die()
				}
				l.db.Cut(old.cfg.Database.Address, others[0].cfg.Database.Address, false)
				for _, h := range []*host{others[0], old, others[1]} {
					h.boots()
					time.Sleep(time.Second)
				}
				after, _ := l.until("whole again", 5*time.Minute, guarded(3))
				l.lostNone(after)
				if ttl == "20s" && after.State.Primary.Epoch != before.State.Primary.Epoch {
					t.Errorf("primary %+v, want it back in its place\n%s", after.State.Primary, describe(after, true))
				}
			})
		})
	}
}

// Twenty in a row, with a person's word where the cluster asks for it.
func TestTwentyFailovers(t *testing.T) {
	inLab(t, 39, three, func(t *testing.T, l *lab) {
		r, _ := l.watched("2s")
		for i := range 20 {
			old := l.primary(r)
			l.write(old, fmt.Sprint("write ", i))
			old.die()
			if i%3 == 2 {
				// The leader may be new in this moment.
				l.until("a person's word", time.Minute, func(ferryman.Report) bool {
					return l.ask(ferryman.Request{Kind: ferryman.RequestFailover, By: "a person"}) == nil
				})
			}
			after := l.replaced(r, time.Minute)
			l.lostNone(after)
			old.boots()
			r, _ = l.until("whole again", 5*time.Minute, guarded(3))
		}
	})
}

// ask has the leader take a request.
func (l *lab) ask(r ferryman.Request) error {
	_, leader, ok := l.report()
	if !ok {
		return ferryman.ErrUnavailable
	}
	b, ok := leader.backend()
	if !ok {
		return ferryman.ErrUnavailable
	}
	return b.Request(l.t.Context(), r)
}

// Two databases and a witness, which only votes: enough to decide.
func TestAWitnessMakesTwoDatabasesEnough(t *testing.T) {
	inLab(t, 58, three, func(t *testing.T, l *lab) {
		l.hosts["n3"].cfg.Node.Witness = true
		l.hosts["n1"].found()
		for _, h := range l.hosts {
			h.start()
		}
		l.db.Sync(1)
		l.doc.set(automatic(2, 1, "5s"))
		before, _ := l.until("automatic failover is in force", 5*time.Minute, guarded(3))
		old := l.primary(before)
		l.write(old, "before")
		old.die()
		after := l.replaced(before, time.Minute)
		if now := l.primary(after); now == l.hosts["n3"] || now == old {
			t.Errorf("%s is the primary", now.name)
		}
		l.lostNone(after)
		old.boots()
		l.until("whole again", 5*time.Minute, guarded(3))
	})
}
