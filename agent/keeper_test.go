package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman/agent/config"
	"ferryman/agent/guard"
	"ferryman/agent/runner"
	"ferryman/demo/port"
	"ferryman/systemd"
)

// TestMain plays the ferryman binary where a keeper starts it as a guard.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "guard" {
		err := RunGuard(context.Background(), os.Args[3], slices.Contains(os.Args, "--standby"), cmp.Or(os.Getenv("GUARD_VERSION"), "1"), slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// guards are the processes of the guard in dir.
func guards(t *testing.T, dir string) (pids []string) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if raw, err := os.ReadFile(file); err == nil && strings.Contains(string(raw), filepath.Join(dir, "spec.json")) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

// A guard with health endpoints stays for them while failover is manual, and is
// gone once its node has left the cluster.
func TestGuardEndsWithTheMembership(t *testing.T) {
	t.Parallel()
	address := port.Free()
	dir := t.TempDir()
	s, err := systemd.NewSupervisor(filepath.Join(dir, "units"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cfg := config.Config{DataDir: dir, Database: config.Database{Engine: config.EngineDemodb, Address: "127.0.0.1:1", DataDir: filepath.Join(dir, "db"), HealthListen: address}}
	k := newKeeper(cfg, "1", runner.Service{Unit: "db"}, s)
	if err := k.Quit(t.Context()); err != nil || len(guards(t, guardDir(cfg))) > 0 {
		t.Errorf("quit where there never was a guard: got %v and the processes %v; want none", err, guards(t, guardDir(cfg)))
	}
	if err := k.Arm(t.Context(), 1, guard.Boottime()+time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := k.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.Dismiss(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := func() error {
		answer, err := http.Get("http://" + address + "/health")
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	until(t, "the health endpoints answer", func() bool { return asked() == nil })
	if err := k.Arm(t.Context(), 2, guard.Boottime()+time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := k.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "all of the guard is gone", func() bool { return len(guards(t, guardDir(cfg))) == 0 })
	if asked() == nil {
		t.Error("something still answers on the health endpoints")
	}
}

// guardsUnit plays the guard's unit: it runs the guard that the spec in dir is for.
type guardsUnit struct {
	units
	dir      string
	version  string
	restarts int
	end      func()
}

func (u *guardsUnit) Target(context.Context, string) (systemd.Target, error) {
	return systemd.Target{Cgroup: "/sys/fs/cgroup/ferryman-test-no-such-group.service"}, nil
}

func (u *guardsUnit) Stop(context.Context, string) error {
	u.end()
	return nil
}

func (u *guardsUnit) Restart(ctx context.Context, unit systemd.Unit) error {
	if unit.Name != config.GuardUnit {
		return fmt.Errorf("restart of %s", unit.Name)
	}
	u.end()
	u.restarts++
	cmd := exec.Command(os.Args[0], "guard", "--spec", filepath.Join(u.dir, "spec.json"))
	cmd.Env = []string{"GUARD_VERSION=" + u.version, "NOTIFY_SOCKET=/nonexistent"} // it is alone, then
	if err := cmd.Start(); err != nil {
		return err
	}
	u.end = func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); u.end = func() {} }
	for { // as Type=notify: until it is ready
		conn, err := net.Dial("unix", filepath.Join(u.dir, "guard.sock"))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Where the guard is a unit's, the agent starts that, and nothing by itself.
func TestGuardOfAUnit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := &guardsUnit{dir: dir, version: "1", end: func() {}}
	defer func() { u.end() }()
	agent := func(version string) *keeper {
		k := newKeeper(config.Config{Database: config.Database{DataDir: filepath.Join(dir, "db")}}, version, runner.Service{Unit: "db"}, u)
		k.kept, k.spec.Dir = true, dir
		return k
	}
	check := func(what string, k *keeper, restarts int) {
		t.Helper()
		if err := k.Check(t.Context()); err != nil || u.restarts != restarts {
			t.Errorf("%s: got %v, and the unit was started %d times; want nil and %d", what, err, u.restarts, restarts)
		}
	}
	k := agent("1")
	check("the first call", k, 1)
	check("another", k, 1)
	check("another agent of the same version", agent("1"), 1)
	if err := k.Arm(t.Context(), 1, guard.Boottime()+time.Hour); err != nil {
		t.Fatal(err)
	}

	u.end()
	if err := k.Check(t.Context()); err == nil {
		t.Error("a guard that is gone: got nil, want an error")
	}
	check("after it was gone", k, 2)
	u.version = "2"
	newer := agent("2")
	check("a newer agent", newer, 3)
	st, err := newer.client.Check(t.Context())
	if err != nil || !st.Armed || st.Epoch != 1 || st.Version != "2" {
		t.Errorf("the guard after its restarts: got %+v, %v; want it armed at epoch 1 as before", st, err)
	}

	if err := newer.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pids := guards(t, dir); len(pids) > 0 || newer.client != nil {
		t.Errorf("after quit: got the processes %v and client %v; want none", pids, newer.client)
	}
}

// until waits for what other processes do.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("%s: not in time", what)
		}
	}
}
