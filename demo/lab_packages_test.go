package demo

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
)

// The versions of Debian's redis-server that the hosts can install, and one
// that they cannot.
const (
	olderRedis  = "5:7.0.15-1~deb12u7"
	newerRedis  = "5:7.0.15-1~deb12u10"
	brokenRedis = "5:7.0.15-1~deb12u8" // this, and the next two, are made by morePackages
	otherRedis  = "5:7.0.15-1~deb12u9"
	oldRedis    = "5:6.0.16-1~deb12u1"
	absentRedis = "5:7.0.15-1~deb12u99"
)

// buildOf is what a version of redis-server goes by in a desired state.
func buildOf(version string) string {
	return strings.NewReplacer("5:", "", "-1~deb12", "-").Replace(version)
}

// packaged is a lab whose hosts have the package of Ferryman and that of Redis,
// and take no desired state that is not signed.
type packaged struct {
	site
	generation uint64
	version    string // that was published last
	restarts   int
	agent      string // the entry of a release that all agents are to be, "" for what is installed
	mend       func(*testing.T)
}

// setUp does on each host what docs/OPERATIONS.md has a person do.
func (p *packaged) setUp(t *testing.T) {
	t.Helper()
	server := maps.Clone(serverFiles)
	server["/etc/ferryman/api-server.yaml"] = strings.ReplaceAll(server["/etc/ferryman/api-server.yaml"], "desired.yaml", "desired.json")
	p.serve(t, server)
	p.run(t, "api", "cd /etc/ferryman; ferryman desired keygen --out release >/dev/null")
	p.publish(t, olderRedis)
	p.run(t, "api", startServer)
	key, err := os.ReadFile(filepath.Join(p.lab(t, "root", "api"), "/etc/ferryman/release.pub"))
	if err != nil {
		t.Fatal(err)
	}
	files := maps.Clone(hostFiles)
	files["/etc/ferryman/release.pub"] = string(key)
	files["/etc/ferryman/agent.d/trust.yaml"] = "source: {trusted_keys: [/etc/ferryman/release.pub]}\n"
	p.install(t, "redis-server="+olderRedis+" redis-tools="+olderRedis, files)
}

// publish signs a document that wants a version.
func (p *packaged) publish(t *testing.T, version string) {
	t.Helper()
	p.generation, p.version = p.generation+1, version
	var releases strings.Builder
	for _, v := range slices.Compact(slices.Sorted(slices.Values([]string{olderRedis, newerRedis, version}))) {
		fmt.Fprintf(&releases, "  redis/%s: {package: {name: redis-server, version: %q}}\n", buildOf(v), v)
	}
	agent := ""
	if release, _, ok := strings.Cut(p.agent, ":"); ok {
		agent = fmt.Sprintf("agent: {version: %s}", strings.TrimPrefix(release, "ferryman/"))
	}
	p.put(t, "api", map[string]string{"/etc/ferryman/desired.yaml": fmt.Sprintf(`
cluster: orders
generation: %d
nodes: %d
database: {engine: redis, version: %s, restartGeneration: %d, failover: {mode: automatic, leaseTTL: %s}}
%s
rollout: {canary: 0, minHealthy: 2s}
releases:
%s  %s
`, p.generation, len(labHosts), buildOf(version), p.restarts, labLease, agent, &releases, p.agent)})
	p.run(t, "api", "cd /etc/ferryman && ferryman desired sign --key release desired.yaml >next.json && mv next.json desired.json")
}

// until waits for something of the generation that was published last.
func (p *packaged) until(t *testing.T, what string, f func(ferryman.Report) error) (seen ferryman.Report) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Log(history(seen))
		}
	}()
	eventually(t, what, func() error {
		r, err := p.report(t.Context())
		if err != nil {
			return err
		}
		if seen = r; r.State.Rollout == nil || r.State.Rollout.Generation != p.generation {
			return fmt.Errorf("generation %d is not carried yet", p.generation)
		}
		return f(r)
	})
	return seen
}

func (p *packaged) ends(t *testing.T, status ferryman.PartStatus) ferryman.Report {
	t.Helper()
	return p.until(t, "the rollout is "+string(status), func(r ferryman.Report) error {
		if part := r.State.Rollout.Part(ferryman.PartDatabase); part.Status != status {
			return fmt.Errorf("it is %s: %s", part.Status, part.Reason)
		}
		return nil
	})
}

// touched is all that must stay as it is where nothing is touched: the
// database's process, how often systemd started one, and the package.
func (p *packaged) touched(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, h := range labHosts {
		out[h] = p.run(t, h, `systemctl show --value --property=InvocationID redis-server
			journalctl --no-pager --output=cat --unit=redis-server | grep -c ^Started
			dpkg-query -W -f '${Package} ${Version}\n' redis-server redis-tools`)
	}
	return out
}

// has asserts of each host what it has installed, that it is held, and that
// systemd started the database as often as the agent did.
func (p *packaged) has(t *testing.T, version string, starts map[string]int) {
	t.Helper()
	r, err := p.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range labHosts {
		got := p.run(t, h, "dpkg-query -W -f '${db:Status-Abbrev}${Version} ' redis-server redis-tools; apt-mark showhold | tr '\n' ' '")
		if want := fmt.Sprintf("hi %s hi %s redis-server redis-tools", version, version); got != want {
			t.Errorf("%s has %q, want %q", h, got, want)
		}
		if got := statusOf(t, r, h).Services[0].Instance.Version; got != buildOf(version) {
			t.Errorf("%s runs %s, want %s", h, got, buildOf(version))
		}
		if got := p.starts(t)[h]; got != starts[h] {
			t.Errorf("%s: systemd started the database %d times, and the agent %d times", h, got, starts[h])
		}
		if left := p.run(t, h, "dpkg --audit; find /usr/sbin/policy-rc.d -size +0 -o -perm /111; ls /run/ferryman | grep install || true"); left != "" {
			t.Errorf("%s: left behind: %s", h, left)
		}
	}
}

// starts is how often systemd started each database.
func (p *packaged) starts(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, h := range labHosts {
		n := 0
		if _, err := fmt.Sscan(p.run(t, h, "journalctl --no-pager --output=cat --unit=redis-server | grep -c ^Started"), &n); err != nil {
			t.Fatal(err)
		}
		out[h] = n
	}
	return out
}

// agentStarts counts the steps by which agents started databases since one.
func agentStarts(r ferryman.Report, since uint64) map[string]int {
	out := map[string]int{}
	for _, st := range r.State.Ledger {
		if st.ID > since && st.Op == ferryman.OpStart && !st.Open() {
			out[nameOf(r, st.Node)]++
		}
	}
	return out
}

// Three hosts with Debian's Redis are carried from one version of its package to
// another, by root's own unit on each, and are not where that cannot go well.
func TestReleasesThatArePackages(t *testing.T) {
	p := &packaged{site: newSite(t)}
	began := time.Now()
	p.setUp(t)
	p.whole(t)
	t.Logf("%d hosts with packages and signed documents are a cluster after %s", len(labHosts), time.Since(began).Round(100*time.Millisecond))
	e := recording(t, p.report, "a", acknowledged, openLocked)
	for _, scene := range []struct {
		name string
		play func(*testing.T, *everyone)
	}{
		{"a version that nobody offers", p.absent},
		{"an agent and a package of other bytes", p.otherBytes},
		{"a disk without room", p.noRoom},
		{"an older release", p.downgrade},
		{"a version that does not start", p.broken},
		{"a package manager that is locked, and an upgrade", p.upgrade},
		{"units that are not there", p.noUnit},
		{"a restart of a host in the rollout that follows", p.rebooted},
		{"what root does not take from an agent", p.hostile},
		{"a loss of power while apt installs the older version", p.powerless},
	} {
		if !t.Run(scene.name, func(t *testing.T) { scene.play(t, e) }) {
			return
		}
	}
	e.judge(t, p.whole(t), locked{})
}

// broken is a package that can be installed, with a server that cannot run.
func (p *packaged) broken(t *testing.T, e *everyone) {
	whole := p.whole(t)
	counted, last := p.starts(t), whole.State.LastStep
	at := time.Now()
	p.publish(t, brokenRedis)
	r := p.ends(t, ferryman.PartReverted)
	t.Logf("taken back after %s: %s", time.Since(at).Round(100*time.Millisecond), ferryman.Brief(r.State.Rollout.Part(ferryman.PartDatabase).Reason))
	r = p.whole(t)
	if _, ok := r.State.Quarantined[packageOf(brokenRedis).Digest()]; !ok {
		t.Errorf("it is not in quarantine, only %v", r.State.Quarantined)
	}
	for h, n := range agentStarts(r, last) {
		counted[h] += n
	}
	p.has(t, olderRedis, counted)
	t.Logf("the longest time without a write was %s", p.gapSince(e, at))
}

func packageOf(version string) ferryman.Release {
	return ferryman.Release{Package: &ferryman.Package{Name: "redis-server", Version: version}}
}

// offerPackages gives every host a source of three more versions: brokenRedis has
// a server that cannot run, the bytes of otherRedis are not those of the index,
// oldRedis would be of an older release. Hosts fetch its lists when they are asked
// for what they lack.
func (p *packaged) offerPackages(t *testing.T) {
	t.Helper()
	p.run(t, "n1", morePackages)
	for _, h := range labHosts[1:] {
		if out, err := exec.Command("cp", "-r", filepath.Join(p.lab(t, "root", "n1"), "/srv/more"), filepath.Join(p.lab(t, "root", h), "/srv")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, h := range labHosts {
		p.run(t, h, "echo 'deb [trusted=yes] file:/srv/more ./' >/etc/apt/sources.list.d/more.list")
	}
}

const morePackages = `mkdir /srv/more && cd /srv/more
	older=5:7.0.15-1~deb12u7
	for p in redis-tools redis-server; do
		dpkg-deb -R "/srv/packages/${p}_5%3a7.0.15-1~deb12u7_amd64.deb" $p
	done
	printf '#!/bin/sh\nexit 1\n' >redis-tools/usr/bin/redis-check-rdb
	for v in ` + brokenRedis + " " + otherRedis + " " + oldRedis + `; do
		for p in redis-tools redis-server; do
			sed -i "s/$older/$v/" $p/DEBIAN/control
			deb="${p}_$(echo $v | sed s/:/%3a/)_amd64.deb"
			dpkg-deb -Znone -b $p "$deb" >/dev/null
			dpkg-deb -f "$deb"
			sum=$(sha256sum <"$deb" | cut -d' ' -f1)
			[ $v != ` + otherRedis + ` ] || sum=$(printf %064d 0)
			printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$sum"
		done
		older=$v
	done >Packages`

// upgrade begins while one host's package manager is at work, and goes on once
// that has ended.
func (p *packaged) upgrade(t *testing.T, e *everyone) {
	whole := p.whole(t)
	before, counted, last := p.touched(t), p.starts(t), whole.State.LastStep
	p.run(t, "n2", `systemd-run --quiet --unit=holder perl -e 'use Fcntl; open F, ">>", "/var/lib/dpkg/lock-frontend"; fcntl(F, F_SETLK, pack("s s x4 q q i", F_WRLCK, 0 * time, 0, 0, 0)) or die; sleep 600'`)
	at := time.Now()
	p.publish(t, newerRedis)
	p.until(t, "the lock is told", func(r ferryman.Report) error {
		for _, w := range r.Decision.Waits {
			if strings.Contains(w.Reason, "the package manager is locked: perl") && nameOf(r, w.Node) == "n2" {
				return nil
			}
		}
		return errors.New("no wait speaks of it")
	})
	t.Logf("the locked package manager of n2 is told after %s", time.Since(at).Round(100*time.Millisecond))
	if after := p.touched(t); !maps.Equal(before, after) {
		t.Errorf("something was touched: before %v, after %v", before, after)
	}
	p.run(t, "n2", "systemctl stop holder")
	at = time.Now()
	r := p.ends(t, ferryman.PartComplete)
	t.Logf("%s → %s on three hosts took %s from the lock's end; the longest time without a write was %s", olderRedis, newerRedis, time.Since(at).Round(100*time.Millisecond), p.gapSince(e, at))
	for _, st := range r.State.Ledger {
		if st.ID > last && st.Op == ferryman.OpSwitch && !st.Open() {
			t.Logf("the switch of %s took %s", nameOf(r, st.Node), st.Outcome.Ended.Sub(st.Outcome.Began).Round(10*time.Millisecond))
		}
	}
	r = p.whole(t)
	for h, n := range agentStarts(r, last) {
		counted[h] += n
	}
	p.has(t, newerRedis, counted)
}

// powerless is a wish for the older version, in which a host loses its power just
// when its packages are half installed. The same step ends it afterwards.
func (p *packaged) powerless(t *testing.T, e *everyone) {
	counted, last := p.starts(t), p.whole(t).State.LastStep
	at := time.Now()
	p.publish(t, olderRedis)
	var host string
	p.until(t, "apt installs on a host", func(r ferryman.Report) error {
		for _, st := range r.State.Ledger {
			if st.ID > last && st.Op == ferryman.OpSwitch && st.Open() {
				host = nameOf(r, st.Node)
				return nil
			}
		}
		return errors.New("no switch is open")
	})
	// Half of it: unpacked, and not configured. Or else just afterwards.
	p.run(t, host, `for i in $(seq 300); do
			[ -z "$(dpkg --audit)" ] && [ "$(dpkg-query -W -f '${Version}' redis-server)" != `+olderRedis+` ] || exit 0
		done`)
	p.lab(t, "kill", host)
	p.lab(t, "start", host)
	audit := p.run(t, host, "dpkg --audit | head -3")
	p.ends(t, ferryman.PartComplete)
	t.Logf("%s → %s took %s, with a loss of power on %s in its middle (dpkg --audit: %q); the longest time without a write was %s", newerRedis, olderRedis,
		time.Since(at).Round(100*time.Millisecond), host, audit, p.gapSince(e, at))
	for h, n := range agentStarts(p.whole(t), last) {
		counted[h] += n
	}
	counted[host] = p.starts(t)[host] // its journal is that of one boot
	p.has(t, olderRedis, counted)
}

// hostile is what whoever has taken over an agent could try: as its user, with
// all that it may.
func (p *packaged) hostile(t *testing.T, _ *everyone) {
	before := p.touched(t)
	for _, line := range []string{
		"systemctl start ferryman-install@stage-x.service",
		"systemctl start ferryman-install@remove-$(printf %064d 0).service",
		"systemctl stop ferryman-install@stage-$(printf %064d 0).service",
		"systemctl start redis-server@other.service",
		"ferryman install --instance stage-$(printf %064d 0)",
	} {
		if out, err := p.try("n3", "runuser", "-u", "redis", "--", "sh", "-c", line); err == nil {
			t.Errorf("an agent's user may run %s: %s", line, out)
		}
	}
	// A document that nobody signed, and a link to what is none of the agent's.
	id := p.run(t, "n3", "ls /var/lib/ferryman-install/results | sed -n 's/^switch-\\(.*\\).json/\\1/p' | head -1")
	for want, make := range map[string]string{
		"the document is not signed": `printf '{"nodes": 1}' >`,
		"too many levels":            "ln -s /etc/shadow ",
		"no plain file":              "mkfifo ",
		"is longer than":             "head -c 200000 /dev/zero >",
	} {
		path := "/run/ferryman/install-switch-" + id + ".json"
		out, err := p.try("n3", "runuser", "-u", "redis", "--", "sh", "-c", make+path+"; systemctl start ferryman-install@switch-"+id+"; rm "+path)
		if err != nil {
			t.Logf("%s: %s", want, out)
		}
		if got := p.run(t, "n3", "cat /var/lib/ferryman-install/results/switch-"+id+".json"); !strings.Contains(got, want) {
			t.Errorf("root's answer to %s: got %s, want %q", make, got, want)
		}
	}
	if after := p.touched(t); !maps.Equal(before, after) {
		t.Errorf("something was touched: before %v, after %v", before, after)
	}
}
