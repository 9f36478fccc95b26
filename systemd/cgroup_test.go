package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestUnitCgroup(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, service string
		svc           map[string]any
		want          string // empty: refused
	}{
		{"running", "db.service", map[string]any{"ControlGroup": "/system.slice/db.service", "Slice": "other.slice"}, "/system.slice/db.service"},
		{"down", "db.service", map[string]any{"ControlGroup": "", "Slice": "system.slice"}, "/system.slice/db.service"},
		{"down in a slice below a slice", "db@1.service", map[string]any{"Slice": "system-db.slice"}, "/system.slice/system-db.slice/db@1.service"},
		{"down in the root slice", "db.service", map[string]any{"Slice": "-.slice"}, "/db.service"},
		{"down, and nobody says where", "db.service", map[string]any{}, ""},
		{"down, with an escaped name", "_db.service", map[string]any{"Slice": "system.slice"}, ""},
	}
	for _, tt := range tests {
		got, err := unitCgroup(tt.service, tt.svc)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: got %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

// groups makes a control group in each kind of hierarchy that this host has and lets us write.
func groups(t *testing.T) map[string]string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a control group needs root; scripts/lab/test runs this")
	}
	made := map[string]string{}
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(mount, fmt.Sprintf("ferryman-test-%d", os.Getpid()))
		if err := os.MkdirAll(filepath.Join(dir, "below"), 0o755); err != nil {
			t.Logf("no control group can be made below %s: %v", mount, err)
			continue
		}
		t.Cleanup(func() {
			if err := errors.Join(os.Remove(filepath.Join(dir, "below")), os.Remove(dir)); err != nil {
				t.Error(err)
			}
		})
		made[filepath.Base(mount)] = dir
	}
	if len(made) == 0 {
		t.Skip("no writable control groups here; scripts/lab/test runs this")
	}
	return made
}

// inGroup starts a program that is in the group from before its first child on.
func inGroup(t *testing.T, dir, script string) *exec.Cmd {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.Command("/bin/sh", "-c", "read -r go && "+script)
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestKillCgroup(t *testing.T) {
	t.Parallel()
	for kind, dir := range groups(t) {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			target := Target{Cgroup: dir}
			if err := target.Kill(ctx); err != nil {
				t.Errorf("an empty group: got %v, want nil", err)
			}
			if err := (Target{Cgroup: dir + "/gone/db.service"}).Kill(ctx); err != nil {
				t.Errorf("a group that is not there: got %v, want nil", err)
			}
			// Children that leave the session do not leave the group.
			forks := inGroup(t, dir, "while :; do setsid sleep 1000 & sleep 0.001; done")
			below := inGroup(t, filepath.Join(dir, "below"), "exec sleep 1000")
			if err := below.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			for {
				pids, err := cgroupPids(dir)
				if err != nil || ctx.Err() != nil {
					t.Fatal(pids, err, ctx.Err())
				}
				if len(pids) > 10 {
					break
				}
			}
			if err := target.Kill(ctx); err != nil {
				t.Errorf("kill: got %v, want nil", err)
			}
			for _, cmd := range []*exec.Cmd{forks, below} {
				if ProcessAlive(cmd.Process.Pid) {
					t.Errorf("process %d is alive after the kill", cmd.Process.Pid)
				}
			}
			if pids, err := cgroupPids(dir); err != nil {
				t.Error(err)
			} else {
				for _, pid := range pids {
					if ProcessAlive(pid) {
						t.Errorf("process %d is alive in the group after the kill", pid)
					}
				}
			}
		})
	}
}

func TestKillCgroupOfNoHierarchy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "gone")} {
		if err := (Target{Cgroup: path}).Kill(t.Context()); err == nil {
			t.Errorf("kill %s, which is no control group: got nil, want an error", path)
		}
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("the directory afterwards: got %v, %v; want it untouched", left, err)
	}
}
