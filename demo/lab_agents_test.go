package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman"
)

// fleet is a site whose agents are carried to releases of the agent.
type fleet struct {
	site
	e         *everyone
	doc       ferryman.Document
	installed string // the version that the hosts have installed
}

// agentSays is the program of a release that is not what it should be: $real is
// the agent beside it, of the version that the release has.
const agentSays = `#!/bin/sh
real=$(dirname "$0")/real
case $1 in agent) ;; *) exec "$real" "$@" ;; esac
`

// unsound are releases of the agent that start and do not hold, by what their
// program does as the agent, and what is said of them.
var unsound = []struct{ name, does, said string }{
	{"says that it is ready, and ends with 0", "exec systemd-notify --ready", "ended 2 times without being asked to"},
	{"cannot read the configuration", `exec "$real" agent --config /etc/ferryman/none.yaml`, "ended 2 times without being asked to"},
	{"hangs before it is ready", "exec sleep 3600", "was not back in its cluster within 10s"},
	{"cannot reach its peers", `FERRYMAN_NODE_LISTEN=127.0.0.1:7440 exec "$real" agent`, "was not back in its cluster within 10s"},
	{"dies after 20 seconds", `(sleep 20; kill -KILL $$) & exec "$real" agent`, "ended 2 times without being asked to"},
}

// offer puts a release of the agent on every host, and into the document.
func (f *fleet) offer(t *testing.T, version, does string) {
	t.Helper()
	dir := t.TempDir()
	real := buildAgent(t, version)
	var lines string
	if does == "" {
		lines = `mkdir bin; mv real bin/ferryman`
	} else {
		lines = `mkdir bin; mv real bin/real; mv script bin/ferryman; chmod 755 bin/ferryman`
	}
	if err := errors.Join(copyFile(filepath.Join(dir, "real"), real), os.WriteFile(filepath.Join(dir, "script"), []byte(agentSays+does+"\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	pack := exec.Command("sh", "-euc", lines+"; tar -c bin | gzip -1 >release.tar.gz")
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	archive := filepath.Join(dir, "release.tar.gz")
	a, err := describe(archive)
	if err != nil {
		t.Fatal(err)
	}
	name := "/srv/ferryman-" + version + ".tar.gz"
	for _, h := range labHosts {
		if err := copyFile(filepath.Join(f.lab(t, "root", h), name), archive); err != nil {
			t.Fatal(err)
		}
	}
	a.URL = "file://" + name
	f.doc.Releases[ferryman.ReleaseKey(ferryman.AgentEngine, version)] = ferryman.Release{Archive: &a}
}

// want makes a version of the agent the desired one, after so much of a bake.
func (f *fleet) want(t *testing.T, version string, bake time.Duration) {
	t.Helper()
	one := 1
	f.doc.Agent.Version, f.doc.Rollout.Canary, f.doc.Rollout.Bake = version, &one, ferryman.Duration(bake)
	f.doc.Generation++
	raw, err := json.Marshal(f.doc)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.lab(t, "root", "api"), "/etc/ferryman/desired.yaml")
	if err := errors.Join(os.WriteFile(path+".new", raw, 0o644), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// rests waits until the rollout of the document is over and all is quiet. A
// longer lease, for an agent that was restarted, may still run.
func (f *fleet) rests(t *testing.T) ferryman.Report {
	t.Helper()
	var seen ferryman.Report
	eventually(t, "the rollout ends", func() error {
		r, err := f.report(t.Context())
		if err != nil {
			return err
		}
		seen = r
		if ro := r.State.Rollout; ro == nil || ro.Generation != f.doc.Generation || ro.Open() {
			return fmt.Errorf("the rollout of generation %d is not over\n%s", f.doc.Generation, history(r))
		}
		return quiet(f.doc, r.View.Nodes[r.State.Primary.Node].Status.Services[0].Instance.Version)(r)
	})
	return seen
}

// runs wants every agent to run a version.
func runs(t *testing.T, r ferryman.Report, version string) {
	t.Helper()
	for _, name := range names(r) {
		if got := statusOf(t, r, name).Agent.Version; got != version {
			t.Errorf("%s runs agent %s, want %s\n%s", name, got, version, history(r))
		}
	}
}

// Agents on three hosts with systemd are carried to another release and back
// while a client writes, also when the power of the host fails in the middle; a
// release that does not hold costs nothing but itself.
func TestAgentsOnHosts(t *testing.T) {
	s := newSite(t)
	s.form(t)
	before := s.whole(t)
	f := &fleet{site: s, doc: before.State.Accepted.Document, installed: statusOf(t, before, "n1").Agent.Version}
	f.doc.Releases = map[string]ferryman.Release{}
	f.e = recording(t, s.report, "a", acknowledged, openLocked)
	f.offer(t, "0.2.0", "")
	for _, scene := range []struct {
		name string
		play func(*testing.T)
	}{
		{"there and back", f.thereAndBack},
		{"power cuts", f.powerCuts},
		{"unsound", f.unsound},
		{"full disk", f.fullDisk},
	} {
		if !t.Run(scene.name, scene.play) {
			return
		}
	}
	f.e.judge(t, s.whole(t), locked{})
}

// thereAndBack carries all agents to the release, and back to what is installed.
// How long writes wait then is to be held against a time in which nothing happens.
func (f *fleet) thereAndBack(t *testing.T) {
	before := f.rests(t)
	quiet := time.Now()
	time.Sleep(5 * time.Second)
	t.Logf("the longest time without a write of a quiet %s was %s", time.Since(quiet).Round(100*time.Millisecond), f.gapSince(f.e, quiet))
	for _, v := range []struct{ want, runs string }{{"0.2.0", "0.2.0"}, {"", f.installed}} {
		at := time.Now()
		f.want(t, v.want, 0)
		r := f.rests(t)
		t.Logf("all agents run %s after %s; the longest time without a write was %s", v.runs, time.Since(at).Round(100*time.Millisecond), f.gapSince(f.e, at))
		runs(t, r, v.runs)
		if got, want := r.State.Primary.Epoch, before.State.Primary.Epoch; got != want {
			t.Errorf("the agents' upgrade led to epoch %d after %d\n%s", got, want, history(r))
		}
	}
}

// powerCuts takes the power from the first host that is carried, at several
// moments of its passage. The rollout goes on when it is back.
func (f *fleet) powerCuts(t *testing.T) {
	dir := "/var/lib/ferryman/releases/releases/ferryman/"
	for i, cut := range []struct{ name, holds string }{
		{"on trial", "-e " + dir + "trial.json"},
		{"started", "-n \"$(grep -s '\"starts\":1' " + dir + "trial.json)\""},
		{"arrived", "-n \"$(grep -s '\"arrived\":true' " + dir + "trial.json)\""},
	} {
		t.Run(cut.name, func(t *testing.T) {
			before := f.rests(t)
			version, runsAs := "0.2.0", "0.2.0"
			if i%2 == 1 {
				version, runsAs = "", f.installed
			}
			f.want(t, version, 2*time.Second)
			host := ""
			eventually(t, "a host is carried", func() error {
				for _, h := range labHosts {
					if _, err := f.try(h, "sh", "-c", "test "+cut.holds); err == nil {
						host = h
						return nil
					}
				}
				return errors.New("none is")
			})
			f.lab(t, "kill", host)
			f.lab(t, "start", host)
			r := f.rests(t)
			runs(t, r, runsAs)
			t.Logf("the power of %s failed; the primary was %s of epoch %d and is %s of epoch %d", host, primaryHost(before), before.State.Primary.Epoch, primaryHost(r), r.State.Primary.Epoch)
		})
	}
}

// unsound carries the agents to releases that do not hold. Each is put back by
// the first host that has it, and no other gets it.
func (f *fleet) unsound(t *testing.T) {
	for i, bad := range unsound {
		t.Run(bad.name, func(t *testing.T) {
			before := f.rests(t)
			old := f.doc.Agent.Version
			version := fmt.Sprintf("0.3.%d", i)
			f.offer(t, version, bad.does)
			at := time.Now()
			f.want(t, version, 55*time.Second)
			r := f.rests(t)
			t.Logf("it was put back, and all is as before, after %s; the longest time without a write was %s", time.Since(at).Round(100*time.Millisecond), f.gapSince(f.e, at))
			part := r.State.Rollout.Parts[ferryman.PartAgents]
			if part.Status != ferryman.PartReverted || !strings.Contains(part.Reason, bad.said) {
				t.Errorf("agents are %s: %s; want them to be reverted because it %s\n%s", part.Status, part.Reason, bad.said, history(r))
			}
			if q, ok := r.State.Quarantined[f.doc.Releases[ferryman.ReleaseKey(ferryman.AgentEngine, version)].Digest()]; !ok {
				t.Errorf("it is not in quarantine, only %v", q)
			}
			touched := 0
			for _, name := range names(r) {
				now, was := statusOf(t, r, name), statusOf(t, before, name)
				if now.BootID != was.BootID {
					touched++
				}
				if now.Agent.Version != was.Agent.Version {
					t.Errorf("%s runs agent %s, before %s", name, now.Agent.Version, was.Agent.Version)
				}
				if now.Services[0].Unit.StartID != was.Services[0].Unit.StartID {
					t.Errorf("the database of %s was started anew", name)
				}
			}
			if touched != 1 {
				t.Errorf("%d agents were started anew, want 1\n%s", touched, history(r))
			}
			f.doc.Agent.Version = old
		})
	}
	f.want(t, f.doc.Agent.Version, 0)
	f.rests(t)
}

// fullDisk has a release fill the disk of its host before it ends: the way back
// takes no room.
func (f *fleet) fullDisk(t *testing.T) {
	f.rests(t)
	for _, h := range labHosts {
		f.run(t, h, `systemctl stop ferryman
			mv /var/lib/ferryman /var/lib/disk && mkdir /var/lib/ferryman
			mount -t tmpfs -o size=160m tmpfs /var/lib/ferryman
			cp -a /var/lib/disk/. /var/lib/ferryman/ && chown --reference /var/lib/disk /var/lib/ferryman
			systemctl start ferryman`)
		f.rests(t)
	}
	f.offer(t, "0.4.0", `cat /dev/zero >/var/lib/ferryman/full 2>/dev/null; exit 1`)
	f.want(t, "0.4.0", 0)
	host := ""
	eventually(t, "a disk is full", func() error {
		for _, h := range labHosts {
			if _, err := f.try(h, "sh", "-c", "test -e /var/lib/ferryman/full"); err == nil {
				host = h
				return nil
			}
		}
		return errors.New("none is")
	})
	eventually(t, "the release is put back", func() error {
		link, err := os.Readlink(filepath.Join(f.lab(t, "root", host), "/var/lib/ferryman/releases/releases/ferryman/current"))
		if err == nil && strings.HasPrefix(link, "0.4.0") {
			err = fmt.Errorf("it leads to %s", link)
		}
		return err
	})
	f.run(t, host, "rm /var/lib/ferryman/full; systemctl restart ferryman")
	r := f.rests(t)
	if part := r.State.Rollout.Parts[ferryman.PartAgents]; part.Status != ferryman.PartReverted {
		t.Errorf("agents are %s: %s\n%s", part.Status, part.Reason, history(r))
	}
	runs(t, r, statusOf(t, r, others(r)[0]).Agent.Version)
}
