package install_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/upgrade/install"
)

// debian is a host whose package manager does as it is told, and can be in every bad way.
type debian struct {
	installed map[string]string            // version by name
	offered   map[string]map[string]string // dependencies by "name=version", as apt-cache shows them
	later     map[string]map[string]string // is offered once the sources were asked anew
	cache     map[string]string            // files of apt's cache, by name=version
	audit     string
	halves    []string // that only a new unpacking mends
	lock      string
	room      int64
	loud      bool              // nothing keeps scripts of packages from starting what they like
	simulates string            // what a simulation prints, in the place of what would happen
	beside    string            // and what one prints of what only comes along
	fails     map[string]string // what a program says that fails, by its first words
	held      []string
	ran       []string
	during    func() // comes in the middle of what changes the host
}

func (d *debian) Locked(path string) (string, error) {
	if d.lock != "" && strings.HasSuffix(path, "lock-frontend") {
		return d.lock, nil
	}
	return "", nil
}

func (d *debian) Room(string) (int64, error) { return d.room, nil }

func (d *debian) Glob(pattern string) (found []string, err error) {
	if dir, file := filepath.Split(pattern); dir == "/var/cache/apt/archives/" {
		for name := range d.cache {
			if ok, _ := filepath.Match(file, debOf(name)); ok {
				found = append(found, dir+debOf(name))
			}
		}
		return found, nil
	}
	return filepath.Glob(pattern)
}

func debOf(nameVersion string) string {
	name, version, _ := strings.Cut(nameVersion, "=")
	return name + "_" + strings.ReplaceAll(version, ":", "%3a") + "_amd64.deb"
}

// named is the reverse, of a path.
func named(path string) (name, version string) {
	f := strings.Split(filepath.Base(path), "_")
	return f[0], strings.ReplaceAll(f[1], "%3a", ":")
}

func (d *debian) Run(ctx context.Context, dir, program string, args ...string) (string, error) {
	line := strings.Join(append([]string{filepath.Base(program)}, args...), " ")
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	d.ran = append(d.ran, line)
	if d.during != nil && (strings.HasPrefix(line, "dpkg --configure") || strings.HasPrefix(line, "apt-get install --no-remove")) {
		if d.during(); ctx.Err() != nil {
			return "", errors.New("signal: killed")
		}
	}
	for begin, says := range d.fails {
		if strings.HasPrefix(line, begin) {
			return "", errors.New("exit status 100: " + says)
		}
	}
	last := args[max(0, len(args)-1):]
	switch {
	case program == "/usr/sbin/policy-rc.d":
		if d.loud {
			return "", nil
		}
		return "", errors.New("exit status 101")
	case strings.HasPrefix(line, "dpkg --audit"):
		return d.audit, nil
	case strings.HasPrefix(line, "dpkg --configure"):
		if len(d.halves) == 0 {
			d.audit = ""
		}
	case strings.HasPrefix(line, "dpkg --install"):
		d.audit, d.halves = "", nil
		for _, a := range args[3:] {
			name, version := named(a)
			d.installed[name] = version
		}
	case strings.HasPrefix(line, "dpkg-query") && strings.Contains(line, "Eflag"):
		out := "libc6 ok installed\ngone ok config-files\n"
		for _, name := range d.halves {
			out += name + " reinstreq half-installed\n"
		}
		return out, nil
	case strings.HasPrefix(line, "dpkg-query") && strings.Contains(line, "Depends"):
		return "Depends: " + d.depends(last[0], d.installed[last[0]]) + "\n", nil
	case strings.HasPrefix(line, "dpkg-query"):
		if v, ok := d.installed[last[0]]; ok {
			return "installed " + v + "\n", nil
		}
		return "", errors.New("exit status 1: dpkg-query: no packages found matching " + last[0])
	case strings.HasPrefix(line, "apt-get -q update"):
		for name, deps := range d.later {
			d.offered[name] = deps
		}
	case strings.HasPrefix(line, "apt-cache madison"):
		out := ""
		for nameVersion := range d.offered {
			if name, version, _ := strings.Cut(nameVersion, "="); name == last[0] {
				out += fmt.Sprintf(" %s | %s | file:/srv ./ Packages\n", name, version)
			}
		}
		return out, nil
	case strings.HasPrefix(line, "apt-cache show"):
		name, version, _ := strings.Cut(last[0], "=")
		if _, ok := d.offered[last[0]]; !ok {
			return "", errors.New("exit status 100: E: No packages found")
		}
		return "Package: " + name + "\nDepends: " + d.depends(name, version) + "\nSize: 1000\nInstalled-Size: 10\n", nil
	case strings.HasPrefix(line, "apt-get install -s") && !strings.Contains(line, "redis-server"):
		return d.beside, nil
	case strings.HasPrefix(line, "apt-get install"):
		return d.install(args)
	case strings.HasPrefix(line, "apt-get -q") && args[len(args)-2] == "download":
		if _, ok := d.offered[last[0]]; !ok {
			return "", errors.New("exit status 100: E: Version was not found")
		}
		return "", os.WriteFile(filepath.Join(dir, debOf(last[0])), []byte(last[0]), 0o600)
	case program == "cp":
		return "", os.WriteFile(last[0], []byte("cached"), 0o600)
	case program == "dpkg-repack":
		return "", os.WriteFile(filepath.Join(dir, last[0]+"_1_amd64.deb"), []byte("repacked"), 0o600)
	case program == "apt-mark":
		d.held = args[1:]
	default:
		return "", errors.New("nobody thought of " + line)
	}
	return "", nil
}

func (d *debian) depends(name, version string) string {
	return d.offered[name+"="+version]["Depends"]
}

func (d *debian) install(args []string) (string, error) {
	dry := slices.Contains(args, "-s")
	if dry && d.simulates != "" {
		return d.simulates, nil
	}
	out := ""
	for _, a := range args[1:] {
		name, version, ok := strings.Cut(a, "=")
		if strings.HasPrefix(a, "/") {
			name, version = named(a)
		} else if !ok || strings.HasPrefix(a, "-") || strings.Contains(a, "::") {
			continue
		}
		now, had := d.installed[name]
		if now == version {
			continue
		}
		if had {
			now = "[" + now + "] "
		}
		out += fmt.Sprintf("Inst %s %s(%s Debian:12 [amd64])\n", name, now, version)
		if !dry {
			d.installed[name] = version
		}
	}
	return out, nil
}

const older, newer = "5:7-u7", "5:7-u10"

func newDebian() *debian {
	return &debian{
		installed: map[string]string{"redis-server": older, "redis-tools": older, "libc6": "2.36"},
		offered: map[string]map[string]string{
			"redis-server=" + older: {"Depends": "libc6 (>= 2.34), redis-tools (= " + older + ")"}, "redis-tools=" + older: {"Depends": "libc6"},
			"redis-server=" + newer: {"Depends": "libc6 (>= 2.34), redis-tools (= " + newer + ")"}, "redis-tools=" + newer: {"Depends": "libc6"},
		},
		room: 1 << 40,
	}
}

func (d *debian) Answers(string) bool { return true }

func (d *debian) apt(t *testing.T) install.Manager {
	t.Helper()
	return install.Manager{Keep: install.Keep(filepath.Join(t.TempDir(), "kept")), Host: d, Patience: time.Millisecond, Tool: install.Apt{Host: d}}
}

func server(version string) ferryman.Package {
	return ferryman.Package{Name: "redis-server", Version: version}
}

// installs counts the transactions that were no simulations.
func (d *debian) installs() (n int) {
	for _, line := range d.ran {
		if strings.HasPrefix(line, "apt-get install") && !strings.Contains(line, " -s ") {
			n++
		}
	}
	return n
}

func TestAPackageIsStagedSwitchedAndSwitchedBack(t *testing.T) {
	t.Parallel()
	d := newDebian()
	a := d.apt(t)
	if err := a.Stage(t.Context(), server(newer), 2); err != nil {
		t.Fatal(err)
	}
	if d.installed["redis-server"] != older || d.installs() != 0 {
		t.Fatalf("staged: the host has %v after %q", d.installed, d.ran)
	}
	for _, v := range []string{older, newer} {
		kept, err := a.Keep.Read(server(v))
		if err != nil || len(kept.Files) != 2 || kept.Files[0].Package != server(v) || kept.Files[1].Name != "redis-tools" || kept.Files[1].Version != v {
			t.Errorf("kept of %s: got %+v, %v", v, kept, err)
		}
	}
	d.offered = map[string]map[string]string{} // the sources are gone: what is kept is enough
	for i, v := range []string{newer, older, newer} {
		if err := a.Switch(t.Context(), server(v)); err != nil {
			t.Fatal(err)
		}
		if d.installed["redis-server"] != v || d.installed["redis-tools"] != v || !slices.Equal(d.held, []string{"redis-server", "redis-tools"}) || d.installs() != i+1 {
			t.Errorf("switched to %s: the host has %v, and held are %v", v, d.installed, d.held)
		}
	}
	line := d.ran[slices.IndexFunc(d.ran, func(l string) bool { return strings.HasPrefix(l, "apt-get install --no-remove") })]
	for _, want := range []string{"--allow-downgrades", "--allow-change-held-packages", "--force-confdef", "--force-confold"} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %s", want, line)
		}
	}
	if strings.Contains(strings.Join(d.ran, "\n"), "unauthenticated") {
		t.Error("apt is told to take what nobody signed")
	}
	// Once more there is nothing to do.
	if err := a.Switch(t.Context(), server(newer)); err != nil || d.installs() != 3 {
		t.Errorf("switched again: %v, after %d transactions", err, d.installs())
	}
}

func TestStagingRefuses(t *testing.T) {
	t.Parallel()
	inst := "Inst redis-server [" + older + "] (" + newer + " Debian)\nInst redis-tools [" + older + "] (" + newer + " Debian)\n"
	for name, tt := range map[string]struct {
		change func(*debian)
		want   string
	}{
		"a version that nobody offers": {func(d *debian) {
			delete(d.offered, "redis-server="+newer)
		}, "no package source of this host offers redis-server " + newer + ": they have " + older},
		"a package that nobody offers": {func(d *debian) { d.offered = map[string]map[string]string{} }, "they have no version of it"},
		"sources that do not answer": {func(d *debian) {
			delete(d.offered, "redis-server="+newer)
			d.fails = map[string]string{"apt-get -q update": "E: no route to host"}
		}, "could not be asked anew"},
		"other bytes": {func(d *debian) {
			d.fails = map[string]string{"apt-get -q -o APT::Sandbox::User=root download redis-server=" + newer: "Get:1\nE: Failed to fetch  Hash Sum mismatch"}
		}, "a source of this host serves another file than its own index says: mend the source; apt-get -q: "},
		"a lock":           {func(d *debian) { d.lock = "unattended-upgr (process 7)" }, "the package manager is locked: unattended-upgr (process 7) holds /var/lib/dpkg/lock-frontend"},
		"a broken dpkg":    {func(d *debian) { d.audit = "libc6 is half configured" }, "dpkg --configure -a"},
		"no room":          {func(d *debian) { d.room = 1 << 20 }, "no room"},
		"a removal":        {func(d *debian) { d.simulates = inst + "Remv redis-sentinel [7]\n" }, "it would remove redis-sentinel"},
		"another's change": {func(d *debian) { d.simulates = inst + "Inst libc6 [2.36] (2.37 Debian)\n" }, "it would also change libc6 2.36 → 2.37"},
		"a need that bars the way back": {func(d *debian) {
			d.offered["redis-common=2"] = nil
			d.simulates = inst + "Inst redis-common (2 Debian)\n"
			d.beside = "Inst redis-common (2 Debian)\nInst redis-tools [" + older + "] (" + newer + " Debian)\n"
		}, "there would be no way back to redis-server " + older + ", as what comes along with the new version stays: it would also change redis-tools"},
		"a package that breaks the old version": {func(d *debian) {
			d.offered["redis-common=2"] = nil
			d.simulates = inst + "Inst redis-common (2 Debian)\n"
			d.beside = "Remv redis-tools [" + older + "]\nInst redis-common (2 Debian)\n"
		}, "there would be no way back to redis-server " + older + ", as what comes along with the new version stays: it would remove redis-tools"},
		"a conflict": {func(d *debian) { d.fails = map[string]string{"apt-get install -s": "unmet dependencies"} }, "unmet dependencies"},
		"no way back": {func(d *debian) {
			delete(d.offered, "redis-tools="+older)
			d.fails = map[string]string{"dpkg-repack": "no such file"}
		}, "there would be no way back"},
	} {
		d := newDebian()
		tt.change(d)
		a := d.apt(t)
		if err := a.Stage(t.Context(), server(newer), 2); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
		if _, err := a.Keep.Read(server(newer)); !errors.Is(err, install.ErrNotStaged) {
			t.Errorf("%s: it counts as kept: %v", name, err)
		}
		if d.installs() > 0 || d.held != nil {
			t.Errorf("%s: the host was changed: %q", name, d.ran)
		}
	}
}

func TestStagingFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*debian)
		keeps  int // files of the newer version
	}{
		"sources that are asked anew": {func(d *debian) {
			d.later = map[string]map[string]string{"redis-server=" + newer: d.offered["redis-server="+newer]}
			delete(d.offered, "redis-server="+newer)
		}, 2},
		"a new dependency": {func(d *debian) {
			d.offered["libjemalloc2=5.3"] = nil
			d.beside = "Inst libjemalloc2 (5.3 Debian [amd64])\n"
			d.simulates = "Inst libjemalloc2 (5.3 Debian [amd64])\nInst redis-server [" + older + "] (" + newer + " Debian) []\nInst redis-tools [" + older + "] (" + newer + " Debian)\n"
		}, 3},
		"the old version in apt's cache": {func(d *debian) {
			d.cache = map[string]string{"redis-server=" + older: "", "redis-tools=" + older: ""}
			delete(d.offered, "redis-tools="+older)
		}, 2},
		"the old version by dpkg-repack": {func(d *debian) { delete(d.offered, "redis-tools="+older) }, 2},
		"a first installation": {func(d *debian) {
			delete(d.installed, "redis-server")
			delete(d.installed, "redis-tools")
		}, 2},
	} {
		d := newDebian()
		tt.change(d)
		a := d.apt(t)
		if err := a.Stage(t.Context(), server(newer), 2); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if kept, err := a.Keep.Read(server(newer)); err != nil || len(kept.Files) != tt.keeps {
			t.Errorf("%s: kept are %+v, %v; want %d files", name, kept.Files, err, tt.keeps)
		}
	}
}

func TestSwitchingRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*testing.T, *debian, install.Manager)
		want   string
	}{
		"scripts that could start what they like": {func(_ *testing.T, d *debian, _ install.Manager) { d.loud = true }, "could start and stop what they like"},
		"a file that was changed": {func(t *testing.T, _ *debian, a install.Manager) {
			files, _ := filepath.Glob(filepath.Join(string(a.Keep), "redis-server@*u10", "redis-tools*"))
			raw, err := os.ReadFile(files[0])
			if err == nil {
				raw[0] ^= 1
				err = os.WriteFile(files[0], raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "when it was kept"},
		"what was kept is gone": {func(t *testing.T, _ *debian, a install.Manager) {
			if err := os.RemoveAll(string(a.Keep)); err != nil {
				t.Fatal(err)
			}
		}, "not staged"},
		"a lock":    {func(_ *testing.T, d *debian, _ install.Manager) { d.lock = "apt-get (process 7)" }, "locked"},
		"a removal": {func(_ *testing.T, d *debian, _ install.Manager) { d.simulates = "Remv redis [7]\n" }, "would remove redis"},
		"apt fails": {func(_ *testing.T, d *debian, _ install.Manager) {
			d.fails = map[string]string{"apt-get install --no-remove": "dpkg: error"}
		}, "dpkg: error"},
		"no change": {func(_ *testing.T, d *debian, _ install.Manager) { d.simulates = "nothing\n" }, "apt would do nothing"},
		"not mended": {func(_ *testing.T, d *debian, _ install.Manager) {
			d.audit, d.fails = "broken", map[string]string{"dpkg --configure": "no"}
		}, "it cannot be mended"},
		"hold failed": {func(_ *testing.T, d *debian, _ install.Manager) { d.fails = map[string]string{"apt-mark": "read-only"} }, "read-only"},
	} {
		d := newDebian()
		a := d.apt(t)
		if err := a.Stage(t.Context(), server(newer), 2); err != nil {
			t.Fatal(err)
		}
		tt.change(t, d, a)
		if err := a.Switch(t.Context(), server(newer)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
	}
}

// A switch that a loss of power cut off is ended by the next.
func TestASwitchThatWasCutOffIsMended(t *testing.T) {
	t.Parallel()
	d := newDebian()
	a := d.apt(t)
	if err := a.Stage(t.Context(), server(newer), 2); err != nil {
		t.Fatal(err)
	}
	d.audit = "redis-tools is unpacked and not configured"
	if err := a.Switch(t.Context(), server(newer)); err != nil || d.installed["redis-server"] != newer {
		t.Errorf("got %v, and the host has %v", err, d.installed)
	}
	d.audit, d.halves = "redis-tools is in a mess", []string{"redis-tools"}
	delete(d.installed, "redis-tools")
	if err := a.Switch(t.Context(), server(older)); err != nil || d.installed["redis-server"] != older || d.installed["redis-tools"] != older {
		t.Errorf("half unpacked: got %v, and the host has %v", err, d.installed)
	}
	d.audit, d.halves = "libc6 is in a mess", []string{"libc6"}
	if err := a.Switch(t.Context(), server(newer)); err == nil || !strings.Contains(err.Error(), "mend it first") || d.installed["redis-server"] != older {
		t.Errorf("another's: got %v, and the host has %v; want it left to a person", err, d.installed)
	}
}

func TestWhatIsKeptIsPruned(t *testing.T) {
	t.Parallel()
	d := newDebian()
	a := d.apt(t)
	versions := []string{older, newer, "5:7-u11", "5:7-u12"}
	for _, v := range versions {
		d.offered["redis-server="+v] = map[string]string{"Depends": "redis-tools (= " + v + ")"}
		d.offered["redis-tools="+v] = nil
		if err := errors.Join(a.Stage(t.Context(), server(v), 2), a.Switch(t.Context(), server(v))); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range versions {
		if _, err := a.Keep.Read(server(v)); (err == nil) != (i >= 2) {
			t.Errorf("%s is kept: %v", v, err)
		}
	}
}
