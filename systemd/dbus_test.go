package systemd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestUnitStatus(t *testing.T) {
	t.Parallel()
	id := []byte{0xab, 0xcd}
	tests := []struct {
		name      string
		unit, svc map[string]any
		want      UnitStatus
	}{
		{
			"running",
			map[string]any{"ActiveState": "active", "ActiveEnterTimestamp": uint64(5_000_000), "InvocationID": id},
			map[string]any{"MainPID": uint32(7), "Result": "success", "Restart": "always", "ExecStart": [][]any{
				{"/bin/a", []string{"/bin/a", "b"}, false, uint64(0)}, {"/bin/c", []string{"/bin/c"}, false, uint64(0)},
			}},
			UnitStatus{State: StateRunning, Active: true, PID: 7, StartID: "abcd", Since: time.Unix(5, 0), ExitCode: -1, Command: "/bin/a b; /bin/c", Restart: "always"},
		},
		{
			"waits for its own restart policy",
			map[string]any{"ActiveState": "activating", "SubState": "auto-restart", "InvocationID": id},
			map[string]any{"MainPID": uint32(0), "Result": "exit-code"},
			UnitStatus{State: StateStarting, Active: true, StartID: "abcd", ExitCode: -1},
		},
		{
			"never started",
			map[string]any{"ActiveState": "inactive", "InvocationID": []byte{}},
			map[string]any{"Result": "success", "ExecMainCode": int32(0), "ExecMainStatus": int32(0)},
			UnitStatus{State: StateStopped, Result: "success", ExitCode: -1},
		},
		{
			"failed by exit code",
			map[string]any{"ActiveState": "failed", "InactiveEnterTimestamp": uint64(6_000_000), "InvocationID": id},
			map[string]any{"Result": "exit-code", "ExecMainCode": int32(1), "ExecMainStatus": int32(3)},
			UnitStatus{State: StateFailed, StartID: "abcd", Since: time.Unix(6, 0), Result: "exit-code", ExitCode: 3},
		},
		{
			"failed by signal",
			map[string]any{"ActiveState": "failed", "InvocationID": id},
			map[string]any{"Result": "signal", "ExecMainCode": int32(2), "ExecMainStatus": int32(9)},
			UnitStatus{State: StateFailed, StartID: "abcd", Result: "signal", ExitCode: 137},
		},
	}
	for _, tt := range tests {
		if got := unitStatus(tt.unit, tt.svc); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestCgroupProcs(t *testing.T) {
	t.Parallel()
	got, err := cgroupProcs("/no/such/group.service")
	if len(got) > 0 || err != nil {
		t.Errorf("a group that is not there: got %v, %v; want none", got, err)
	}
}

// hostBus is the host's own systemd, for tests that scripts/lab/test runs.
func hostBus(t *testing.T) *Bus {
	t.Helper()
	b, err := NewBus(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skipf("no system bus here (%v); scripts/lab/test runs this", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if os.Geteuid() != 0 {
		t.Skip("making a unit needs root; scripts/lab/test runs this")
	}
	return b
}

// hostUnit makes a unit of the host's for as long as the test lasts.
func hostUnit(t *testing.T, name, content string) {
	t.Helper()
	path := "/run/systemd/system/" + name + ".service"
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	systemctl(t, "daemon-reload")
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "kill", "-s", "KILL", name).Run()
		_ = exec.Command("systemctl", "reset-failed", name).Run()
		_ = os.Remove(path)
		systemctl(t, "daemon-reload")
	})
}

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		t.Errorf("systemctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// refused checks that an error names the unit, and what to do.
func refused(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	for _, word := range says {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %v, want an error with %q", what, err, word)
		}
	}
}

// TestUnitsThatCannotRun asks a real systemd for what it refuses.
func TestUnitsThatCannotRun(t *testing.T) {
	b := hostBus(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const missing = "ferryman-missing-test"
	for what, do := range map[string]func() error{
		"status":  func() error { _, err := b.Status(ctx, missing); return err },
		"target":  func() error { _, err := b.Target(ctx, missing); return err },
		"start":   func() error { return b.Start(ctx, Unit{Name: missing}) },
		"restart": func() error { return b.Restart(ctx, Unit{Name: missing}) },
		"stop":    func() error { return b.Stop(ctx, missing) },
		"kill":    func() error { return b.Kill(ctx, missing) },
	} {
		err := do()
		if !errors.Is(err, ErrNoUnit) {
			t.Errorf("%s of a unit that is not there: got %v, want ErrNoUnit", what, err)
		}
		refused(t, what, err, missing, "systemd finds no unit file", "list-unit-files")
	}

	const masked = "ferryman-masked-test"
	mask := "/run/systemd/system/" + masked + ".service"
	if err := os.Symlink("/dev/null", mask); err != nil {
		t.Fatal(err)
	}
	systemctl(t, "daemon-reload")
	t.Cleanup(func() { _ = os.Remove(mask); systemctl(t, "daemon-reload") })
	err := b.Start(ctx, Unit{Name: masked})
	if !errors.Is(err, ErrNoUnit) {
		t.Errorf("start of a masked unit: got %v, want ErrNoUnit", err)
	}
	refused(t, "start of a masked unit", err, masked, "systemctl unmask "+masked+".service")

	const bad = "ferryman-bad-test"
	hostUnit(t, bad, "[Service]\nType=exec\n")
	refused(t, "start of a unit that systemd cannot read", b.Start(ctx, Unit{Name: bad}), bad, "bad-setting", "systemctl status "+bad+".service")

	const broken = "ferryman-broken-test"
	hostUnit(t, broken, "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=60\n[Service]\nType=notify\nExecStart=/bin/false\n")
	for range 2 {
		err := b.Start(ctx, Unit{Name: broken})
		refused(t, "start of what fails", err, broken, "failed", "exit code 1", "see journalctl -u "+broken+".service")
	}
	refused(t, "start of what failed too often", b.Start(ctx, Unit{Name: broken}), broken, "it was not even begun", "systemctl reset-failed "+broken+".service")
	refused(t, "restart of what failed too often", b.Restart(ctx, Unit{Name: broken}), broken, "it was not even begun", "systemctl reset-failed "+broken+".service")
	if err := b.Stop(ctx, broken); err != nil {
		t.Errorf("stop of what failed too often: %v", err)
	}
}

// TestTheBusIsRestarted restarts the host's bus, and executes its systemd anew, while jobs run that take three seconds.
func TestTheBusIsRestarted(t *testing.T) {
	b := hostBus(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const name = "ferryman-slow-test"
	hostUnit(t, name, "[Service]\nType=exec\nExecStartPre=/bin/sleep 3\nExecStart=/bin/sleep 1000\n")
	last := ""
	for _, test := range []struct {
		what    string
		happens []string
		do      func() error
	}{
		{"start", []string{"restart", "dbus.service"}, func() error { return b.Start(ctx, Unit{Name: name}) }},
		{"restart", []string{"restart", "dbus.service"}, func() error { return b.Restart(ctx, Unit{Name: name}) }},
		{"restart", []string{"daemon-reexec"}, func() error { return b.Restart(ctx, Unit{Name: name}) }},
		{"restart", []string{"kill", "--signal=KILL", "dbus.service"}, func() error { return b.Restart(ctx, Unit{Name: name}) }},
	} {
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- test.do() }()
		time.Sleep(time.Second)
		systemctl(t, test.happens...)
		if err := <-done; err != nil {
			t.Errorf("%s with %v meanwhile: %v", test.what, test.happens, err)
		}
		st, err := b.Status(ctx, name)
		if err != nil || st.State != StateRunning || st.StartID == last {
			t.Errorf("%s with %v meanwhile: the unit is %+v, %v; want it to run, and not since %q", test.what, test.happens, st, err, last)
		}
		last = st.StartID
		t.Logf("%s with %v meanwhile took %s", test.what, test.happens, time.Since(began).Round(10*time.Millisecond))
	}
	if err := b.Stop(ctx, name); err != nil {
		t.Error(err)
	}
}

// TestBus runs a unit through its life on the host's own systemd.
func TestBus(t *testing.T) {
	b := hostBus(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const name = "ferryman-bus-test"
	// Ignores SIGTERM, so that Stop of the unit is seen to wait for SIGKILL.
	hostUnit(t, name, "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; sleep 1000 & wait'\nTimeoutStopSec=1\n")

	var u Units = b
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	status := func() UnitStatus {
		t.Helper()
		st, err := u.Status(ctx, name)
		must("status", err)
		return st
	}
	idle, err := u.Target(ctx, name)
	must("target while it is down", err)
	must("start", u.Start(ctx, Unit{Name: name}))
	target, err := u.Target(ctx, name)
	must("target while it runs", err)
	if target != idle {
		t.Errorf("target: got %+v while it runs, %+v while it is down; want the same", target, idle)
	}
	first := status()
	if !strings.HasPrefix(first.Command, "/bin/sh -c trap") || first.Restart != "no" {
		t.Errorf("what the next start runs: got %q and Restart=%s", first.Command, first.Restart)
	}
	if !first.Active || first.State != StateRunning || first.PID == 0 || first.StartID == "" || first.Since.IsZero() {
		t.Errorf("status after start: got %+v", first)
	}
	must("start again", u.Start(ctx, Unit{Name: name}))
	if got := status(); got != first {
		t.Errorf("status after a second start: got %+v, want %+v", got, first)
	}
	select {
	case <-u.Changed():
	case <-ctx.Done():
		t.Error("no wake-up came of a start")
	}
	must("restart", u.Restart(ctx, Unit{Name: name}))
	if got := status(); got.StartID == first.StartID || got.PID == first.PID || !got.Active {
		t.Errorf("status after restart: got %+v, was %+v", got, first)
	}
	must("kill", u.Kill(ctx, name))
	if got := status(); got.Active || got.PID != 0 {
		t.Errorf("status after kill: got %+v", got)
	}
	must("start after kill", u.Start(ctx, Unit{Name: name}))
	must("kill without the bus", target.Kill(ctx))
	if left, err := cgroupPids(target.Cgroup); len(left) > 0 || err != nil {
		t.Errorf("processes after a kill without the bus: got %v, %v; want none", left, err)
	}
	must("stop after a kill without the bus", u.Stop(ctx, name))
	must("start once more", u.Start(ctx, Unit{Name: name}))
	must("stop", u.Stop(ctx, name))
	if got := status(); got.Active {
		t.Errorf("status after stop: got %+v", got)
	}
	must("stop again", u.Stop(ctx, name))
}
