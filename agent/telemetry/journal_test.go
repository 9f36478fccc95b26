package telemetry_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman/agent/telemetry"
)

// journald plays the journal's end of its socket.
func journald(t *testing.T) (path string, next func() map[string][]string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fm") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return path, func() map[string][]string {
		t.Helper()
		buf := make([]byte, 1<<16)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, buf[:n])
	}
}

// parse reads the native protocol.
func parse(t *testing.T, raw []byte) map[string][]string {
	t.Helper()
	fields := map[string][]string{}
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		name, value, ok := strings.Cut(string(line), "=")
		if !ok {
			size := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+size]), rest[8+size:]
			if rest[0] != '\n' {
				t.Fatalf("%s does not end with a line feed", name)
			}
			rest = rest[1:]
		}
		fields[name], raw = append(fields[name], value), rest
	}
	return fields
}

func TestJournal(t *testing.T) {
	t.Parallel()
	path, next := journald(t)
	var stderr bytes.Buffer
	h, err := telemetry.NewJournal(path, &stderr, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	node := log.With("node", "n1")
	tests := []struct {
		name string
		say  func()
		want map[string]string
	}{
		{"a field for each attribute", func() { node.Info("step ended", "step", 7, "took", 2*time.Second) },
			map[string]string{"PRIORITY": "6", "MESSAGE": "step ended node=n1 step=7 took=2s", "SYSLOG_IDENTIFIER": "ferryman", "FERRYMAN_NODE": "n1", "FERRYMAN_STEP": "7", "FERRYMAN_TOOK": "2s"}},
		{"another logger of the same", func() { log.Warn("alone") }, map[string]string{"PRIORITY": "4", "MESSAGE": "alone", "FERRYMAN_NODE": ""}},
		{"an event's node beside the agent's", func() { node.Error("n2 is gone", "node", "b2") },
			map[string]string{"PRIORITY": "3", "MESSAGE": "n2 is gone node=n1 node=b2", "FERRYMAN_NODE": "n1 b2"}},
		{"several lines", func() { log.Info("it failed", "reason", "no\nroute") },
			map[string]string{"MESSAGE": `it failed reason="no\nroute"`, "FERRYMAN_REASON": "no\nroute"}},
		{"a message of several lines", func() { log.Info("one\nPRIORITY=0") }, map[string]string{"MESSAGE": "one\nPRIORITY=0", "PRIORITY": "6"}},
		{"groups and odd names", func() { log.WithGroup("raft").With("last contact", "1s").Info("x", slog.Group("peer", "id", "b2")) },
			map[string]string{"FERRYMAN_RAFT_LAST_CONTACT": "1s", "FERRYMAN_RAFT_PEER_ID": "b2"}},
		{"a name that is too long", func() { log.Info("x", strings.Repeat("k", 99), "v") }, map[string]string{"FERRYMAN_" + strings.Repeat("K", 55): "v"}},
	}
	for _, test := range tests {
		test.say()
		got := next()
		for field, want := range test.want {
			if have := strings.Join(got[field], " "); have != want {
				t.Errorf("%s: %s: got %q, want %q", test.name, field, have, want)
			}
		}
	}
	log.Debug("below the level")
	log.Info("next")
	if got := next()["MESSAGE"]; got[0] != "next" {
		t.Errorf("got %q, want what is not below the level", got)
	}
	if stderr.Len() > 0 {
		t.Errorf("the fallback got %q, want nothing", stderr.String())
	}
}

func TestJournalThatIsAway(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	h, err := telemetry.NewJournal(filepath.Join(t.TempDir(), "none"), &stderr, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(h).Warn("the journal is gone", "step", 7)
	if got, want := stderr.String(), "<4>the journal is gone step=7\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]bool{fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, "": false, "x": false} {
		t.Setenv("JOURNAL_STREAM", stream)
		if got := telemetry.OnJournal(f); got != want {
			t.Errorf("JOURNAL_STREAM=%q: got %v, want %v", stream, got, want)
		}
		if telemetry.OnJournal(&bytes.Buffer{}) {
			t.Error("a buffer is no stream of the journal")
		}
	}
}

// What is written is found by its fields.
func TestTheJournalOfAHost(t *testing.T) {
	if _, err := os.Stat(telemetry.JournalSocket); err != nil {
		t.Skip("needs systemd's journal; scripts/lab/test runs this")
	}
	var stderr bytes.Buffer
	h, err := telemetry.NewJournal(telemetry.JournalSocket, &stderr, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(h).With("node", "n1").Warn("a step failed", "step", 4711, "reason", "no route\nto it")
	want := map[string]string{"PRIORITY": "4", "MESSAGE": `a step failed node=n1 step=4711 reason="no route\nto it"`, "FERRYMAN_NODE": "n1",
		"FERRYMAN_REASON": "no route\nto it", "SYSLOG_IDENTIFIER": "ferryman"}
	deadline := time.Now().Add(time.Minute)
	for {
		out, err := exec.Command("journalctl", "--output", "json", "FERRYMAN_STEP=4711").CombinedOutput()
		got := map[string]any{}
		if err == nil && json.Unmarshal(out, &got) == nil && len(got) > 0 {
			for field, value := range want {
				if got[field] != value {
					t.Errorf("%s: got %q, want %q", field, got[field], value)
				}
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not found: %v\n%s\n%s", err, out, stderr.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}
