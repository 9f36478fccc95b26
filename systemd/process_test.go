package systemd

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	// A program may call itself what it likes.
	raw := "42 (a) Z 1 (b) S 1 40 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 9876 1 2 3"
	got, err := parseStat(42, raw)
	want := stat{process: process{PID: 42, Start: 9876}, state: 'S', threads: 3, pgrp: 40, session: 41}
	if err != nil || got != want {
		t.Errorf("parseStat: got %+v, %v; want %+v", got, err, want)
	}
	for _, raw := range []string{"", "42", "42 (x) S 1 2", "42 (x) S 1 a b 0 -1 1 1 2 3 4 5 6 7 8 20 0 3 0 9876"} {
		if got, err := parseStat(42, raw); err == nil {
			t.Errorf("parseStat(%q): got %+v, want an error", raw, got)
		}
	}
}

func startSleep(t *testing.T) (*exec.Cmd, process) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s, err := readStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, s.process
}

func TestProcessWait(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(process, context.Context) error{"pidfd": process.wait, "polling": process.poll} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, p := startSleep(t)
			if alive, err := p.alive(); !alive || err != nil {
				t.Fatalf("alive: got %v, %v; want true", alive, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := wait(p, ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("wait with an ended context: got %v, want it to say so", err)
			}
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := wait(p, t.Context()); err != nil {
				t.Errorf("wait: got %v, want nil", err)
			}
			if alive, err := p.alive(); alive || err != nil { // a zombie now: nobody asked for its exit code
				t.Errorf("alive after its end: got %v, %v; want false", alive, err)
			}
		})
	}
}

// TestProcessReused: the same pid with another start time is another process; it is neither alive, nor waited for, nor signalled.
func TestProcessReused(t *testing.T) {
	t.Parallel()
	_, p := startSleep(t)
	other := process{PID: p.PID, Start: p.Start - 1}
	if alive, err := other.alive(); alive || err != nil {
		t.Errorf("alive: got %v, %v; want false", alive, err)
	}
	if err := other.wait(t.Context()); err != nil {
		t.Errorf("wait: got %v, want nil at once", err)
	}
	if err := other.signal(syscall.SIGKILL); err != nil {
		t.Errorf("signal: got %v, want nil", err)
	}
	if alive, err := p.alive(); !alive || err != nil {
		t.Errorf("the process that has the pid: alive %v, %v; want true", alive, err)
	}
}

// TestWaitUsesPoller: to wait must not take a thread.
func TestWaitUsesPoller(t *testing.T) {
	t.Parallel()
	_, p := startSleep(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	const waits = 300
	for range waits {
		go func() { done <- p.wait(ctx) }()
	}
	self, err := readStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range waits {
		<-done
	}
	if self.threads >= waits {
		t.Errorf("threads while %d waits are under way: %d", waits, self.threads)
	}
}
