package guard_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ferryman/agent/guard"
	"ferryman/dbhooks"
	"ferryman/demo/port"
	"ferryman/systemd"
)

// far is a deadline that no test waits for.
func far() time.Duration { return guard.Boottime() + time.Hour }

// soon leaves a loaded machine the time to do first what a test means to do before it.
func soon() time.Duration { return guard.Boottime() + 1500*time.Millisecond }

// rig is a database under a supervisor, and its guard. The database is a shell that does nothing.
type rig struct {
	*testing.T
	ctx     context.Context
	dir     string
	program string
	sup     *systemd.Supervisor
	spec    guard.Spec
	*guard.Client
}

// newRig has no guard yet.
func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	dir, err := os.MkdirTemp("", "guard") // a socket's path must be short
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	program, err := os.Executable()
	must(t, err)
	sup, err := systemd.NewSupervisor(filepath.Join(dir, "units"), slog.New(slog.DiscardHandler))
	must(t, err)
	target, err := sup.Target(ctx, "db")
	must(t, err)
	r := &rig{T: t, ctx: ctx, dir: dir, program: program, sup: sup,
		spec: guard.Spec{Dir: filepath.Join(dir, "guard"), Target: target, Marker: filepath.Join(dir, "data")}}
	t.Cleanup(func() {
		defer cancel()
		r.killGuards()
		if err := sup.Kill(context.Background(), "db"); err != nil {
			t.Error(err)
		}
		sup.Close()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(r.spec.Dir, "guard.log"))
			t.Logf("the guard's log:\n%s", log)
		}
		os.RemoveAll(dir)
	})
	r.startDB()
	return r
}

func guarded(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.start()
	return r
}

func (r *rig) start(args ...string) {
	r.Helper()
	c, err := guard.Start(r.ctx, r.spec, r.program, append([]string{"guard"}, args...)...)
	must(r.T, err)
	r.Client = c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until looks again and again until ok.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.Fatalf("in vain: %s", what)
		}
	}
}

func (r *rig) startDB() {
	r.Helper()
	must(r.T, r.sup.Start(r.ctx, systemd.Unit{Name: "db", Exec: []string{"/bin/sh", "-c", "sleep 1000 & wait"}, Env: []string{"PATH=" + os.Getenv("PATH")}}))
}

// alive asks the kernel: the supervisor is told of an end a moment later.
func (r *rig) alive() bool {
	r.Helper()
	st, err := r.sup.Status(r.ctx, "db")
	must(r.T, err)
	if !st.Active {
		return false
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false
	}
	must(r.T, err)
	return !bytes.Contains(raw, []byte(") Z "))
}

func (r *rig) check() guard.Status {
	r.Helper()
	st, err := r.Check(r.ctx)
	must(r.T, err)
	return st
}

func (r *rig) arm(epoch uint64, deadline time.Duration) {
	r.Helper()
	_, err := r.Arm(r.ctx, epoch, deadline)
	must(r.T, err)
}

// paired waits for the standby, and returns the pids of both.
func (r *rig) paired() (active, standby int) {
	r.Helper()
	r.until("a standby", func() bool {
		st := r.check()
		others := slices.DeleteFunc(r.guards(), func(pid int) bool { return pid == st.PID })
		if !st.Standby || len(others) != 1 {
			return false
		}
		active, standby = st.PID, others[0]
		return true
	})
	return active, standby
}

// guards are the living guards of this rig.
func (r *rig) guards() []int {
	r.Helper()
	dirs, err := os.ReadDir("/proc")
	must(r.T, err)
	var pids []int
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		for len(line) == 0 { // it is dead, or is only just becoming its program
			if program, _ := os.Readlink("/proc/" + d.Name() + "/exe"); program != r.program {
				break
			}
			line, _ = os.ReadFile("/proc/" + d.Name() + "/cmdline")
		}
		if bytes.Contains(line, []byte(filepath.Join(r.spec.Dir, "spec.json"))) && bytes.Contains(line, []byte("\x00guard\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killGuards ends them all, though each starts others.
func (r *rig) killGuards() {
	r.Helper()
	for pids := r.guards(); len(pids) > 0; pids = r.guards() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (r *rig) signal(pid int, sig syscall.Signal) {
	r.Helper()
	must(r.T, syscall.Kill(pid, sig))
}

// dies waits for the database's end and wants it at the deadline.
func (r *rig) dies(deadline time.Duration) {
	r.Helper()
	var seen time.Duration
	r.until("the database's end", func() bool {
		dead := !r.alive()
		seen = guard.Boottime()
		return dead
	})
	// Generous, for a machine that has other things to do.
	if over := seen - deadline; over < 0 || over > 5*time.Second {
		r.Errorf("the database was seen dead %v after its deadline, want 0 to 5s", over)
	}
}

// fenced waits until the guard says that it fenced the epoch, and wants the marker to say so too.
func (r *rig) fenced(epoch uint64) guard.Status {
	r.Helper()
	var st guard.Status
	r.until("the fence", func() bool { st = r.check(); return !st.Armed })
	if st.Fenced != epoch || r.alive() {
		r.Errorf("after the fence: got %+v, the database alive %v; want epoch %d fenced, and the database dead", st, r.alive(), epoch)
	}
	r.marked(epoch)
	return st
}

func (r *rig) marked(epoch uint64) {
	r.Helper()
	var m dbhooks.Marker
	must(r.T, dbhooks.LoadMarker(r.spec.Marker, &m))
	if m.Epoch != epoch || !m.Fenced {
		r.Errorf("the marker: got %+v, want it fenced at epoch %d", m, epoch)
	}
}

func (r *rig) passes(deadline time.Duration) {
	r.Helper()
	r.until("the time", func() bool { return guard.Boottime() > deadline })
}

func TestDeadline(t *testing.T) {
	r := guarded(t)
	deadline := soon()
	r.arm(1, deadline)
	r.dies(deadline)
	r.fenced(1)
	if _, err := r.Arm(r.ctx, 1, far()); !errors.Is(err, dbhooks.ErrFenced) {
		t.Errorf("arm after the fence: got %v, want ErrFenced", err)
	}
	// The database may come back at the same epoch if that is said.
	_, err := r.Disarm(r.ctx, 1)
	must(t, err)
	r.arm(1, far())
	r.startDB()
	if st := r.check(); !st.Armed || !r.alive() {
		t.Errorf("armed again: got %+v, the database alive %v; want both", st, r.alive())
	}
}

func TestDeadlineMoves(t *testing.T) {
	r := guarded(t)
	first := soon()
	r.arm(1, first)
	last := far()
	r.arm(1, last)
	r.arm(1, first+10*time.Second) // never back
	r.passes(first + 200*time.Millisecond)
	if st := r.check(); !r.alive() || st.Deadline != last {
		t.Fatalf("after the first deadline: alive %v, %+v; want it alive until %v", r.alive(), st, last)
	}
	second := soon()
	r.arm(2, second)
	r.dies(second)
	r.fenced(2)
}

func TestDisarm(t *testing.T) {
	r := guarded(t)
	deadline := soon()
	r.arm(2, deadline)
	for range 2 {
		_, err := r.Disarm(r.ctx, 2)
		must(t, err)
	}
	r.passes(deadline + 200*time.Millisecond)
	if !r.alive() {
		t.Error("the database was killed though its guard was disarmed")
	}
}

func TestOldEpochs(t *testing.T) {
	r := guarded(t)
	r.arm(5, far())
	for what, call := range map[string]func(context.Context, uint64) (guard.Status, error){
		"arm":    func(ctx context.Context, epoch uint64) (guard.Status, error) { return r.Arm(ctx, epoch, far()) },
		"disarm": r.Disarm,
	} {
		if _, err := call(r.ctx, 4); !errors.Is(err, dbhooks.ErrEpoch) {
			t.Errorf("%s at an older epoch: got %v, want ErrEpoch", what, err)
		}
	}
	if _, err := r.Release(r.ctx); !errors.Is(err, guard.ErrArmed) {
		t.Errorf("release while armed: got %v, want ErrArmed", err)
	}
	if err := r.Quit(r.ctx); !errors.Is(err, guard.ErrArmed) {
		t.Errorf("quit while armed: got %v, want ErrArmed", err)
	}
	if st := r.check(); !st.Armed || st.Epoch != 5 || !r.alive() {
		t.Errorf("afterwards: got %+v, the database alive %v; want nothing changed", st, r.alive())
	}
}

// TestFenceWithoutMarker: as long as the marker cannot be written, whatever is started is killed.
func TestFenceWithoutMarker(t *testing.T) {
	r := newRig(t)
	must(t, os.WriteFile(r.spec.Marker, nil, 0o600)) // where the directory would be
	r.start()
	deadline := soon()
	r.arm(1, deadline)
	r.dies(deadline)
	for range 3 {
		r.startDB()
		r.until("the end of what was started again", func() bool { return !r.alive() })
	}
	if st := r.check(); !st.Armed || st.Fenced != 0 {
		t.Errorf("without a marker: got %+v, want the fence under way", st)
	}
	if _, err := r.Disarm(r.ctx, 1); !errors.Is(err, guard.ErrFencing) {
		t.Errorf("disarm during the fence: got %v, want ErrFencing", err)
	}
	must(t, os.Remove(r.spec.Marker))
	r.fenced(1)
}

// TestAgentEnds: the guard outlives whoever started it, with everything that came of it.
func TestAgentEnds(t *testing.T) {
	r := newRig(t)
	r.start()
	must(t, r.Quit(r.ctx)) // the spec is there now, and no guard
	r.until("the guard's end", func() bool { return len(r.guards()) == 0 })
	agent := exec.Command(r.program, "agent", filepath.Join(r.spec.Dir, "spec.json"))
	agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	agent.Stderr = os.Stderr
	out, err := agent.StdoutPipe()
	must(t, err)
	must(t, agent.Start())
	defer func() { _ = agent.Wait() }()
	said := make([]byte, len("armed\n"))
	_, err = io.ReadFull(out, said)
	must(t, errors.Join(err, syscall.Kill(-agent.Process.Pid, syscall.SIGKILL)))
	if st := r.check(); !st.Armed || st.Epoch != 1 {
		t.Errorf("after the agent's end: got %+v, want it armed at epoch 1", st)
	}
	deadline := soon()
	r.arm(2, deadline)
	r.dies(deadline)
	r.fenced(2)
}

// TestActiveEnds: whatever ends or stops the active guard, and however close to the deadline, the database dies at it.
func TestActiveEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		sig  syscall.Signal
		left time.Duration
	}{
		{"killed", syscall.SIGKILL, 2 * time.Second},
		{"killed at the deadline", syscall.SIGKILL, 20 * time.Millisecond},
		{"stopped", syscall.SIGSTOP, 3 * time.Second},
		{"stopped at the deadline", syscall.SIGSTOP, 50 * time.Millisecond},
		{"asked to end", syscall.SIGTERM, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := guarded(t)
			active, _ := r.paired()
			deadline := soon() + tt.left
			r.arm(7, deadline)
			r.passes(deadline - tt.left)
			r.signal(active, tt.sig)
			r.dies(deadline)
			if st := r.fenced(7); st.PID == active {
				t.Errorf("the active guard: got process %d, which was ended; want another", st.PID)
			}
			r.paired()
		})
	}
}

// TestStandbyKillsToo: also where it has not found out yet that the active guard hangs.
func TestStandbyKillsToo(t *testing.T) {
	r := newRig(t)
	r.start("--hang", "4s")
	active := r.check().PID
	r.until("a standby", func() bool { return r.check().Standby })
	deadline := soon()
	r.arm(7, deadline)
	r.signal(active, syscall.SIGSTOP)
	r.dies(deadline)
	r.signal(active, syscall.SIGCONT)
	if st := r.fenced(7); st.PID != active {
		t.Errorf("the active guard: got process %d, want %d, which nobody ended", st.PID, active)
	}
}

func TestStandbyEnds(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(sig.String(), func(t *testing.T) {
			r := guarded(t)
			r.arm(1, far())
			_, standby := r.paired()
			r.signal(standby, sig)
			r.until("another standby", func() bool { _, now := r.paired(); return now != standby })
			if st := r.check(); !st.Armed || !r.alive() {
				t.Errorf("afterwards: got %+v, the database alive %v; want nothing changed", st, r.alive())
			}
		})
	}
}

// TestBothEnd: who finds the guard gone starts it, and it fences what is overdue.
func TestBothEnd(t *testing.T) {
	r := guarded(t)
	deadline := soon()
	r.arm(3, deadline)
	r.killGuards()
	r.passes(deadline)
	if !r.alive() {
		t.Fatal("the database died though nobody held its deadline: the test shows nothing")
	}
	r.fenced(3)
}

func TestStateOfAnotherBoot(t *testing.T) {
	r := newRig(t)
	must(t, os.MkdirAll(r.spec.Dir, 0o700))
	must(t, os.WriteFile(filepath.Join(r.spec.Dir, "state.json"), []byte(`{"boot":"another","epoch":9,"armed":true,"deadline":1}`), 0o600))
	r.start()
	if st := r.check(); st.Armed || st.Epoch != 0 || !r.alive() {
		t.Errorf("got %+v, the database alive %v; want a guard that knows nothing, and the database alive", st, r.alive())
	}
}

// TestReplace: the deadline comes while the new program takes its time to start.
func TestReplace(t *testing.T) {
	r := guarded(t)
	active, standby := r.paired()
	deadline := soon()
	r.arm(4, deadline)
	must(t, r.Replace(r.ctx, r.program, "guard", "--version", "2", "--slow", "2500ms"))
	r.dies(deadline)
	st := r.fenced(4)
	if st.Version != "2" || st.PID == active {
		t.Errorf("after it: got %+v; want version 2, in another process than %d", st, active)
	}
	if now, next := r.paired(); now == active || now == standby || next == active || next == standby {
		t.Errorf("after it: got %d and %d, want none of %d and %d", now, next, active, standby)
	}
}

// TestReplaceHandsOver: a deadline that is still ahead goes on.
func TestReplaceHandsOver(t *testing.T) {
	r := guarded(t)
	r.paired()
	deadline := guard.Boottime() + 3*time.Second
	r.arm(4, deadline)
	must(t, r.Replace(r.ctx, r.program, "guard", "--version", "2"))
	if st := r.check(); !st.Armed || st.Deadline != deadline || st.Version != "2" {
		t.Errorf("after it: got %+v, want version 2 with the same deadline %v", st, deadline)
	}
	r.dies(deadline)
	r.fenced(4)
}

func TestReplaceByWhatDoesNotRun(t *testing.T) {
	r := guarded(t)
	active, _ := r.paired()
	r.arm(1, far())
	for _, program := range []string{"/bin/false", filepath.Join(r.dir, "none")} {
		if err := r.Replace(r.ctx, program); err == nil {
			t.Errorf("replace by %s: got nil, want an error", program)
		}
	}
	if now, _ := r.paired(); now != active || !r.check().Armed {
		t.Errorf("after it: process %d, %+v; want %d, armed", now, r.check(), active)
	}
}

func TestQuit(t *testing.T) {
	r := guarded(t)
	r.paired()
	must(t, r.Quit(r.ctx))
	r.until("the end of all guards", func() bool { return len(r.guards()) == 0 })
	must(t, r.Quit(r.ctx))
	if pids := r.guards(); len(pids) > 0 {
		t.Errorf("a second quit started %v", pids)
	}
}

// TestAnotherSpec: a guard that was started for something else is not taken for one for this.
func TestAnotherSpec(t *testing.T) {
	r := guarded(t)
	before := r.check()
	r.start()
	if now := r.check(); now.PID != before.PID {
		t.Errorf("started for the same: got process %d, want %d", now.PID, before.PID)
	}
	r.spec.Marker = filepath.Join(r.dir, "other")
	r.start()
	if now := r.check(); now.PID == before.PID || now.Spec != r.spec.Digest() {
		t.Errorf("started for something else: got %+v, want another process than %d, for %s", now, before.PID, r.spec.Digest())
	}
	r.spec.Target = systemd.Target{}
	if _, err := guard.Start(r.ctx, r.spec, r.program, "guard"); err == nil {
		t.Error("started for no target: got nil, want an error")
	}
}

// TestAlone: under a service manager there is no standby, and it says when it is ready.
func TestAlone(t *testing.T) {
	r := newRig(t)
	if _, err := guard.Start(r.ctx, r.spec, ""); err == nil {
		t.Error("start without a guard and without a program: got nil, want an error")
	}
	run := func() *exec.Cmd {
		cmd := exec.Command(r.program, "guard", "--alone", "--spec", filepath.Join(r.spec.Dir, "spec.json"))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		_, err = io.ReadFull(out, make([]byte, len("ready\n")))
		must(t, err)
		return cmd
	}
	first := run()
	c, err := guard.Start(r.ctx, r.spec, "")
	must(t, err)
	r.Client = c
	deadline := soon()
	r.arm(1, deadline)
	if err := r.Replace(r.ctx, r.program, "guard"); err == nil {
		t.Error("replace: got nil, want that the unit is to be restarted")
	}
	r.signal(first.Process.Pid, syscall.SIGKILL)
	_ = first.Wait()
	run()
	r.dies(deadline)
	if st := r.fenced(1); st.Standby || len(r.guards()) != 1 {
		t.Errorf("got %+v and processes %v, want one without a standby", st, r.guards())
	}
}

// TestHealthOverRestarts: whoever is the active guard answers the load balancer.
func TestHealthOverRestarts(t *testing.T) {
	r := newRig(t)
	r.spec.Listen = port.Free()
	r.spec.Engine, r.spec.Database.Dir = "file", filepath.Join(r.dir, "data")
	must(t, os.MkdirAll(r.spec.Database.Dir, 0o700))
	must(t, os.WriteFile(filepath.Join(r.spec.Database.Dir, "instance.json"), []byte(`{"running":true,"role":"primary","writable":true,"healthy":true}`), 0o600))
	r.start()
	client := http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	answers := func(want int) {
		t.Helper()
		r.until("the answer "+strconv.Itoa(want), func() bool {
			resp, err := client.Get("http://" + r.spec.Listen + "/primary")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == want
		})
	}
	answers(200) // manual
	deadline := guard.Boottime() + 4*time.Second
	r.arm(1, deadline)
	active, _ := r.paired()
	r.signal(active, syscall.SIGKILL)
	answers(200)
	answers(503) // the file says writable to the last
	r.dies(deadline)
	r.fenced(1)
	_, err := r.Release(r.ctx)
	must(t, err)
	answers(200)
}
