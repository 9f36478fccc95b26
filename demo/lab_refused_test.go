package demo

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"ferryman"
)

// refused has a rollout begin that cannot go well, and asserts that nothing but
// preparations ran, that nothing was touched, and that writes went on.
func (p *packaged) refused(t *testing.T, e *everyone, begin func() (said string)) {
	t.Helper()
	last, before := p.whole(t).State.LastStep, p.touched(t)
	at := time.Now()
	said := begin()
	took := time.Since(at)
	r, err := p.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range r.State.Ledger {
		if st.ID > last && st.Op != ferryman.OpStage && st.Op != ferryman.OpPreflight && st.Rule != ferryman.RuleRepair {
			t.Errorf("step %d is %s on %s", st.ID, st.Op, nameOf(r, st.Node))
		}
	}
	if after := p.touched(t); !maps.Equal(before, after) {
		t.Errorf("something was touched: before %v, after %v", before, after)
	}
	if err := e.answeredSince(at.Add(took)); err != nil {
		t.Error(err)
	}
	t.Logf("after %s: %s; the longest time without a write was %s", took.Round(100*time.Millisecond), said, p.gapSince(e, at))
}

// reverted waits until a part is refused for good, by a reason that has all of
// the words, and returns it.
func (p *packaged) reverted(t *testing.T, part ferryman.Part, words ...string) string {
	t.Helper()
	r := p.until(t, string(part)+" are refused", func(r ferryman.Report) error {
		if pp := r.State.Rollout.Part(part); pp.Status != ferryman.PartReverted {
			return fmt.Errorf("they are %s: %s", pp.Status, pp.Reason)
		}
		return nil
	})
	reason := r.State.Rollout.Part(part).Reason
	for _, word := range append(words, "stage on n") {
		if !strings.Contains(reason, word) {
			t.Errorf("the reason is %q, want %q in it", reason, word)
		}
	}
	return ferryman.Brief(reason)
}

// stagedNowhere asserts that each host refused a release by itself.
func (p *packaged) stagedNowhere(t *testing.T, since uint64, engine, word string) {
	t.Helper()
	r, err := p.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]bool{}
	for _, st := range r.State.Ledger {
		if st.ID > since && st.Args.Engine == engine && !st.Open() && strings.Contains(st.Outcome.Reason, word) {
			by[nameOf(r, st.Node)] = true
		}
	}
	if len(by) != len(labHosts) {
		t.Errorf("refused on %v, want on each host", by)
	}
}

// blocked waits until each of the hosts is waited for by words of its own.
func (p *packaged) blocked(t *testing.T, hosts map[string]string) (said string) {
	t.Helper()
	p.until(t, "it is blocked", func(r ferryman.Report) error {
		said = ""
		for host, words := range hosts {
			found := false
			for _, w := range r.Decision.Waits {
				if w.Code == "preflight" && nameOf(r, w.Node) == host && strings.HasPrefix(w.Reason, host+" is not ready") && strings.Contains(w.Reason, words) {
					found = true
					said += w.Reason + "; "
				}
			}
			if !found {
				return fmt.Errorf("no wait says that %s on %s: %+v", words, host, r.Decision.Waits)
			}
		}
		return nil
	})
	return strings.TrimSuffix(said, "; ")
}

// absent is a version that no source has.
func (p *packaged) absent(t *testing.T, e *everyone) {
	last := p.whole(t).State.LastStep
	p.refused(t, e, func() string {
		p.publish(t, absentRedis)
		return p.reverted(t, ferryman.PartDatabase, "no package source of this host offers redis-server "+absentRedis, newerRedis)
	})
	p.stagedNowhere(t, last, "redis", "no package source")
}

// otherBytes are a release of the agent that is not what the document says, and
// a package that is not what its source says.
func (p *packaged) otherBytes(t *testing.T, e *everyone) {
	p.offerPackages(t)
	last := p.whole(t).State.LastStep
	for _, h := range labHosts {
		p.run(t, h, "tar -C /usr -czf /srv/agent.tar.gz bin/ferryman")
	}
	p.agent = fmt.Sprintf("ferryman/9.9.9: {archive: {url: \"file:///srv/agent.tar.gz\", sha256: %q, size: %s}}", strings.Repeat("0", 64), p.run(t, "n1", "stat -c %s /srv/agent.tar.gz"))
	p.refused(t, e, func() string {
		p.publish(t, otherRedis)
		return p.reverted(t, ferryman.PartAgents, "sha256") + "; " + p.reverted(t, ferryman.PartDatabase, "serves another file than its own index says")
	})
	p.agent = ""
	p.stagedNowhere(t, last, "ferryman", "sha256")
	p.stagedNowhere(t, last, "redis", "serves another file than its own index says")
}

// noRoom is a host whose disk has none.
func (p *packaged) noRoom(t *testing.T, e *everyone) {
	p.run(t, "n3", "mkdir -p /var/lib/ferryman-install/kept; mount -t tmpfs -o size=8m,mode=755 tmpfs /var/lib/ferryman-install/kept")
	p.refused(t, e, func() string {
		p.publish(t, oldRedis)
		return p.reverted(t, ferryman.PartDatabase, "stage on n3", "no room: the file system of /var/lib/ferryman-install/kept has 8 MiB left", "make room")
	})
	p.run(t, "n3", "umount /var/lib/ferryman-install/kept")
}

// downgrade goes on where there is room now: to an older release, which every
// host can install, and the primary's database says could not load its data.
func (p *packaged) downgrade(t *testing.T, e *everyone) {
	primary := primaryHost(p.whole(t))
	p.refused(t, e, func() string {
		p.run(t, "n1", "ferryman rollout lift redis/"+buildOf(oldRedis))
		return p.blocked(t, map[string]string{primary: "an older release cannot load what 7.0 has written: name 7.0 or newer"})
	})
	p.publish(t, olderRedis)
	p.ends(t, ferryman.PartComplete)
}

// noUnit is a database's unit that is masked on one host, and misspelt on another:
// both databases run, and would not come up again.
func (p *packaged) noUnit(t *testing.T, e *everyone) {
	hosts := others(p.whole(t))
	masked, misspelt := hosts[0], hosts[1]
	if out, err := p.try(misspelt, "sh", "-c", "sed 's/redis-server.service/redis-sever.service/' /etc/ferryman/agent.yaml >/root/agent.yaml; ferryman setup --config /root/agent.yaml"); err == nil || !strings.Contains(out, "redis-sever") {
		t.Errorf("setup with a unit that is not there: got %v, %s", err, out)
	}
	p.mend = func(t *testing.T) {
		p.run(t, misspelt, "sed -i 's/redis-sever.service/redis-server.service/' /etc/ferryman/agent.yaml; systemctl restart ferryman")
		p.run(t, masked, "systemctl unmask redis-server")
	}
	p.refused(t, e, func() string {
		p.run(t, misspelt, "sed -i 's/redis-server.service/redis-sever.service/' /etc/ferryman/agent.yaml; systemctl restart ferryman")
		p.run(t, masked, "systemctl mask redis-server")
		eventually(t, "both agents see it", func() error {
			r, err := p.report(t.Context())
			for _, h := range hosts {
				if err == nil && statusOf(t, r, h).Services[0].Unit.Missing == "" {
					err = errors.New(h + " does not say so")
				}
			}
			return err
		})
		p.restarts++
		p.publish(t, p.version)
		return p.blocked(t, map[string]string{misspelt: "systemd finds no unit file of that name", masked: "systemctl unmask redis-server"})
	})
}

// rebooted mends the units. The rollout goes on, and so it does when the first
// host that it carries is restarted calmly in the middle.
func (p *packaged) rebooted(t *testing.T, e *everyone) {
	last := p.lastStep(t)
	at := time.Now()
	p.mend(t)
	var host string
	before := p.until(t, "a host is carried", func(r ferryman.Report) error {
		for _, st := range r.State.Ledger {
			if st.ID > last && st.Op == ferryman.OpStart && st.Rule == ferryman.RuleUpgrade {
				host = nameOf(r, st.Node)
				return nil
			}
		}
		return errors.New("none is")
	})
	_, away := p.reboot(t, before, host)
	p.ends(t, ferryman.PartComplete)
	r := p.whole(t)
	for _, h := range labHosts {
		if got := statusOf(t, r, h).Services[0].Launched.RestartGeneration; got != uint64(p.restarts) {
			t.Errorf("the database of %s was started under restart generation %d, want %d", h, got, p.restarts)
		}
	}
	if got, want := r.State.Primary.Epoch, before.State.Primary.Epoch+1; got != want {
		t.Errorf("it is epoch %d, want %d: one switchover, for the primary's own restart\n%s", got, want, history(r))
	}
	t.Logf("%s was restarted while it was carried, and voted again after %s; the rolling restart took %s; the longest time without a write was %s", host, away,
		time.Since(at).Round(100*time.Millisecond), p.gapSince(e, at))
}

func (p *packaged) lastStep(t *testing.T) uint64 {
	t.Helper()
	r, err := p.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r.State.LastStep
}
