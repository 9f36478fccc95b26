package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman"
)

// What a lost primary costs: the longest time without a write around it, and the
// acknowledged writes that are lost. Every benchmark below is run with -benchtime
// of a few rounds; FERRYMAN_BENCH_TRACE=1 prints what each round consisted of.

// trial is a cluster with failover in force, and those who write to it.
type trial struct {
	*troupe
	scribes []*scribes
	deeds   []deeds // of each
}

// revivable keeps a killed host a member, so that it comes back on its disk.
const revivable = "cluster: {dead_after: 10m}\n"

// engines are those that are tried, and how their writes count.
var engines = []struct {
	name  string
	open  func() (engine, error)
	kinds []string
	write map[string]func(b *testing.B, addr string) unique
}{
	{"demodb", func() (engine, error) { return demoEngine{}, nil }, []string{"acknowledged"},
		map[string]func(*testing.B, string) unique{"acknowledged": demodbUnique}},
	{"redis", newRedisEngine, []string{"accepted", "acknowledged"},
		map[string]func(*testing.B, string) unique{"accepted": redisUnique(0), "acknowledged": redisUnique(1)}},
}

// eachEngine runs a benchmark for each engine that there is.
func eachEngine(b *testing.B, do func(b *testing.B, try func() *trial)) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			eng, err := e.open()
			if err != nil {
				b.Skip(err)
			}
			do(b, func() *trial {
				t := &trial{troupe: form(b, eng, automatic(2*time.Second), revivable)}
				// The history of Redis's first epoch is another once a replica is there, of
				// which nobody tells: nobody would be taken for its successor.
				t.elsewhere(0)
				t.elsewhere(1)
				for _, kind := range e.kinds {
					t.scribes = append(t.scribes, scribe(b, kind, services(t.report), func(addr string) unique { return e.write[kind](b, addr) }))
				}
				t.deeds = make([]deeds, len(t.scribes))
				return t
			})
		})
	}
}

// within runs a part of a benchmark on the same cluster.
func (t *trial) within(name string, do func(b *testing.B)) {
	whole := t.b
	ok := whole.Run(name, func(b *testing.B) {
		t.b = b
		defer func() { t.b = whole }()
		do(b)
	})
	if !ok {
		whole.FailNow()
	}
}

// ready waits until failover is in force, under the document's lease and no
// longer one, with the leader elsewhere and nothing under way.
func (t *trial) ready() ferryman.Report {
	t.b.Helper()
	return t.wait(func(r ferryman.Report) error {
		if err := t.inForce(r); err != nil {
			return err
		}
		switch p := r.State.Primary; {
		case r.View.Self == p.Node:
			return errors.New("Raft's leader is beside the primary")
		case p.SyncReplicas != r.View.Nodes[p.Node].Status.Services[0].Instance.SyncReplicas:
			return errors.New("it is not committed how many hold each write")
		case p.Lease.Longest != p.Lease.Length:
			return fmt.Errorf("a lease of %s may still run", p.Lease.Longest)
		}
		return idle(r)
	})
}

func (t *trial) inForce(r ferryman.Report) error {
	if err := settled(t.doc, t.doc.Database.Version)(r); err != nil {
		return err
	}
	p := r.State.Primary
	held := r.View.Nodes[p.Node].Status.Lease
	switch {
	case r.State.Failover != nil || r.State.Switchover != nil:
		return errors.New("the primary is being replaced")
	case p.Lease == nil || !p.Lease.Enforced || p.Lease.Length != t.doc.Database.Failover.LeaseTTL:
		return errors.New("failover is not in force")
	case held == nil || held.Epoch != p.Epoch || held.Length != p.Lease.Length:
		return errors.New("the primary does not hold its lease")
	}
	for id, m := range r.State.Members {
		if !r.View.Nodes[id].CaughtUp {
			return fmt.Errorf("%s has not caught up", m.Name)
		}
	}
	return nil
}

func idle(r ferryman.Report) error {
	for _, st := range r.State.Ledger {
		if st.Open() {
			return fmt.Errorf("step %d, %s, is open", st.ID, st.Op)
		}
	}
	return nil
}

func (t *trial) ask(r ferryman.Request) {
	t.b.Helper()
	r.By = "a benchmark"
	if err := t.stage.request(t.b.Context(), r); err != nil {
		t.b.Fatal(err)
	}
}

// written waits until every kind of write was acknowledged again.
func (t *trial) written(since time.Time) {
	t.b.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		waiting := ""
		for _, s := range t.scribes {
			if !s.since(since) {
				waiting = s.kind
			}
		}
		if waiting == "" {
			return
		}
		if time.Now().After(until) {
			r, err := t.stage.report(t.b.Context())
			t.b.Fatalf("no write is %s again: %v (%v)\n%+v\n%+v\n%+v\n%s", waiting, t.scribes[0].last, err, r.Decision.Waits, r.State.Primary, r.State.Survey(), t.story(r, r, since))
		}
	}
}

// since tells whether a write that began later was acknowledged.
func (s *scribes) since(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all[max(0, len(s.all)-50):], func(w written) bool { return w.began.After(at) })
}

// round clears what the cluster remembers of failovers, strikes, and mends once
// writes are back; after that it reads back what was acknowledged. What strike
// returns is when it had struck.
func (t *trial) round(before ferryman.Report, strike func() time.Time, mend func()) {
	t.b.Helper()
	for _, s := range t.scribes {
		s.take()
	}
	time.Sleep(200 * time.Millisecond) // writes before
	struck := strike()
	t.written(struck)
	if mend != nil {
		mend()
	}
	after := t.ready()
	time.Sleep(50 * time.Millisecond)
	t.account(before, after)
}

// account reads back from the primary what was acknowledged since last time.
func (t *trial) account(before, after ferryman.Report) {
	t.b.Helper()
	primary := after.State.Members[after.State.Primary.Node].Services[0].Address
	var lines []string
	var from time.Time
	for i, s := range t.scribes {
		d, err := reckon(s.take(), func(keys []string) (map[string]string, error) {
			return t.stage.eng.read(t.b.Context(), primary, keys)
		})
		if err != nil {
			t.b.Fatal(err)
		}
		if t.stage.eng.name() == (demoEngine{}).name() && len(d.lost) > 0 {
			t.b.Fatalf("%d acknowledged writes of a synchronous database are lost, the first %+v\n%s", len(d.lost), d.lost[0], t.story(before, after, d.from))
		}
		t.deeds[i] = append(t.deeds[i], d)
		lines = append(lines, s.kind+": "+d.String())
		if i == 0 {
			from = d.from
		}
	}
	if os.Getenv("FERRYMAN_BENCH_TRACE") != "" {
		t.b.Logf("epoch %d to %d; %s\n%s", before.State.Primary.Epoch, after.State.Primary.Epoch, strings.Join(lines, "; "), t.story(before, after, from))
	}
}

// story is what the cluster did, in milliseconds since the last write before the
// gap.
func (t *trial) story(before, after ferryman.Report, from time.Time) string {
	var b strings.Builder
	ms := func(at time.Time) float64 { return float64(at.Sub(from).Microseconds()) / 1000 }
	fmt.Fprintf(&b, "  leader %s, primary %s\n", before.State.Members[before.View.Self].Name, before.State.Members[before.State.Primary.Node].Name)
	for _, e := range after.State.Events {
		if e.Time.After(from) {
			fmt.Fprintf(&b, "  %7.0f %s\n", ms(e.Time), e.Text)
		}
	}
	for _, st := range after.State.Ledger {
		if o := st.Outcome; o != nil && st.Since.After(from.Add(-100*time.Millisecond)) {
			fmt.Fprintf(&b, "  %-9s %s: intent %7.0f began %7.0f ended %7.0f %s\n", st.Op, after.State.Members[st.Node].Name, ms(st.Since), ms(o.Began), ms(o.Ended), o.Status)
		}
	}
	return b.String()
}

// tell reports every kind of write, and forgets them.
func (t *trial) tell() {
	t.b.Helper()
	for i, s := range t.scribes {
		t.deeds[i].tell(t.b, s.kind)
		t.deeds[i] = nil
	}
}

// lease makes the document's leases this long.
func (t *trial) lease(ttl time.Duration) {
	t.doc.Database.Failover = automatic(ttl)
	t.publishNext()
	t.ready()
}

// pace restarts the agents, after which Raft's timings follow the lease.
func (t *trial) pace() {
	t.doc.Agent.RestartGeneration++
	t.publishNext()
	t.ready()
}

func primaryOf(r ferryman.Report) ferryman.Member { return r.State.Members[r.State.Primary.Node] }

// powerOff ends all that runs on a host.
func (t *trial) powerOff(name string) {
	t.b.Helper()
	if err := t.stage.quiet().Kill(t.b.Context(), name); err != nil {
		t.b.Fatal(err)
	}
}

// powerOn starts a host on the disk that it had.
func (t *trial) powerOn(name string) {
	t.b.Helper()
	dir := filepath.Join(t.stage.dir, "hosts", name)
	peer, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil {
		t.b.Fatal(err)
	}
	command, err := t.stage.command(dir, string(peer))
	if err == nil {
		err = t.stage.quiet().Start(name, command)
	}
	if err != nil {
		t.b.Fatal(err)
	}
}

// crash ends the database of a host, and returns when it is gone.
func (t *trial) crash(name string) {
	t.b.Helper()
	raw, err := os.ReadFile(filepath.Join(t.stage.dir, "hosts", name, "data", "units", "ferryman-db.json"))
	if err != nil {
		t.b.Fatal(err)
	}
	var unit struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(raw, &unit); err != nil || unit.PID <= 1 {
		t.b.Fatalf("the database of %s has pid %d (%v)", name, unit.PID, err)
	}
	if err := syscall.Kill(unit.PID, syscall.SIGKILL); err != nil {
		t.b.Fatal(err)
	}
	for {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", unit.PID)); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// crashes is how many databases of one cluster are killed: once more, and some
// node's would have ended three times within a minute, with its first start, and
// be replaced for that.
const crashes = 3

// BenchmarkProcessKilled is a SIGKILL of the primary's process alone. demodb
// comes up again with all that it had; Redis, which keeps nothing on disk here,
// comes up empty and is replaced.
func BenchmarkProcessKilled(b *testing.B) {
	eachEngine(b, func(b *testing.B, try func() *trial) {
		t := try()
		for n := 0; b.Loop(); n++ {
			if n > 0 && n%crashes == 0 {
				t.leave()
				told := t.deeds
				t = try()
				t.deeds = told
			}
			before := t.elsewhere(n)
			t.ask(ferryman.Request{Kind: ferryman.RequestFailover})
			t.round(before, func() time.Time {
				t.crash(primaryOf(before).Name)
				return time.Now()
			}, nil)
		}
		t.tell()
	})
}

// leave ends the cluster and those who write to it.
func (t *trial) leave() {
	for _, s := range t.scribes {
		s.stop()
	}
	t.strike()
}

// elsewhere has another of the three be the primary in each round.
func (t *trial) elsewhere(n int) ferryman.Report {
	t.b.Helper()
	r := t.ready()
	var names []string
	for _, m := range r.State.Members {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	if to := names[n%len(names)]; to != primaryOf(r).Name {
		t.ask(ferryman.Request{Kind: ferryman.RequestSwitchover, Node: to})
		t.moved(r)
		r = t.ready()
	}
	return r
}

// moved waits until there is a newer primary that accepts writes.
func (t *trial) moved(before ferryman.Report) ferryman.Report {
	t.b.Helper()
	return t.wait(func(r ferryman.Report) error {
		if r.State.Primary.Epoch == before.State.Primary.Epoch {
			return errors.New("the primary did not move")
		}
		return t.inForce(r)
	})
}

// leases are those under which a host is lost.
var leases = []time.Duration{2 * time.Second, 5 * time.Second}

// BenchmarkHostLost is the end of all that runs on the primary's host at once,
// while Raft's leader is elsewhere, which is where the plan keeps it. The host
// comes back on its disk for the next round.
func BenchmarkHostLost(b *testing.B) {
	eachEngine(b, func(b *testing.B, try func() *trial) {
		t := try()
		for _, ttl := range leases {
			t.within("lease="+ttl.String(), func(b *testing.B) {
				t.lease(ttl)
				for b.Loop() {
					before := t.ready()
					t.ask(ferryman.Request{Kind: ferryman.RequestFailover})
					lost := primaryOf(before).Name
					t.round(before, func() time.Time {
						t.powerOff(lost)
						return time.Now()
					}, func() { t.powerOn(lost) })
				}
				t.tell()
			})
		}
	})
}

// BenchmarkHostOfBothLost is the same with Raft's leader on the lost host. That
// is not where it stays: the primary is moved to it while the cluster is frozen,
// and the freeze is lifted as soon as another leads, long before the lease is
// over, so that it costs nothing. That is checked.
func BenchmarkHostOfBothLost(b *testing.B) {
	eachEngine(b, func(b *testing.B, try func() *trial) {
		t := try()
		for _, ttl := range leases {
			t.within("lease="+ttl.String(), func(b *testing.B) {
				t.lease(ttl)
				t.pace()
				var elections series
				for b.Loop() {
					before := t.together()
					lost := primaryOf(before).Name
					var struck, led time.Time
					t.round(before, func() time.Time {
						began := time.Now()
						t.powerOff(lost)
						struck = time.Now()
						led = t.unfreeze()
						elections = append(elections, led.Sub(began))
						return struck
					}, func() { t.powerOn(lost) })
					t.unhindered(before, led, ttl)
				}
				t.tell()
				elections.tell(b, "election")
			})
		}
	})
}

// together moves the primary to the leader's node and leaves both there.
func (t *trial) together() ferryman.Report {
	t.b.Helper()
	r := t.ready()
	t.ask(ferryman.Request{Kind: ferryman.RequestFailover})
	t.ask(ferryman.Request{Kind: ferryman.RequestSwitchover, Node: r.State.Members[r.View.Self].Name})
	t.ask(ferryman.Request{Kind: ferryman.RequestFreeze})
	after := t.moved(r)
	if after.View.Self != after.State.Primary.Node || after.View.Term != r.View.Term || after.State.Frozen == nil {
		t.b.Fatalf("the leader moved from the primary's node: %s leads", after.State.Members[after.View.Self].Name)
	}
	time.Sleep(3 * time.Second) // the lease is renewed, and whoever lost a vote has given up
	return t.wait(t.inForce)
}

// unfreeze returns when somebody led and did it.
func (t *trial) unfreeze() time.Time {
	t.b.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.b.Context(), time.Second)
		err := t.stage.request(ctx, ferryman.Request{Kind: ferryman.RequestUnfreeze, By: "a benchmark"})
		cancel()
		if err == nil || errors.Is(err, ferryman.ErrRefused) { // an answer can have been lost
			return time.Now()
		}
		if time.Now().After(until) {
			t.b.Fatal(err)
		}
	}
}

// unhindered checks that the failover waited for the lease and not for the end
// of the freeze.
func (t *trial) unhindered(before ferryman.Report, unfrozen time.Time, ttl time.Duration) {
	t.b.Helper()
	switch terms := t.report.View.Term - before.View.Term; {
	case terms == 0:
		t.b.Fatal("no other leads")
	case terms > 1:
		t.b.Logf("%d terms passed: a vote was split, or a second leader lost its place and the lease was waited for anew", terms)
	}
	for _, e := range t.report.State.Events {
		if e.Kind == "failover" && e.Time.After(before.State.Primary.Since) && strings.Contains(e.Text, "began") {
			if e.Time.Sub(unfrozen) < ttl/4 {
				t.b.Fatalf("the failover began %s after the freeze was lifted: that held it up", e.Time.Sub(unfrozen))
			}
			return
		}
	}
	t.b.Fatal("no failover is told of")
}

// BenchmarkSwitchoverInForce is a planned switchover while failover is automatic
// in force.
func BenchmarkSwitchoverInForce(b *testing.B) {
	eachEngine(b, func(b *testing.B, try func() *trial) {
		t := try()
		for b.Loop() {
			before := t.ready()
			t.round(before, func() time.Time {
				for id, m := range before.State.Members {
					if id != before.State.Primary.Node {
						t.ask(ferryman.Request{Kind: ferryman.RequestSwitchover, Node: m.Name})
						break
					}
				}
				t.moved(before)
				return time.Now()
			}, nil)
		}
		t.tell()
	})
}

// BenchmarkAgentsRestarted is a rolling restart of all agents, and after it as
// long a time in which nothing is done: the longest gap and the slowest write of
// both. The goal is that the first is no worse.
func BenchmarkAgentsRestarted(b *testing.B) {
	eachEngine(b, func(b *testing.B, try func() *trial) {
		t := try()
		quiet := make([]deeds, len(t.scribes))
		var times series
		for b.Loop() {
			before := t.settle()
			for _, s := range t.scribes {
				s.take()
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(b.Context(), patience)
			err := t.play.agents(ctx)
			cancel()
			if err != nil {
				b.Fatal(err)
			}
			took := time.Since(began)
			times = append(times, took)
			t.account(before, t.settle())
			before = t.settle()
			t.deeds, quiet = quiet, t.deeds
			time.Sleep(took)
			t.account(before, t.settle())
			t.deeds, quiet = quiet, t.deeds
		}
		times.tell(b, "restart")
		for i, s := range t.scribes {
			t.deeds[i].slowest().tell(b, s.kind+"-slowest")
			quiet[i].slowest().tell(b, "quiet-"+s.kind+"-slowest")
			quiet[i].tell(b, "quiet-"+s.kind)
		}
		t.tell()
	})
}

func (d deeds) slowest() (s series) {
	for _, one := range d {
		s = append(s, one.slowest)
	}
	return s
}
