package demo

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
)

// One cluster has its network cut in every way, while a client that is not cut
// off writes to every instance: also to a primary that has lost all others.
func TestNetworkCuts(t *testing.T) {
	d := newDivided(t, light{}, openDemodb, "")
	d.inTheirPlaces(t)
	d.run(t, "the primary's host is lost", func(t *testing.T) { d.lose(t) })
	d.run(t, "the host of the primary and Raft's leader is lost", d.bothLost)
	d.run(t, "the primary's cable is pulled", d.unplugged)
	for _, s := range []scene{
		{"the primary from all", func(c cast) []way { return between(c.primary, c.leader, c.third) }, becomesAside},
		{"the primary from Raft's leader", func(c cast) []way { return between(c.primary, c.leader) }, becomesAnother},
		{"the primary cannot send to Raft's leader", func(c cast) []way { return from(c.primary, c.leader) }, becomesAnother},
		{"the primary cannot hear Raft's leader", func(c cast) []way { return to(c.primary, c.leader) }, becomesAnother},
		{"the primary cannot send", func(c cast) []way { return from(c.primary, c.leader, c.third) }, becomesAside},
		{"the primary cannot hear", func(c cast) []way { return to(c.primary, c.leader, c.third) }, becomesAside},
		{"Raft's leader from all", func(c cast) []way { return between(c.leader, c.primary, c.third) }, stays},
		{"Raft's leader cannot send", func(c cast) []way { return from(c.leader, c.primary, c.third) }, stays},
		{"Raft's leader cannot hear", func(c cast) []way { return to(c.leader, c.primary, c.third) }, stays},
		{"the third from the primary and Raft's leader", func(c cast) []way { return between(c.third, c.primary, c.leader) }, stays},
		{"the third from the primary", func(c cast) []way { return between(c.third, c.primary) }, stays},
		{"the third from Raft's leader", func(c cast) []way { return between(c.third, c.leader) }, stays},
		{"clients from the primary", func(c cast) []way { return between(clients, c.primary) }, staysUnseen},
		{"the api-server from all", func(c cast) []way { return between(apiServer, c.primary, c.leader, c.third) }, stays},
		{"the primary and the api-server from all", func(c cast) []way {
			return append(between(c.primary, c.leader, c.third), between(apiServer, c.primary, c.leader, c.third)...)
		}, becomesAside},
	} {
		d.run(t, s.name, func(t *testing.T) { d.play(t, s) })
	}
	d.run(t, "the primary flaps", func(t *testing.T) { d.flaps(t, func(c cast) string { return c.primary }) })
	d.run(t, "Raft's leader flaps", func(t *testing.T) { d.flaps(t, func(c cast) string { return c.leader }) })
	d.verdict(t)
}

// The same with Redis, which takes writes that no replica has: a second primary
// would be seen at once. What a replica had, as WAIT said, is not lost.
func TestNetworkCutsOfRedis(t *testing.T) {
	eng := realRedis(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDivided(t, locked{eng}, openLocked, fmt.Sprintf("database: {password_file: %q}\n", file))
	d.volatile = true
	for _, s := range []scene{
		{"the primary from all", func(c cast) []way { return between(c.primary, c.leader, c.third) }, becomesAside},
		{"the primary from Raft's leader", func(c cast) []way { return between(c.primary, c.leader) }, becomesAnother},
		{"the primary cannot send", func(c cast) []way { return from(c.primary, c.leader, c.third) }, becomesAside},
		{"the primary cannot hear", func(c cast) []way { return to(c.primary, c.leader, c.third) }, becomesAside},
		{"Raft's leader from all", func(c cast) []way { return between(c.leader, c.primary, c.third) }, stays},
	} {
		d.run(t, s.name, func(t *testing.T) { d.play(t, s) })
	}
	d.run(t, "the primary flaps", func(t *testing.T) { d.flaps(t, func(c cast) string { return c.primary }) })
	d.run(t, "the primary's host is lost", func(t *testing.T) { d.lose(t) })
	d.verdict(t)
}

// How long nobody can write, by the length of the lease.
func TestWriteGapsOfCuts(t *testing.T) {
	d := newDivided(t, light{}, openDemodb, "")
	for _, ttl := range []time.Duration{5 * time.Second, 2 * time.Second} {
		d.doc.Database.Failover.LeaseTTL = ferryman.Duration(ttl)
		d.change(t)
		d.pace(t)
		var cut, lost gaps
		for range rounds(1, 3) {
			cut = append(cut, d.play(t, scene{"the primary from all", func(c cast) []way { return between(c.primary, c.leader, c.third) }, becomesAside}))
			lost = append(lost, d.lose(t))
		}
		t.Logf("lease of %s: the primary is cut off: %s", ttl, cut)
		t.Logf("lease of %s: its host is lost: %s", ttl, lost)
	}
	d.verdict(t)
}

// divided is a cluster on a network that is cut, and its client.
type divided struct {
	*company
	lan
	*everyone
	// volatile databases leave nothing behind that could be set aside.
	volatile bool
	scenes   int
	struck   map[string]int // packets lost, by what was cut
}

// cast are the hosts by their parts.
type cast struct{ primary, leader, third string }

func newDivided(t *testing.T, eng engine, open func(addr string) putter, configuration string) *divided {
	t.Helper()
	l := newLAN(t)
	c := newCompanyOf(t, eng, backOnDisk+configuration)
	c.failover = ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic, LeaseTTL: ferryman.Duration(2 * time.Second)}
	c.stage.network, c.stage.address = l, l.address(apiServer)+":8000"
	c.open(t)
	c.pace(t)
	return &divided{company: c, lan: l, everyone: c.recording(t, "a", acknowledged, open), struck: map[string]int{}}
}

// pace restarts every agent, after which its elections follow the lease that is
// committed. A rollout does that too, and takes a longer lease for a while.
func (c *company) pace(t *testing.T) {
	t.Helper()
	for _, name := range names(c.guard(t)) {
		c.kill(t, name)
		c.revive(t, name)
		c.guard(t)
	}
}

// inTheirPlaces fails the test if anything of a host runs elsewhere: it would be
// cut off from nothing.
func (d *divided) inTheirPlaces(t *testing.T) {
	r := d.guard(t)
	for _, host := range names(r) {
		want, err := os.Stat(d.path(host))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []part{theAgent, theGuard, theDatabase} {
			process, err := d.process(host, p)
			if p == theGuard && host != primaryHost(r) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", process.Pid)); err != nil || !os.SameFile(got, want) {
				t.Fatalf("the %s of %s is not in its network (%v)", p, host, err)
			}
		}
	}
}

// outcome of a cut for the primary.
type fate int

const (
	stays          fate = iota // the same one accepts writes all the time
	staysUnseen                // the same one accepts writes that no client sends
	becomesAnother             // another one takes over
	becomesAside               // and what only the old one has is set aside
)

// scene is one cut: what is lost, and what must come of it.
type scene struct {
	name string
	cut  func(cast) []way
	fate fate
}

func (d *divided) run(t *testing.T, name string, do func(*testing.T)) {
	if !t.Run(name, do) {
		t.FailNow() // after one that failed the next only shows what follows from it
	}
	d.scenes++
}

// begin sees all well, and the failovers so far forgotten.
func (d *divided) begin(t *testing.T) (before ferryman.Report, c cast) {
	t.Helper()
	d.calm(t)
	before = d.guard(t)
	c = cast{primary: primaryHost(before), leader: nameOf(before, before.View.Self)}
	for _, n := range others(before) {
		if n != c.leader {
			c.third = n
		}
	}
	return before, c
}

// play cuts, sees what comes of it, heals, and returns the gap. Where only
// Raft's leader is cut off from the primary another leader may come by chance,
// and the cut is none any more: then it is made anew.
func (d *divided) play(t *testing.T, s scene) time.Duration {
	t.Helper()
	for range 5 {
		before, c := d.begin(t)
		began := time.Now()
		d.lan.cut(t, s.cut(c))
		struck := true
		if s.fate >= becomesAnother {
			struck = d.replaced(t, before, s.fate == becomesAnother)
		} else {
			d.kept(t, before, s.fate == stays)
		}
		lost := d.heal(t)
		if !struck {
			continue
		}
		if lost == 0 {
			t.Error("the cut lost no packet")
		}
		d.struck[s.name] += lost
		return d.end(t, before, began, s.fate == becomesAside)
	}
	t.Fatal("each time another led")
	return 0
}

// replaced waits for another primary in the next epoch, or until another leads,
// if that is an answer, and tells which it was.
func (d *divided) replaced(t *testing.T, before ferryman.Report, orLed bool) bool {
	t.Helper()
	after := d.wait(t, "another primary", func(r ferryman.Report) error {
		switch {
		case r.State.Primary.Epoch > before.State.Primary.Epoch:
			return d.answeredSince(r.State.Primary.Since)
		case orLed && r.State.Failover == nil && r.View.Self != before.View.Self:
			return nil
		}
		return errors.New("the primary is still that of before")
	})
	got := after.State.Primary
	if got.Epoch == before.State.Primary.Epoch {
		return false
	}
	if got.Epoch != before.State.Primary.Epoch+1 || got.Node == before.State.Primary.Node {
		t.Errorf("%s is the primary of epoch %d, after %s of epoch %d\n%s", primaryHost(after), got.Epoch, primaryHost(before), before.State.Primary.Epoch, history(after))
	}
	return true
}

// kept lets more than two leases pass, and wants the primary to be the one of
// before.
func (d *divided) kept(t *testing.T, before ferryman.Report, seen bool) {
	t.Helper()
	over := time.Now().Add(5 * before.State.Primary.Lease.Length.Std() / 2)
	after := d.wait(t, "the cut lasts", func(ferryman.Report) error {
		if left := time.Until(over); left > 0 {
			return fmt.Errorf("%s more", left)
		}
		return nil
	})
	if after.State.Primary.Epoch != before.State.Primary.Epoch {
		t.Errorf("%s was replaced, and did not need to be\n%s", primaryHost(before), history(after))
	}
	if seen {
		eventually(t, "writes go on", func() error { return d.answeredSince(over) })
	}
}

// end sees all well again, everything lawful, and nothing lost.
func (d *divided) end(t *testing.T, before ferryman.Report, began time.Time, aside bool) time.Duration {
	t.Helper()
	healed := time.Now()
	after := d.guard(t)
	took := time.Since(healed)
	if aside && !d.volatile {
		d.setAside(t, before, after, began)
	}
	d.lawful(t)
	writes, _ := d.record(t)
	writes = slices.DeleteFunc(writes, func(w attempt) bool { return w.sent.Before(began) })
	d.intact(t, after, writes)
	g := gap(writes, acknowledged, began, time.Now())
	after.State.Events = slices.DeleteFunc(after.State.Events, func(e ferryman.Event) bool { return e.Time.Before(began) })
	t.Logf("epoch %d to %d; longest write gap %s; all well %s after it healed; %s\n%s", before.State.Primary.Epoch, after.State.Primary.Epoch,
		g.Round(time.Millisecond), took.Round(time.Millisecond), tallied(writes), history(after))
	return g
}

// intact fails the test if the primary lacks one of the acknowledged writes.
func (d *divided) intact(t *testing.T, r ferryman.Report, writes []attempt) {
	t.Helper()
	var keys []string
	for _, w := range writes {
		if w.outcome == acknowledged {
			keys = append(keys, w.key)
		}
	}
	held, err := d.stage.eng.read(t.Context(), r.State.Members[r.State.Primary.Node].Services[0].Address, keys)
	if err != nil {
		t.Fatal(err)
	}
	lost := missing(writes, acknowledged, held)
	for _, w := range lost[:min(5, len(lost))] {
		t.Errorf("%s was acknowledged by %s at %s, and is lost", w.key, w.instance, w.answered.Format("15:04:05.000000"))
	}
	if len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost\n%s", len(lost), history(r))
	}
}

// setAside finds in an event where that is which only the old primary had, and
// there at least one of the writes that it was sent in vain.
func (d *divided) setAside(t *testing.T, before, after ferryman.Report, began time.Time) {
	t.Helper()
	old := before.State.Primary.Node
	var dir string
	for _, e := range after.State.Events {
		if _, rest, ok := strings.Cut(e.Text, "were set aside in "); ok && e.Node == old && e.Time.After(began) {
			dir, _, _ = strings.Cut(rest, ";")
		}
	}
	if dir == "" {
		t.Errorf("no event says where that was set aside which only %s had\n%s", primaryHost(before), history(after))
		return
	}
	var data []byte
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		data = append(data, raw...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	writes, _ := d.record(t)
	instance := before.State.Members[old].Services[0].Address
	if !slices.ContainsFunc(writes, func(w attempt) bool {
		return w.instance == instance && w.sent.After(began) && w.outcome != acknowledged && bytes.Contains(data, []byte(w.key))
	}) {
		t.Errorf("%s holds none of the writes that only %s had", dir, primaryHost(before))
	}
}

// flaps cuts a host off from all others and heals that again, for three leases.
func (d *divided) flaps(t *testing.T, who func(cast) string) {
	before, c := d.begin(t)
	host, began, times := who(c), time.Now(), 0
	for pause := 100 * time.Millisecond; time.Since(began) < 3*before.State.Primary.Lease.Length.Std(); pause = pause*17/10%(600*time.Millisecond) + 100*time.Millisecond {
		d.lan.cut(t, between(host, slices.DeleteFunc(names(before), func(n string) bool { return n == host })...))
		time.Sleep(pause) // the cut itself, not a wait for something
		d.struck["flapping"] += d.heal(t)
		times++
		time.Sleep(pause)
	}
	t.Logf("%s was cut off %d times", host, times)
	d.end(t, before, began, false)
}

// unplugged cuts the primary off from all, clients included.
func (d *divided) unplugged(t *testing.T) {
	before, c := d.begin(t)
	began := time.Now()
	d.plug(t, c.primary, false)
	d.replaced(t, before, false)
	d.plug(t, c.primary, true)
	d.struck["a cable"]++
	d.end(t, before, began, false)
}

// lose loses the primary's host, without a farewell of its kernel, and brings it
// back.
func (d *divided) lose(t *testing.T) time.Duration {
	t.Helper()
	before, c := d.begin(t)
	began := time.Now()
	d.powerOff(t, c.primary)
	d.replaced(t, before, false)
	d.powerOn(t, c.primary)
	return d.end(t, before, began, false)
}

func (d *divided) powerOff(t *testing.T, host string) {
	t.Helper()
	d.plug(t, host, false)
	d.destroy(t, host)
	d.struck["a host"]++
}

func (d *divided) powerOn(t *testing.T, host string) {
	t.Helper()
	d.plug(t, host, true)
	d.revive(t, host)
}

// bothLost has Raft's leader beside the primary, which only lasts until it is
// transferred, and loses their host at once. The leader of before is cut off
// until then: the primary's agent or the third's is elected.
func (d *divided) bothLost(t *testing.T) {
	for range 10 {
		before, c := d.begin(t)
		began := time.Now()
		d.lan.cut(t, between(c.leader, c.primary, c.third))
		var next string
		eventually(t, "another leads", func() error {
			l, err := d.local(t.Context(), c.primary)
			if next = l.Leader.Name; err == nil && (next == c.leader || next == "") {
				err = errors.New("none does")
			}
			return err
		})
		if next != c.primary {
			d.heal(t)
			d.guard(t)
			continue
		}
		d.powerOff(t, c.primary)
		d.struck["Raft's leader beside the primary"] += d.heal(t)
		d.replaced(t, before, false)
		d.powerOn(t, c.primary)
		d.end(t, before, began, false)
		return
	}
	t.Fatal("the primary's agent was never elected")
}

// verdict judges the whole, and tells what was done.
func (d *divided) verdict(t *testing.T) {
	t.Helper()
	if t.Failed() {
		return
	}
	d.everyone.verdict(t, d.company)
	d.checkWrites(t)
	t.Logf("%d scenarios", d.scenes)
	for _, what := range slices.Sorted(maps.Keys(d.struck)) {
		t.Logf("%s: %d", what, d.struck[what])
		if d.struck[what] == 0 {
			t.Errorf("%s never struck", what)
		}
	}
}
