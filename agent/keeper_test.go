package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman/agent/config"
	"ferryman/agent/guard"
	"ferryman/agent/runner"
	"ferryman/systemd"
)

// TestMain plays the ferryman binary where a keeper starts it as a guard.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "guard" {
		err := RunGuard(context.Background(), os.Args[3], slices.Contains(os.Args, "--standby"), "1", slog.New(slog.NewTextHandler(os.Stderr, nil)))
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
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
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
