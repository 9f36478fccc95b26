package systemd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
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
			map[string]any{"MainPID": uint32(7), "Result": "success"},
			UnitStatus{State: StateRunning, Active: true, PID: 7, StartID: "abcd", Since: time.Unix(5, 0), ExitCode: -1},
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

// TestBus runs a transient unit through its life on the host's own systemd.
func TestBus(t *testing.T) {
	b, err := NewBus(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skipf("no system bus here (%v); scripts/lab/test runs this", err)
	}
	defer b.Close()
	if os.Geteuid() != 0 {
		t.Skip("making a unit needs root; scripts/lab/test runs this")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const name = "ferryman-bus-test"
	if _, err := b.Status(ctx, name+"-missing"); !errors.Is(err, ErrNoUnit) {
		t.Errorf("status of a unit that is not there: got %v, want ErrNoUnit", err)
	}
	path := "/run/systemd/system/" + name + ".service"
	// Ignores SIGTERM, so that Stop of the unit is seen to wait for SIGKILL.
	if err := os.WriteFile(path, []byte("[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; sleep 1000 & wait'\nTimeoutStopSec=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	reload := func() {
		if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
			t.Errorf("daemon-reload: %v: %s", err, out)
		}
	}
	reload()
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "kill", "-s", "KILL", name).Run()
		_ = exec.Command("systemctl", "reset-failed", name).Run()
		_ = os.Remove(path)
		reload()
	})

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
