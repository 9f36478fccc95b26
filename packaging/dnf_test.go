package packaging_test

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/installer"
	"ferryman/upgrade/install"
)

//go:embed testdata/lab-rpms
var makeRpms string

// redis is a build of the lab's.
func redis(release string) ferryman.Package {
	return ferryman.Package{Name: "redis-server", Version: "5:7.0.15-" + release}
}

// fedora is a host whose packages are rpms, as far as Debian can be one.
type fedora struct {
	installer.Client
	install.Manager
}

func newFedora(t *testing.T) *fedora {
	t.Helper()
	write(t, "/srv/lab-rpms", makeRpms)
	must(t, "bash", "/srv/lab-rpms")
	must(t, "dnf-3", "install", "-y", "-q", "sh", "lib-1-1", "other", "redis-server-7.0.15-u7", "redis-doc-7.0.15-u7", packages(t, "first", "rpm")[0])
	write(t, "/etc/ferryman/agent.yaml", "node: {name: n1, address: \"127.0.0.1:7440\"}\nsource: {file: /etc/ferryman/desired.yaml}\n"+
		"database: {engine: redis, address: \"127.0.0.1:6379\", supervisor: systemd, unit: redis-server, data_dir: /var/lib/redis}\n")
	must(t, "chgrp", "ferryman", "/etc/ferryman/agent.yaml")
	write(t, "/etc/ferryman/packages", "redis-server\n")
	must(t, "mkdir", "-p", installer.RunDir) // the agent's, once it runs
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "restart", "redis-server")
	keep := install.Keep(installer.KeepDir(installer.StateDir))
	tool, err := install.ToolOf(install.OnHost{}, keep)
	if err != nil {
		t.Fatal(err)
	}
	f := &fedora{Manager: install.Manager{Keep: keep, Host: install.OnHost{}, Patience: time.Millisecond, Tool: tool}}
	f.Client = installer.Client{Run: installer.RunDir, State: installer.StateDir, Envelope: func() []byte { return nil }, Look: tool.Installed,
		Once: func(_ context.Context, unit string) error {
			if out, ok := run(t, "systemctl", "start", unit); !ok {
				return errors.New(out)
			}
			return nil
		}}
	return f
}

// stage and change ask root, by its unit.
func (f *fedora) stage(t *testing.T, p ferryman.Package) error {
	t.Helper()
	return f.Client.Stage(t.Context(), "redis/lab", p)
}

func (f *fedora) change(t *testing.T, p ferryman.Package) error {
	t.Helper()
	return f.Client.Switch(t.Context(), "redis/lab", p)
}

// touched is all that must stay as it is where nothing is touched.
func (f *fedora) touched(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"packages": must(t, "sh", "-c", "rpm -qa | sort"), "process": property(t, "redis-server", "InvocationID"),
		"held": must(t, "cat", "/etc/dnf/dnf.conf")}
}

// has asserts that the host has a version and nothing of another, that rpm finds it whole, and that it is held.
func (f *fedora) has(t *testing.T, release string) {
	t.Helper()
	want := "redis-doc-7.0.15-" + release + "\nredis-server-7.0.15-" + release + "\nredis-tools-7.0.15-" + release + "\n"
	if got := must(t, "sh", "-c", `rpm -qa --qf '%{NAME}-%{VERSION}-%{RELEASE}\n' 'redis-*' | sort`); got != want {
		t.Errorf("the host has %q, want %q", got, want)
	}
	if out, ok := run(t, "rpm", "-V", "redis-server", "redis-tools", "redis-doc"); !ok {
		t.Errorf("%s is not whole: %s", release, out)
	}
	if got, err := f.Client.Installed("redis-server"); err != nil || got != redis(release).Version {
		t.Errorf("installed is %q, %v; want %s", got, err, release)
	}
	held := strings.Fields(must(t, "sed", "-n", "s/^excludepkgs=//p", "/etc/dnf/dnf.conf"))
	if slices.Sort(held); !slices.Equal(held, []string{"redis-doc", "redis-server", "redis-tools"}) {
		t.Errorf("held are %v", held)
	}
	if got := property(t, "redis-server", "NeedDaemonReload"); got != "no" {
		t.Errorf("systemd has not read the new unit: NeedDaemonReload=%s", got)
	}
}

// TestDnfOnAHost has root carry Redis across versions that are rpms, on a host with systemd: Debian's dnf 4 and rpm.
func TestDnfOnAHost(t *testing.T) {
	onHost(t)
	began := time.Now()
	f := newFedora(t)
	t.Logf("the host is ready after %s", time.Since(began).Round(100*time.Millisecond))
	for _, scene := range []struct {
		name string
		play func(*testing.T)
	}{
		{"what cannot go well is refused beforehand", f.refuses},
		{"forth, held, and back without a source", f.forthAndBack},
		{"a script that fails, and the way back", f.fails},
		{"cut off", f.cutOff},
		{"agent", f.agent},
	} {
		at := time.Now()
		if !t.Run(scene.name, scene.play) {
			return
		}
		t.Logf("%s: %s", scene.name, time.Since(at).Round(100*time.Millisecond))
	}
}

func (f *fedora) refuses(t *testing.T) {
	for _, scene := range []struct {
		p        ferryman.Package
		do, undo string
		want     string
	}{
		{redis("u99"), "", "", "no package source of this host offers redis-server 5:7.0.15-u99: they have 5:7.0.15-"},
		{redis("unsigned"), "", "", "no key that rpm knows signed it"},
		// dnf would import the key that the source names, and what is touched has rpm's keys.
		{redis("u10"), "rpm -e --allmatches gpg-pubkey", "rpm --import /srv/key.asc", "no key that rpm knows signed it"},
		{redis("unsigned"), "sed -i s/gpgcheck=1/gpgcheck=0/ /etc/yum.repos.d/lab.repo", "sed -i s/gpgcheck=0/gpgcheck=1/ /etc/yum.repos.d/lab.repo", "no key that rpm knows signed it"},
		{redis("u10"), "mv /srv/r/redis-tools-7.0.15-u7* /srv/gone && createrepo_c -q /srv/r && dnf-3 -q makecache --refresh", "mkdir -p /var/cache/dnf/mine/packages && mv /srv/gone/* /var/cache/dnf/mine/packages",
			"there would be no way back, as redis-server 5:7.0.15-u7"},
		{redis("removes"), "", "", "it would remove other"},
		{redis("splits"), "", "", "redis-server = 5:7.0.15-splits is needed by"},
		{redis("takes"), "", "", "/usr/share/doc/redis/release"},
		{redis("touches"), "", "", "it would also change lib 1-1 → 2-1"},
		{redis("u10"), "sleep 60 & echo $! >/var/lib/dnf/rpmdb_lock.pid", "kill $(cat /var/lib/dnf/rpmdb_lock.pid)", "the package manager is locked: sleep"},
		{redis("u10"), `perl -e 'use Fcntl; open F, ">>", "/var/lib/rpm/.rpm.lock"; fcntl(F, F_SETLK, pack("s s x4 q q i", F_WRLCK, 0 * time, 0, 0, 0)) or die; open G, ">/srv/locked"; sleep 60' & echo $! >/srv/pid; for i in $(seq 100); do [ -e /srv/locked ] || sleep 0.05; done`,
			"kill $(cat /srv/pid)", "the package manager is locked: perl"},
		{redis("u10"), "cp -a /var/lib/rpm /srv/rpm && dd if=/dev/urandom of=/var/lib/rpm/rpmdb.sqlite bs=4k seek=1 count=8 conv=notrunc status=none", "rm -r /var/lib/rpm && mv /srv/rpm /var/lib/rpm", "the package manager is broken: "},
		{redis("u10"), "mkdir -p " + string(f.Keep) + " && mount -t tmpfs -o size=8M none " + string(f.Keep), "umount " + string(f.Keep), "no room: the file system of /var/lib/ferryman-install/kept has"},
	} {
		at := time.Now()
		if scene.do != "" {
			must(t, "sh", "-c", "exec >/dev/null 2>&1; "+scene.do)
		}
		before := map[string]string{}
		if !strings.Contains(scene.want, "broken") {
			before = f.touched(t)
		}
		err := f.Manager.Stage(t.Context(), scene.p, 2)
		if err == nil || !strings.Contains(err.Error(), scene.want) {
			t.Errorf("%s, %s: got %v, want an error with %q", scene.p.Version, scene.do, err, scene.want)
		}
		if _, err := f.Keep.Read(scene.p); err == nil {
			t.Errorf("%s, %s: it counts as kept", scene.p.Version, scene.do)
		}
		if len(before) > 0 {
			if after := f.touched(t); !maps.Equal(before, after) {
				t.Errorf("%s, %s: something was touched: before %q, after %q", scene.p.Version, scene.do, before, after)
			}
		}
		if scene.undo != "" {
			must(t, "sh", "-c", scene.undo)
		}
		t.Logf("%s after %s", scene.want, time.Since(at).Round(100*time.Millisecond))
	}
	if kept, err := f.Keep.Read(redis("u7")); err != nil || len(kept.Files) != 3 {
		t.Errorf("the way back, one file of which is in dnf's cache alone: got %+v, %v", kept, err)
	}
	// Here anything can be started.
	if err := f.Manager.Switch(t.Context(), redis("u7")); err == nil || !strings.Contains(err.Error(), "could start and stop what they like") {
		t.Errorf("a switch outside of the unit: got %v", err)
	}
}

func (f *fedora) forthAndBack(t *testing.T) {
	process := property(t, "redis-server", "InvocationID")
	// As if a document had named first what is installed: that redis-doc needs just that version is seen once it is to change.
	must(t, "rm", "-r", string(f.Keep))
	if err := f.stage(t, redis("u7")); err != nil {
		t.Fatal(err)
	}
	if err := f.stage(t, redis("u10")); err != nil {
		t.Fatal(err)
	}
	must(t, "mv", "/srv/r", "/srv/elsewhere")
	for _, release := range []string{"u10", "u7", "u10", "u7"} {
		must(t, "rm", "-f", "/srv/ran")
		if err := f.change(t, redis(release)); err != nil {
			t.Fatal(err)
		}
		f.has(t, release)
		if ran := must(t, "cat", "/srv/ran"); strings.Count(ran, "\n") != 2 || strings.Contains(ran, "failed") {
			t.Errorf("%s: the scripts said %q; want that two ran, and that nothing of systemctl's failed", release, ran)
		}
	}
	must(t, "mv", "/srv/elsewhere", "/srv/r")
	// One that is somebody else's does nothing to it either.
	must(t, "dnf-3", "upgrade", "-y", "-q")
	if got := strings.TrimSpace(must(t, "rpm", "-q", "lib", "new")); got != "lib-2-1.x86_64\nnew-1-1.x86_64" {
		t.Errorf("after dnf upgrade: got %q", got)
	}
	f.has(t, "u7")
	if now := property(t, "redis-server", "InvocationID"); now != process || property(t, "redis-server", "Markers") != "" {
		t.Error("a script restarted the database, or marked it so that the next one does")
	}
	// By hand they do.
	must(t, "sh", "-c", "rpm -U --replacepkgs "+string(f.Keep)+"/*u7/*.rpm")
	if now := property(t, "redis-server", "InvocationID"); now == process {
		t.Error("the scripts of this package restart nothing anyway")
	}
}

func (f *fedora) fails(t *testing.T) {
	if err := f.stage(t, redis("fails")); err != nil {
		t.Fatal(err)
	}
	if err := f.change(t, redis("fails")); err == nil || !strings.Contains(err.Error(), "scriptlet failed") {
		t.Errorf("a switch whose script fails: got %v", err)
	}
	if got, err := f.Client.Installed("redis-server"); err != nil || got != "" {
		t.Errorf("afterwards installed is %q, %v; want none that is whole", got, err)
	}
	if err := f.change(t, redis("u7")); err != nil {
		t.Fatal(err)
	}
	f.has(t, "u7")
}

// cutOff kills root's unit and rpm in the middle.
func (f *fedora) cutOff(t *testing.T) {
	cut := func(release string) {
		t.Helper()
		if err := f.stage(t, redis(release)); err != nil {
			t.Fatal(err)
		}
		write(t, "/srv/die", "")
		if err := f.change(t, redis(release)); err == nil {
			t.Fatalf("%s: it was not cut off", release)
		}
		t.Log(strings.Join(strings.Fields(must(t, "sh", "-c", "rpm -qa 'redis-*' | sort")), " "))
		if got, err := f.Client.Installed("redis-server"); err != nil || got != "" {
			t.Errorf("%s: installed is %q, %v; want none that is whole", release, got, err)
		}
		if err := f.stage(t, redis("u10")); err == nil || !strings.Contains(err.Error(), "a switch was cut off") {
			t.Errorf("%s: stage another: got %v", release, err)
		}
	}
	// rpm has both versions; the same step's next attempt.
	cut("late")
	if err := f.change(t, redis("late")); err != nil {
		t.Fatal(err)
	}
	f.has(t, "late")
	// The way back instead.
	if err := f.change(t, redis("u7")); err != nil {
		t.Fatal(err)
	}
	cut("late")
	if err := f.change(t, redis("u7")); err != nil {
		t.Fatal(err)
	}
	f.has(t, "u7")
	// rpm has the old version alone, and what it was about to replace may be any of both.
	cut("early")
	write(t, "/usr/bin/redis-check-rdb", "half of it")
	if err := f.change(t, redis("u7")); err != nil {
		t.Fatal(err)
	}
	f.has(t, "u7")
}

// agent is a node that a document carries from one version to the next, and back from one that cannot be installed.
func (f *fedora) agent(t *testing.T) {
	must(t, "systemctl", "stop", "redis-server")
	must(t, "sh", "-c", "rm -rf /var/lib/redis/* "+string(f.Keep)+" /run/ferryman")
	generation := 4
	want := func(release string) {
		generation++
		var releases []string
		for _, r := range []string{"u7", "u10", "fails"} {
			releases = append(releases, fmt.Sprintf("redis/%s: {package: {name: redis-server, version: %q}}", r, redis(r).Version))
		}
		write(t, "/etc/ferryman/desired.yaml", fmt.Sprintf("generation: %d\nnodes: 1\ndatabase: {engine: redis, version: %s}\nrollout: {canary: 0, minHealthy: 1s}\nreleases: {%s}\n",
			generation, release, strings.Join(releases, ", ")))
		must(t, "chgrp", "ferryman", "/etc/ferryman/desired.yaml")
	}
	want("u7")
	must(t, "ferryman", "setup")
	must(t, "runuser", "-u", "redis", "--", "ferryman", "init", "lab")
	must(t, "systemctl", "enable", "--now", "ferryman")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	starts := func() (n int) {
		if _, err := fmt.Sscan(must(t, "sh", "-c", "journalctl --no-pager --output=cat --unit=redis-server | grep -c ^Started"), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := starts()
	want("u10")
	at := time.Now()
	eventually(t, "database complete, u7 → u10", "ferryman", "status")
	t.Logf("u7 → u10 by a document took %s", time.Since(at).Round(100*time.Millisecond))
	f.has(t, "u10")
	eventually(t, "OK", "redis-cli", "set", "a", "1")
	if now := starts(); now != before+1 {
		t.Errorf("systemd started the database %d times, before %d; want once more", now, before)
	}
	want("fails")
	eventually(t, "database reverted", "ferryman", "status")
	eventually(t, "OK", "redis-cli", "set", "a", "2")
	f.has(t, "u10")
	must(t, "sh", "-c", "for i in $(seq 100); do ferryman status | grep -q 'not quite known' || exit 0; sleep 0.1; done; ferryman status; exit 1")
}
