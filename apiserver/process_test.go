package apiserver_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman/apiserver"
)

func newProcess(t *testing.T, mode string) *apiserver.Process {
	t.Helper()
	p := &apiserver.Process{
		Base:        t.TempDir(),
		StopTimeout: 10 * time.Second,
		Log:         slog.New(slog.DiscardHandler),
		Prepare: func(_ context.Context, name, _ string) (apiserver.Command, error) {
			return apiserver.Command{Exec: []string{os.Args[0], "agent", name}, Env: []string{"APISERVER_TEST_AGENT=" + mode}, Port: 7440}, nil
		},
	}
	t.Cleanup(func() {
		entries, _ := os.ReadDir(p.Base)
		for _, entry := range entries {
			if err := p.Remove(context.Background(), entry.Name(), true); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

func list(t *testing.T, p apiserver.Provisioner) string {
	t.Helper()
	hosts, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, h := range hosts {
		addresses = append(addresses, h.Address)
	}
	return strings.Join(addresses, " ")
}

// starts is how often a host's agent came up.
func starts(p *apiserver.Process, name string) int {
	raw, _ := os.ReadFile(filepath.Join(p.Base, name, "starts"))
	return strings.Count(string(raw), "\n")
}

func create(t *testing.T, p *apiserver.Process, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := p.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" starts", func() bool { return starts(p, name) == 1 })
	}
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no such agent: pid %d", pid)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func database(t *testing.T, p *apiserver.Process, name string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.Base, name, "database.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// runs tells whether a process that is not ours runs code.
func runs(pid int) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	state := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))[0]
	return state != "Z" && state != "X"
}

func TestProcessRestartsWhoDoesNotSayToStay(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "obedient")
	create(t, p, "n1", "n2", "n10")
	if got, want := list(t, p), "n1:7440 n2:7440 n10:7440"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}

	before := p.Agent("n1")
	kill(t, before, syscall.SIGUSR1)
	eventually(t, "n1 is started again", func() bool { return starts(p, "n1") == 2 && p.Agent("n1") != before })
	if raw, _ := os.ReadFile(filepath.Join(p.Base, "n1", "starts")); string(raw) != "agent n1\nagent n1\n" {
		t.Errorf("starts: got %q", raw)
	}

	// One that ended with 0, and nobody asked it to, is wanted as well.
	kill(t, p.Agent("n1"), syscall.SIGTERM)
	eventually(t, "n1 is started again", func() bool { return starts(p, "n1") == 3 && p.Agent("n1") != 0 })

	// Another status, and a kill, are ends.
	kill(t, p.Agent("n2"), syscall.SIGUSR2)
	kill(t, p.Agent("n10"), syscall.SIGKILL)
	eventually(t, "n2 and n10 are dead", func() bool { return list(t, p) == "n1:7440" })
	if p.Agent("n2") != 0 || starts(p, "n2") != 1 || starts(p, "n10") != 1 {
		t.Errorf("a dead host was started again")
	}
	for name, want := range map[string]string{"n2": "79\n", "n10": "137\n"} {
		if got, _ := os.ReadFile(filepath.Join(p.Base, name, "exit")); string(got) != want {
			t.Errorf("%s: exit %q, want %q", name, got, want)
		}
	}
	if !runs(database(t, p, "n10")) {
		t.Error("the database of n10 died with its agent")
	}
}

func TestProcessRemoveTakesAllOfTheHost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mode string
		lost bool
	}{"obedient": {"obedient", false}, "stubborn": {"stubborn", false}, "lost": {"stubborn", true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, test.mode)
			if !test.lost && test.mode == "stubborn" {
				p.StopTimeout = 100 * time.Millisecond
			}
			create(t, p, "n1", "n2")
			agent, db := p.Agent("n1"), database(t, p, "n1")
			if err := p.Remove(t.Context(), "n1", test.lost); err != nil {
				t.Fatal(err)
			}
			if runs(agent) || runs(db) {
				t.Errorf("agent runs: %v, database runs: %v; want neither", runs(agent), runs(db))
			}
			if got, want := list(t, p), "n2:7440"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if !runs(database(t, p, "n2")) {
				t.Error("the database of another host was killed")
			}
			if err := p.Remove(t.Context(), "n1", test.lost); err != nil {
				t.Errorf("again: %v", err)
			}
			if err := p.Create(t.Context(), "n1"); !errors.Is(err, os.ErrExist) {
				t.Errorf("the name again: got %v, want that its directory exists", err)
			}
		})
	}
}

func TestProcessKillIsAPowerFailure(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "obedient")
	create(t, p, "n1")
	agent, db := p.Agent("n1"), database(t, p, "n1")
	if err := p.Kill(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if runs(agent) || runs(db) || list(t, p) != "" {
		t.Errorf("agent runs: %v, database runs: %v, hosts %q; want none", runs(agent), runs(db), list(t, p))
	}
}

// Another api-server finds what an earlier one started, by its records alone.
func TestProcessHostsOutliveTheServer(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "obedient")
	create(t, p, "n1", "n2")
	next := &apiserver.Process{Base: p.Base, Prepare: p.Prepare, StopTimeout: p.StopTimeout, Log: p.Log}
	if got, want := list(t, next), "n1:7440 n2:7440"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	kill(t, next.Agent("n1"), syscall.SIGUSR1)
	eventually(t, "n1 is started again", func() bool { return starts(next, "n1") == 2 && next.Agent("n1") != 0 })
	if err := next.Remove(t.Context(), "n1", false); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, next), "n2:7440"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A record is of one process, not of whoever has its pid now.
func TestProcessDoesNotMistakeAPid(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "obedient")
	dir := filepath.Join(p.Base, "n1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	text := `{"pid":` + strconv.Itoa(os.Getpid()) + `,"start":1,"boot":"` + strings.TrimSpace(string(boot)) + `"}`
	if err := os.WriteFile(filepath.Join(dir, "host.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := list(t, p); got != "" {
		t.Errorf("got %s, want no host", got)
	}
}

func TestProcessCreateFails(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "obedient")
	p.Prepare = func(context.Context, string, string) (apiserver.Command, error) {
		return apiserver.Command{}, errors.New("no certificate")
	}
	if err := p.Create(t.Context(), "n1"); err == nil || !strings.Contains(err.Error(), "make host n1") || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("got %v", err)
	}
	if err := p.Create(t.Context(), "../n2"); err == nil {
		t.Error("a name that leads out was taken")
	}
	if got := list(t, p); got != "" {
		t.Errorf("got %s, want no host", got)
	}
}
