// Package packaging_test holds the packages to what they promise. What needs the packages skips without LAB_PACKAGES, a directory with those of two
// versions: first, again (the same once more) and next. scripts/lab/test makes them.
package packaging_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ferryman"
)

// run returns what a command prints, and whether it ended well.
func run(t *testing.T, program string, args ...string) (string, bool) {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		out = []byte(err.Error())
	}
	return string(out), err == nil
}

// must is run of what has to end well.
func must(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, ok := run(t, program, args...)
	if !ok {
		t.Fatalf("%s %s:\n%s", program, strings.Join(args, " "), out)
	}
	return out
}

// needs skips where a program is not installed.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed; scripts/lab/test runs this", program)
	}
}

// packages are the files of one version and format.
func packages(t *testing.T, version, format string) []string {
	t.Helper()
	dir := os.Getenv("LAB_PACKAGES")
	if dir == "" {
		t.Skip("there are no packages here; scripts/lab/test runs this")
	}
	found, err := filepath.Glob(filepath.Join(dir, version, "*."+format))
	if err != nil || len(found) == 0 {
		t.Fatalf("packages of version %s and format %s: got %v, %v; want at least one", version, format, found, err)
	}
	return found
}

// The arguments by which nothing may happen are tried here, and those that are unknown; what the others do is tried on a host.
func TestScriptsKnowTheirArguments(t *testing.T) {
	t.Parallel()
	for script, arguments := range map[string][]string{
		"postinst": {"abort-upgrade", "abort-remove", "abort-deconfigure", "triggered"},
		"prerm":    {"upgrade 1.0", "failed-upgrade 1.0", "deconfigure in-favour other 1.0", "1", "2"},
		"postrm":   {"upgrade 1.0", "failed-upgrade 1.0", "abort-install", "abort-upgrade 1.0", "1", "2"},
	} {
		path := filepath.Join("scripts", script)
		for _, shell := range []string{"dash", "sh"} {
			if _, err := exec.LookPath(shell); err == nil {
				must(t, shell, "-n", path)
			}
		}
		for _, args := range arguments {
			if out, ok := run(t, path, strings.Fields(args)...); !ok || out != "" {
				t.Errorf("%s %s: got %q; want that it does nothing", script, args, out)
			}
		}
		for _, args := range [][]string{nil, {"nonsense"}} {
			if out, ok := run(t, path, args...); ok || !strings.Contains(out, "unknown argument") {
				t.Errorf("%s %v: got %q; want it refused", script, args, out)
			}
		}
	}
}

func TestUnitsAreHardened(t *testing.T) {
	t.Parallel()
	needs(t, "systemd-analyze")
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) < 3 {
		t.Fatalf("units: got %v, %v", units, err)
	}
	for _, unit := range units {
		most := "25" // tenths
		if unit == "systemd/ferryman-install@.service" {
			most = "35" // root, and writes all over the host
		}
		out, ok := run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+most, unit)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		t.Log(lines[len(lines)-1])
		if !ok {
			t.Errorf("%s: an exposure of %s tenths or less is wanted:\n%s", unit, most, out)
		}
	}
}

// Whatever an agent on trial ends with, it takes another start to put back what was before. Only what says so stays down, and is no failure.
func TestTheAgentIsAlwaysStartedAgain(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("systemd/ferryman.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"StartLimitIntervalSec=0", "Restart=always",
		fmt.Sprintf("RestartPreventExitStatus=%d", ferryman.ExitStay),
		fmt.Sprintf("SuccessExitStatus=%d %d", ferryman.ExitRestart, ferryman.ExitStay),
	} {
		if !strings.Contains(string(unit), "\n"+want+"\n") {
			t.Errorf("%s is not in the unit", want)
		}
	}
}

func TestPackagesAreReproducible(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"deb", "rpm", "apk", "pkg.tar.zst"} {
		for _, path := range packages(t, "first", format) {
			a, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(os.Getenv("LAB_PACKAGES"), "again", filepath.Base(path)))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %d bytes", filepath.Base(path), len(a))
			if !bytes.Equal(a, b) {
				t.Errorf("%s: built twice, and not the same", filepath.Base(path))
			}
		}
	}
}

func TestLintianFindsNoErrors(t *testing.T) {
	t.Parallel()
	debs := packages(t, "first", "deb")
	needs(t, "lintian")
	if out, ok := run(t, "lintian", append([]string{"--allow-root", "--fail-on", "error", "--tag-display-limit", "0"}, debs...)...); !ok {
		t.Errorf("lintian:\n%s", out)
	} else {
		t.Log(out)
	}
}

func TestRpmlintFindsNoErrors(t *testing.T) {
	t.Parallel()
	rpms := packages(t, "first", "rpm")
	needs(t, "rpmlint")
	out, ok := run(t, "rpmlint", append([]string{"--config", "rpmlint.toml"}, rpms...)...)
	if t.Log(out); !ok {
		t.Error("rpmlint finds errors")
	}
}

// The rpm is installed into a directory, as far as Debian's rpm can: without what it depends on, and without its scripts.
func TestRPMInstalls(t *testing.T) {
	t.Parallel()
	rpms := packages(t, "first", "rpm")
	needs(t, "rpm")
	root := t.TempDir()
	must(t, "rpm", "--root", root, "--initdb")
	must(t, "rpm", "--root", root, "--install", "--nodeps", "--noscripts", "--ignorearch", "--nosignature", rpms[0])
	for path, mode := range map[string]fs.FileMode{
		"usr/bin/ferryman": 0o755, "etc/ferryman/agent.yaml": 0o640, "etc/ferryman/agent.d": 0o750 | fs.ModeDir, "usr/lib/systemd/system/ferryman.service": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s: got %v, %v; want mode %v", path, info, err, mode)
		}
	}
	for _, script := range []string{"postinstall program: /bin/sh", "preuninstall program: /bin/sh", "postuninstall program: /bin/sh"} {
		if out := must(t, "rpm", "--root", root, "--query", "--scripts", "ferryman"); !strings.Contains(out, strings.SplitN(script, " ", 2)[0]) {
			t.Errorf("scripts of the rpm: no %s in\n%s", script, out)
		}
	}
	if out := must(t, "rpm", "--root", root, "--query", "--configfiles", "ferryman"); !strings.Contains(out, "/etc/ferryman/agent.yaml") {
		t.Errorf("configuration files of the rpm: got %q", out)
	}
	must(t, "rpm", "--root", root, "--erase", "--noscripts", "--nodeps", "ferryman")
}
