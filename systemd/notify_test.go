package systemd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"ferryman/systemd"
)

// listen plays systemd's end of the notify socket.
func listen(t *testing.T) func() string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		buf := make([]byte, 4096)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestReady(t *testing.T) {
	next := listen(t)
	for range 2 { // the socket is still known after the first
		if err := systemd.Ready(); err != nil {
			t.Fatal(err)
		}
		if got, want := next(), "READY=1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWatchdog(t *testing.T) {
	next := listen(t)
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- systemd.Watchdog(ctx, nil) }()
	for range 3 {
		if got, want := next(), "WATCHDOG=1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "")
	if err := systemd.Watchdog(t.Context(), nil); err != nil { // and does not wait
		t.Errorf("where nothing is watched: %v", err)
	}
}

func TestWatchdogOfOneThatHangs(t *testing.T) {
	next := listen(t)
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	asked := 0
	alive := func(context.Context) error {
		if asked++; asked == 2 {
			return errors.New("the loop\nstands still")
		}
		return nil
	}
	go func() { done <- systemd.Watchdog(ctx, alive) }()
	for _, want := range []string{"WATCHDOG=1", "STATUS=hangs, and will be ended by the watchdog: the loop stands still", "WATCHDOG=1"} {
		if got := next(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSayings(t *testing.T) {
	next := listen(t)
	for want, say := range map[string]func() error{
		"STOPPING=1":                  systemd.Stopping,
		"STATUS=a b":                  func() error { return systemd.Say("a\n b") },
		"EXTEND_TIMEOUT_USEC=1500000": func() error { return systemd.Extend(1500 * time.Millisecond) },
	} {
		if err := say(); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNotifyWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := systemd.Ready(); err != nil {
		t.Errorf("ready without systemd: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := systemd.Ready(); err == nil {
		t.Error("ready with a socket that is not there: got nil, want an error")
	}
}
