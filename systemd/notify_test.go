package systemd_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
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

func TestNotifications(t *testing.T) {
	next := listen(t)
	for _, tt := range []struct {
		name string
		send func() error
		want string
	}{
		{"ready", systemd.Ready, `^READY=1$`},
		{"stopping", systemd.Stopping, `^STOPPING=1$`},
		{"reloading", systemd.Reloading, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*\n?$`},
		{"status", func() error { return systemd.SetStatus("waits for\nn2") }, `^STATUS=waits for n2$`},
		{"extend", func() error { return systemd.ExtendTimeout(90 * time.Second) }, `^EXTEND_TIMEOUT_USEC=90000000$`},
		{"ready again: the socket is still known", systemd.Ready, `^READY=1$`},
	} {
		if err := tt.send(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := next(); !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("%s: got %q, want %s", tt.name, got, tt.want)
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

func TestWatchdog(t *testing.T) {
	next := listen(t)
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(20_000))
	t.Setenv("WATCHDOG_PID", "")
	var alive atomic.Bool
	alive.Store(true)
	asked := make(chan bool) // each question that was answered no
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	w := systemd.Watchdog{Log: slog.New(slog.NewTextHandler(&log, nil)), Alive: func() bool {
		if alive.Load() {
			return true
		}
		select {
		case asked <- true:
		case <-ctx.Done():
		}
		return false
	}}
	go func() { done <- w.Run(ctx) }()
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("got %q, want WATCHDOG=1", got)
		}
	}
	alive.Store(false)
	for range 3 {
		<-asked
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if n := strings.Count(log.String(), "no progress"); n != 1 {
		t.Errorf("said %d times that there is no progress, want once: %s", n, log.String())
	}
}

func TestWatchdogOff(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (systemd.Watchdog{}).Run(ctx); err != nil {
		t.Errorf("run without a watchdog: %v", err)
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if err := (systemd.Watchdog{}).Run(ctx); err == nil {
		t.Error("run with WATCHDOG_USEC=soon: got nil, want an error")
	}
}
