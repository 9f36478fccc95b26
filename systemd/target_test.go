package systemd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ferryman/systemd"
)

func target(t *testing.T, s *systemd.Supervisor, name string) systemd.Target {
	t.Helper()
	got, err := s.Target(t.Context(), name)
	must(t, err)
	return got
}

func TestTargetCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		target systemd.Target
		ok     bool
	}{
		{systemd.Target{}, false},
		{systemd.Target{Record: "/a/db.json"}, true},
		{systemd.Target{Record: "/a/db"}, false},
		{systemd.Target{Record: "a/db.json"}, false},
		{systemd.Target{Cgroup: "/sys/fs/cgroup/db.service"}, true},
		{systemd.Target{Cgroup: "/sys/fs/cgroup/../db.service"}, false},
		{systemd.Target{Record: "/a/db.json", Cgroup: "/sys/fs/cgroup/db.service"}, false},
	}
	for _, tt := range tests {
		if err := tt.target.Check(); (err == nil) != tt.ok {
			t.Errorf("check %+v: got %v, want nil: %v", tt.target, err, tt.ok)
		}
	}
	if err := (systemd.Target{}).Kill(t.Context()); err == nil {
		t.Error("kill of a target that names nothing: got nil, want an error")
	}
}

// TestTargetKill kills what a supervisor started, behind its back, as one does that lives on when the agent does not.
func TestTargetKill(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, script string }{
		{"one that ignores what it can", `trap "" TERM HUP INT; echo $$ >$LINES; while :; do sleep 1000; done`},
		{"one that forks meanwhile", `echo $$ >$LINES; while :; do sleep 1000 & sleep 0.001; done`},
		{"one that left the session", `setsid sleep 1000 & echo $! >$LINES; wait`},
		{"a stopped one", `echo $$ >$LINES; kill -STOP $$`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, _ := supervise(t)
			path, next := lines(t)
			u := shell("db", tt.script)
			u.Env = append(u.Env, "LINES="+path)
			must(t, s.Start(ctx, u))
			pid, err := strconv.Atoi(next())
			must(t, err)
			if tt.name == "a stopped one" {
				stopped(t, ctx, pid)
			}
			must(t, target(t, s, "db").Kill(ctx))
			if systemd.ProcessAlive(pid) {
				t.Errorf("process %d: alive after the kill", pid)
			}
			if st := settled(t, s, "db"); st.Active {
				t.Errorf("status after the kill: got %+v, want it down", st)
			}
			must(t, target(t, s, "db").Kill(ctx)) // its record says now that it ended
		})
	}
}

func stopped(t *testing.T, ctx context.Context, pid int) {
	t.Helper()
	for {
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		must(t, err)
		if bytes.Contains(raw, []byte(") T ")) {
			return
		}
		must(t, ctx.Err())
	}
}

func TestTargetKillOfNothing(t *testing.T) {
	t.Parallel()
	s, dir := supervise(t)
	must(t, target(t, s, "never").Kill(t.Context()))

	// A record of another boot names a process that may be anybody's now: ours, here.
	other := `{"name":"old","pid":` + strconv.Itoa(os.Getpid()) + `,"start":1,"bootID":"another","startID":"x","exec":["x"]}`
	must(t, os.WriteFile(dir+"/old.json", []byte(other), 0o600))
	must(t, target(t, s, "old").Kill(t.Context()))
	must(t, os.Remove(dir+"/old.json"))

	must(t, os.WriteFile(dir+"/torn.json", []byte(`{"name":`), 0o600))
	if err := target(t, s, "torn").Kill(t.Context()); err == nil {
		t.Error("kill by a record that cannot be read: got nil, want an error")
	}
	must(t, os.Remove(dir+"/torn.json"))
}

// TestTargetKillInVain: what cannot be killed in time must not be taken for fenced. A context that has ended leaves no time to see it.
func TestTargetKillInVain(t *testing.T) {
	t.Parallel()
	s, _ := supervise(t)
	must(t, s.Start(t.Context(), shell("db", "sleep 1000")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The kernel may be as fast as we are: then it was seen empty.
	if err := target(t, s, "db").Kill(ctx); err != nil && !errors.Is(err, systemd.ErrNotEmpty) {
		t.Errorf("kill without any time: got %v, want ErrNotEmpty", err)
	}
	must(t, target(t, s, "db").Kill(t.Context()))
}

func TestProcess(t *testing.T) {
	t.Parallel()
	s, _ := supervise(t)
	must(t, s.Start(t.Context(), shell("db", "sleep 1000")))
	p, err := systemd.FindProcess(status(t, s, "db").PID)
	must(t, err)
	must(t, systemd.Process{PID: p.PID, Start: p.Start + 1}.Kill()) // another one that had the pid
	if !systemd.ProcessAlive(p.PID) {
		t.Fatal("a kill of another process that had the pid killed this one")
	}
	must(t, p.Kill())
	must(t, p.Wait(t.Context()))
	must(t, p.Kill())
	if _, err := systemd.FindProcess(1 << 30); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("find a process that is not there: got %v, want that it is not there", err)
	}
}
