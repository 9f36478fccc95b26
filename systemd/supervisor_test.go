package systemd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ferryman/systemd"
)

// The test binary is also the agent that gets killed: with these set it supervises dir, starts the unit, says so and waits for its end.
const (
	agentDir  = "SUPERVISOR_TEST_DIR"
	agentExec = "SUPERVISOR_TEST_EXEC"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(agentDir); dir != "" {
		if err := agent(dir, os.Getenv(agentExec)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		select {}
	}
	os.Exit(m.Run())
}

func agent(dir, script string) error {
	s, err := systemd.NewSupervisor(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := s.Start(context.Background(), shell("db", script)); err != nil {
		return err
	}
	_, err = fmt.Println("started")
	return err
}

// shell is a unit that runs a script. Its stop time-out is an hour, so that a test never passes because of it.
func shell(name, script string) systemd.Unit {
	return systemd.Unit{Name: name, Exec: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}, StopTimeout: time.Hour}
}

func open(t *testing.T, dir string) *systemd.Supervisor {
	t.Helper()
	s, err := systemd.NewSupervisor(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// supervise opens a supervisor whose units are killed at the end of the test.
func supervise(t *testing.T) (*systemd.Supervisor, string) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	t.Cleanup(func() { killAll(t, s, dir) })
	return s, dir
}

func killAll(t *testing.T, s *systemd.Supervisor, dir string) {
	t.Helper()
	records, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	for _, r := range records {
		name := strings.TrimSuffix(filepath.Base(r), ".json")
		if err := s.Kill(context.Background(), name); err != nil && !strings.Contains(err.Error(), "canceled") {
			t.Errorf("kill %s: %v", name, err)
		}
	}
}

// lines makes a pipe with a name, for a script to tell the test what it has done; next returns its next line.
func lines(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "lines")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opened for both, it neither waits for a writer nor ends when one goes.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(f)
	return path, func() string {
		t.Helper()
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the script said nothing: %v", err)
		}
		return strings.TrimSpace(line)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, s *systemd.Supervisor, name string) systemd.UnitStatus {
	t.Helper()
	st, err := s.Status(t.Context(), name)
	must(t, err)
	return st
}

// settled waits, by wake-ups alone, until the unit is not active any more.
func settled(t *testing.T, s *systemd.Supervisor, name string) systemd.UnitStatus {
	t.Helper()
	for {
		if st := status(t, s, name); !st.Active {
			return st
		}
		select {
		case <-s.Changed():
		case <-time.After(time.Minute):
			t.Fatalf("unit %s: no wake-up", name)
		}
	}
}

func pid(t *testing.T, line string) int {
	t.Helper()
	n, err := strconv.Atoi(line)
	must(t, err)
	return n
}

func TestLife(t *testing.T) {
	t.Parallel()
	s, dir := supervise(t)
	if got, want := status(t, s, "db"), (systemd.UnitStatus{State: systemd.StateStopped, ExitCode: -1}); got != want {
		t.Errorf("status before any start: got %+v, want %+v", got, want)
	}
	must(t, s.Stop(t.Context(), "db"))
	must(t, s.Kill(t.Context(), "db"))

	said, next := lines(t)
	u := shell("db", `echo to-out; echo to-err >&2; echo "$HOME|$GREETING|$PWD|$INVOCATION_ID|$$" > `+said+`; exec sleep 1000`)
	u.Env = append(u.Env, "GREETING=hello there")
	u.Dir = dir
	must(t, s.Start(t.Context(), u))
	first := status(t, s, "db")
	if got, want := next(), fmt.Sprintf("|hello there|%s|%s|%d", dir, first.StartID, first.PID); got != want {
		t.Errorf("environment of the program: got %q, want %q", got, want)
	}
	if !first.Active || first.State != systemd.StateRunning || first.StartID == "" || first.ExitCode != -1 || first.Since.IsZero() {
		t.Errorf("status after start: got %+v", first)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "db.log")); err != nil || string(log) != "to-out\nto-err\n" {
		t.Errorf("log: got %q, %v", log, err)
	}
	must(t, s.Start(t.Context(), u))
	if got := status(t, s, "db"); got != first {
		t.Errorf("status after a second start: got %+v, want %+v", got, first)
	}

	must(t, s.Restart(t.Context(), u))
	next()
	second := status(t, s, "db")
	if !second.Active || second.StartID == first.StartID || second.PID == first.PID || systemd.ProcessAlive(first.PID) {
		t.Errorf("status after restart: got %+v, was %+v", second, first)
	}

	must(t, s.Stop(t.Context(), "db"))
	got := status(t, s, "db")
	if got.Active || got.State != systemd.StateStopped || got.PID != 0 || got.StartID != second.StartID || got.Result != "signal" || got.ExitCode != 128+15 {
		t.Errorf("status after stop: got %+v", got)
	}
	if systemd.ProcessAlive(second.PID) {
		t.Error("the process is alive after stop")
	}

	// The next agent knows how it ended.
	must(t, s.Close())
	if next := status(t, open(t, dir), "db"); next.Since.Sub(got.Since).Abs() > time.Microsecond || next.Result != got.Result || next.State != got.State {
		t.Errorf("status by the next supervisor: got %+v, want %+v", next, got)
	}
}

func TestEndsByItself(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		state        systemd.State
		result       string
		code         int
	}{
		{"well", "exit 0", systemd.StateStopped, "success", 0},
		{"badly", "exit 3", systemd.StateFailed, "exit-code", 3},
		{"by-signal", "kill -9 $$", systemd.StateFailed, "signal", 137},
		{"leaving-others", "sleep 1000 & exit 4", systemd.StateFailed, "exit-code", 4},
		{"leaving-the-background", "setsid sleep 1000 & exit 4", systemd.StateFailed, "exit-code", 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, _ := supervise(t)
			u := shell("db", tt.script)
			must(t, s.Start(t.Context(), u))
			got := settled(t, s, "db")
			if got.State != tt.state || got.Result != tt.result || got.ExitCode != tt.code || got.PID != 0 {
				t.Errorf("got %+v, want %s, %s, %d", got, tt.state, tt.result, tt.code)
			}
			must(t, s.Start(t.Context(), u)) // it may be started again
			if again := status(t, s, "db"); again.StartID == got.StartID {
				t.Errorf("StartID after another start: got the same, %s", got.StartID)
			}
		})
	}
}

func TestStopSignal(t *testing.T) {
	t.Parallel()
	s, _ := supervise(t)
	said, next := lines(t)
	// The rest of the unit must not get the signal: a database ends its own workers in its own order.
	u := shell("db", `(trap 'echo worker > `+said+`' INT; echo $$ > `+said+`; while :; do sleep 1000 & wait; done) & trap 'echo main > `+said+`; exit 0' INT; wait`)
	u.StopSignal = syscall.SIGINT
	must(t, s.Start(t.Context(), u))
	next()
	must(t, s.Stop(t.Context(), "db"))
	if got := next(); got != "main" {
		t.Errorf("first to hear of the stop: got %q, want main", got)
	}
	if got := status(t, s, "db"); got.Result != "success" || got.State != systemd.StateStopped {
		t.Errorf("status after stop: got %+v", got)
	}
}

func TestStopKillsInTheEnd(t *testing.T) {
	t.Parallel()
	s, _ := supervise(t)
	said, next := lines(t)
	u := shell("db", `trap '' TERM; sleep 1000 & echo $! > `+said+`; setsid sleep 1000 & echo $! > `+said+`; while :; do wait; done`)
	u.StopTimeout = 50 * time.Millisecond
	must(t, s.Start(t.Context(), u))
	main, child, daemon := status(t, s, "db").PID, pid(t, next()), pid(t, next())
	must(t, s.Stop(t.Context(), "db"))
	for what, p := range map[string]int{"main": main, "child": child, "daemon": daemon} {
		if systemd.ProcessAlive(p) {
			t.Errorf("the %s process is alive after stop", what)
		}
	}
	if got := status(t, s, "db"); got.Result != "timeout" || got.State != systemd.StateStopped || got.ExitCode != 137 {
		t.Errorf("status after stop: got %+v", got)
	}
}

func TestKillOvertakesStop(t *testing.T) {
	t.Parallel()
	s, _ := supervise(t)
	said, next := lines(t)
	must(t, s.Start(t.Context(), shell("db", `trap 'echo asked > `+said+`' TERM; echo up > `+said+`; while :; do sleep 1000 & wait; done`)))
	next()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- s.Stop(ctx, "db") }()
	next()
	if got := status(t, s, "db"); got.State != systemd.StateStopping || !got.Active {
		t.Errorf("status while it stops: got %+v", got)
	}
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) || !errors.Is(err, systemd.ErrNotEmpty) {
		t.Errorf("stop with an ended context: got %v", err)
	}
	// It was asked to stop, so that it still runs does not count as started.
	old := status(t, s, "db").StartID
	if err := s.Start(ctx, shell("db", "exec sleep 1000")); !errors.Is(err, systemd.ErrNotEmpty) {
		t.Errorf("start while it stops, with an ended context: got %v, want ErrNotEmpty", err)
	}
	go func() { stopped <- s.Stop(t.Context(), "db") }()
	next()
	must(t, s.Kill(t.Context(), "db"))
	if err := <-stopped; err != nil {
		t.Errorf("stop that a kill overtook: %v", err)
	}
	must(t, s.Start(t.Context(), shell("db", "exec sleep 1000")))
	if got := status(t, s, "db"); got.StartID == old || got.State != systemd.StateRunning {
		t.Errorf("status after another start: got %+v", got)
	}
}

// TestStartOnce: however many ask at once, one process comes of it.
func TestStartOnce(t *testing.T) {
	t.Parallel()
	s, _ := supervise(t)
	u := shell("db", "exec sleep 1000") // no child, which would be counted too
	u.Dir = t.TempDir()                 // tells them apart; a process has its directory at every moment, its arguments not while it becomes another program
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := s.Start(t.Context(), u); err != nil {
				t.Errorf("start: %v", err)
			}
		})
	}
	wg.Wait()
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, f := range links {
		if dir, _ := os.Readlink(f); dir == u.Dir {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Errorf("processes after 16 starts: %v, want one", found)
	}
}

func TestAdoptedByNextSupervisor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	u := shell("db", "exec sleep 1000")
	must(t, s.Start(t.Context(), u))
	before := status(t, s, "db")
	if _, err := systemd.NewSupervisor(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, systemd.ErrInUse) {
		t.Errorf("a second supervisor at the same time: got %v, want ErrInUse", err)
	}
	must(t, s.Close())

	s = open(t, dir)
	t.Cleanup(func() { killAll(t, s, dir) })
	must(t, s.Start(t.Context(), u))
	after := status(t, s, "db")
	if after.PID != before.PID || after.StartID != before.StartID || !after.Active || !after.Since.Equal(before.Since) {
		t.Errorf("status after adoption: got %+v, want %+v", after, before)
	}
	must(t, s.Stop(t.Context(), "db"))
	if systemd.ProcessAlive(before.PID) {
		t.Error("the adopted process is alive after stop")
	}
}

// startAgent runs this binary as an agent that starts script.
func startAgent(t *testing.T, dir, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), agentDir+"="+dir, agentExec+"="+script)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

func TestAdoptedAfterKill(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		finish func(t *testing.T, s *systemd.Supervisor, pid int)
	}{
		{"stop", func(t *testing.T, s *systemd.Supervisor, _ int) { must(t, s.Stop(t.Context(), "db")) }},
		{"kill", func(t *testing.T, s *systemd.Supervisor, _ int) { must(t, s.Kill(t.Context(), "db")) }},
		{"it dies", func(t *testing.T, s *systemd.Supervisor, pid int) {
			must(t, syscall.Kill(pid, syscall.SIGKILL))
			// Somebody else's child: how it ended is not ours to know.
			if got := settled(t, s, "db"); got.State != systemd.StateFailed || got.Result != systemd.ResultUnknown || got.ExitCode != -1 {
				t.Errorf("status after its death: got %+v", got)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			said, next := lines(t)
			script := `sleep 1000 & echo $$ > ` + said + `; echo $! > ` + said + `; wait`
			cmd, out := startAgent(t, dir, script)
			if line, err := out.ReadString('\n'); line != "started\n" {
				t.Fatalf("agent: %q, %v", line, err)
			}
			main, child := pid(t, next()), pid(t, next())
			must(t, cmd.Process.Kill())
			_ = cmd.Wait()

			s := open(t, dir)
			t.Cleanup(func() { killAll(t, s, dir) })
			must(t, s.Start(t.Context(), shell("db", script)))
			if got := status(t, s, "db"); got.PID != main || !got.Active {
				t.Errorf("status after adoption: got %+v, want process %d", got, main)
			}
			tt.finish(t, s, main)
			if systemd.ProcessAlive(main) || systemd.ProcessAlive(child) {
				t.Error("processes of the unit are alive after its end")
			}
		})
	}
}

// TestKilledBeforeRecord kills an agent that has forked and hangs in writing the record: the program must never begin.
func TestKilledBeforeRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(dir, ".db.tmp"), 0o600)) // to open it for writing waits for a reader
	ran := filepath.Join(t.TempDir(), "ran")
	cmd, _ := startAgent(t, dir, "touch "+ran+"; exec sleep 1000")

	forked := 0
	for tick := time.NewTicker(time.Millisecond); forked == 0; <-tick.C {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
		if err != nil || len(files) == 0 {
			t.Fatalf("the agent is gone: %v", err)
		}
		for _, f := range files {
			raw, _ := os.ReadFile(f)
			if s := strings.TrimSpace(string(raw)); s != "" {
				forked = pid(t, s)
			}
		}
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := systemd.WaitGone(ctx, forked); err != nil {
		t.Fatalf("the fork is still there: %v", err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program ran without a record")
	}
	if got := status(t, open(t, dir), "db"); got.Active {
		t.Errorf("status: got %+v", got)
	}
}

func TestRecordFails(t *testing.T) {
	t.Parallel()
	s, dir := supervise(t)
	must(t, os.Mkdir(filepath.Join(dir, ".db.tmp"), 0o700))
	ran := filepath.Join(t.TempDir(), "ran")
	if err := s.Start(t.Context(), shell("db", "touch "+ran+"; exec sleep 1000")); err == nil {
		t.Error("start without a record: got nil, want an error")
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program ran without a record")
	}
}

// TestNotOurs: a record whose process is another one by now is neither adopted nor killed.
func TestNotOurs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(record map[string]any)
	}{
		{"pid used again", func(r map[string]any) { r["start"] = r["start"].(float64) - 1 }},
		{"another boot", func(r map[string]any) { r["bootID"] = "another" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The victim was started by somebody else altogether, but has the recorded pid, in a session of its own.
			victim := exec.Command("sleep", "1000")
			victim.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			must(t, victim.Start())
			t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })

			s, dir := supervise(t)
			u := shell("db", "exec sleep 1000")
			must(t, s.Start(t.Context(), u))
			path := filepath.Join(dir, "db.json")
			raw, err := os.ReadFile(path)
			must(t, err)
			must(t, s.Kill(t.Context(), "db"))
			must(t, s.Close())

			var rec map[string]any
			must(t, json.Unmarshal(raw, &rec))
			rec["pid"], rec["start"] = victim.Process.Pid, startTime(t, victim.Process.Pid)
			tt.change(rec)
			raw, err = json.Marshal(rec)
			must(t, err)
			must(t, os.WriteFile(path, raw, 0o600))

			s = open(t, dir)
			t.Cleanup(func() { killAll(t, s, dir) })
			if got := settled(t, s, "db"); got.State != systemd.StateFailed || got.Result != systemd.ResultUnknown {
				t.Errorf("status: got %+v", got)
			}
			must(t, s.Stop(t.Context(), "db"))
			must(t, s.Kill(t.Context(), "db"))
			must(t, s.Start(t.Context(), u))
			if got := status(t, s, "db"); got.PID == victim.Process.Pid || !got.Active {
				t.Errorf("status after start: got %+v", got)
			}
			if !systemd.ProcessAlive(victim.Process.Pid) {
				t.Error("the process that only has the pid was killed")
			}
		})
	}
}

func startTime(t *testing.T, pid int) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	n, err := strconv.ParseFloat(strings.Fields(string(raw))[21], 64)
	must(t, err)
	return n
}

// TestLeftBehind: the main process died while no agent was there; what it left is killed before anything else may start.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	said, next := lines(t)
	s := open(t, dir)
	must(t, s.Start(t.Context(), shell("db", `sleep 1000 & echo $! > `+said+`; wait`)))
	main, child := status(t, s, "db").PID, pid(t, next())
	must(t, s.Close())
	must(t, syscall.Kill(main, syscall.SIGKILL))
	must(t, systemd.WaitGone(t.Context(), main))

	s = open(t, dir)
	t.Cleanup(func() { killAll(t, s, dir) })
	must(t, s.Start(t.Context(), shell("db", "exec sleep 1000")))
	if got := status(t, s, "db"); got.PID == main || !got.Active {
		t.Errorf("status after start: got %+v", got)
	}
	if systemd.ProcessAlive(child) {
		t.Error("what the first start left is alive beside the second")
	}
}

func TestCorruptRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "db.json")
	for _, raw := range []string{"", "{", `{"name":"other","pid":77}`, `{"name":"db","pid":0}`, `{"name":"db","pid":-1}`} {
		must(t, os.WriteFile(path, []byte(raw), 0o600))
		s, err := systemd.NewSupervisor(dir, slog.New(slog.DiscardHandler))
		if err == nil {
			s.Close()
			t.Errorf("record %q: got no error", raw)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("record %q: the error names no file: %v", raw, err)
		}
	}
}

func TestBadUnits(t *testing.T) {
	t.Parallel()
	s, dir := supervise(t)
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, []byte("x"), 0o644))
	for _, tt := range []struct {
		unit systemd.Unit
		want string
	}{
		{systemd.Unit{Name: "", Exec: []string{"sleep"}}, "unit name"},
		{systemd.Unit{Name: "../db", Exec: []string{"sleep"}}, "unit name"},
		{systemd.Unit{Name: ".db", Exec: []string{"sleep"}}, "unit name"},
		{systemd.Unit{Name: "a/b", Exec: []string{"sleep"}}, "unit name"},
		{systemd.Unit{Name: "db"}, "no program"},
		{systemd.Unit{Name: "db", Exec: []string{"no-such-program"}}, "not found in"},
		{systemd.Unit{Name: "db", Exec: []string{"sleep"}, Env: []string{"PATH=/nowhere"}}, "not found in /nowhere"},
		{systemd.Unit{Name: "db", Exec: []string{"/no/such"}}, "/no/such: no such file"},
		{systemd.Unit{Name: "db", Exec: []string{plain}}, "permission denied"},
		{systemd.Unit{Name: "db", Exec: []string{"sleep", "1"}, Dir: "/no/such/dir"}, "/no/such/dir"},
		{systemd.Unit{Name: "db", Exec: []string{"sleep", "1"}, LogFile: "/no/such/dir/log"}, "/no/such/dir/log"},
	} {
		if err := s.Start(t.Context(), tt.unit); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("start %+v: got %v, want an error with %q", tt.unit, err, tt.want)
		}
	}
	if records, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(records) > 0 {
		t.Errorf("records of units that never ran: %v", records)
	}
}

func TestLogTurnsOverAtStart(t *testing.T) {
	t.Parallel()
	s, dir := supervise(t)
	path := filepath.Join(dir, "db.log")
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	must(t, os.Truncate(path, 16<<20+1))
	must(t, s.Start(t.Context(), shell("db", "echo new")))
	settled(t, s, "db")
	must(t, s.Start(t.Context(), shell("db", "echo newer")))
	settled(t, s, "db")
	if got, err := os.ReadFile(path); string(got) != "new\nnewer\n" {
		t.Errorf("log: got %q, %v", got, err)
	}
	if info, err := os.Stat(path + ".1"); err != nil || info.Size() != 16<<20+1 {
		t.Errorf("older log: got %v, %v", info, err)
	}
}
