package systemd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supervisor runs units as child processes, each in a session of its own and with a durable record, so that they outlive the agent
// and are adopted by the next one. It stops like systemd's KillMode=mixed: the signal goes to the main process, SIGKILL to what that leaves.
type Supervisor struct {
	dir  string
	boot string
	log  *slog.Logger
	lock *os.File

	ctx     context.Context // ends with Close; the watches live in it
	end     context.CancelFunc
	watches sync.WaitGroup
	changed chan struct{}

	mu    sync.Mutex // held for looks and forks, never while something is waited for
	units map[string]*run
}

// run is one start of a unit: alive, or the last one there was.
type run struct {
	rec      record        // as it was at the start; never changes
	ended    *ending       // nil while anything of it may be left; under the Supervisor's mu
	asked    bool          // Stop or Kill was called; under mu
	stopping bool          // asked, or the main process ended and the rest is being killed; under mu
	timedOut bool          // the main process did not end in time; under mu
	done     chan struct{} // closed when nothing of it is left
	err      error         // instead, the watch ended because the supervisor was closed; read after done
}

// NewSupervisor opens dir, which it makes if need be, and adopts every program recorded there that still runs.
// ErrInUse when another process holds it. Close it in the end; the programs go on.
func NewSupervisor(dir string, log *slog.Logger) (*Supervisor, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	boot, err := BootID()
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("supervisor: %s: %w", dir, err)
	}
	ctx, end := context.WithCancel(context.Background())
	s := &Supervisor{dir: dir, boot: boot, log: log, lock: lock, ctx: ctx, end: end, changed: make(chan struct{}, 1), units: map[string]*run{}}
	if err := s.adopt(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close stops watching and gives the directory free. The programs go on.
func (s *Supervisor) Close() error {
	s.end()
	s.watches.Wait()
	// Said aloud, because a fork that has not reached its exec yet holds the lock too.
	return errors.Join(unix.Flock(int(s.lock.Fd()), unix.LOCK_UN), s.lock.Close())
}

// Changed is described at Units.
func (s *Supervisor) Changed() <-chan struct{} { return s.changed }

func (s *Supervisor) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Supervisor) adopt() error {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*"+recordSuffix))
	if err != nil {
		return err
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), recordSuffix)
		rec, found, err := readRecord(s.dir, name)
		if err != nil {
			return fmt.Errorf("supervisor: %w", err)
		}
		if !found || rec.Ended != nil {
			continue
		}
		if rec.BootID != s.boot {
			// Nothing survives a boot; the pid may be anybody's now.
			rec.Ended = &ending{At: time.Now(), Result: ResultUnknown, ExitCode: -1}
			if err := rec.write(s.dir); err != nil {
				return fmt.Errorf("supervisor: %w", err)
			}
			continue
		}
		// Whether the main process still runs, the watch finds out; if not, it kills what that left behind, and notes the end.
		s.log.Info("adopting unit", "unit", name, "pid", rec.PID, "start_id", rec.StartID)
		s.watch(rec)
	}
	return nil
}

// Start is described at Units. A start of the same name that is being stopped is waited for.
func (s *Supervisor) Start(ctx context.Context, u Unit) error {
	if err := u.check(); err != nil {
		return err
	}
	if u.LogFile == "" {
		u.LogFile = filepath.Join(s.dir, u.Name+".log")
	}
	for {
		r, err := s.start(u)
		if err != nil {
			return fmt.Errorf("start unit %s: %w", u.Name, err)
		}
		if r == nil {
			return nil
		}
		if err := r.wait(ctx); err != nil {
			return fmt.Errorf("start unit %s: its last start has not ended: %w", u.Name, err)
		}
	}
}

// start forks if nothing of the unit runs. It returns the start that must end first, if there is one.
func (s *Supervisor) start(u Unit) (*run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, errors.New("the supervisor is closed")
	}
	if r := s.units[u.Name]; r != nil && r.ended == nil {
		if r.stopping {
			return r, nil
		}
		// The watch may not have seen the end yet; that must not count as running.
		if alive, err := r.rec.alive(); err != nil || !alive {
			return r, err
		}
		return nil, nil
	}
	// A record that cannot be read must stop us here too.
	if _, _, err := readRecord(s.dir, u.Name); err != nil {
		return nil, err
	}
	rec, err := s.fork(u)
	if err != nil {
		return nil, err
	}
	s.log.Info("started unit", "unit", u.Name, "pid", rec.PID, "start_id", rec.StartID)
	s.watch(rec)
	s.wake()
	return nil, nil
}

// gate is what is forked first: a shell that turns into the program once it is told to. It is told after the record is durable. If the agent
// dies before, the shell reads the end of its pipe and ends: there never is a program without a record. Pid and start time stay through exec.
const gate = `read -r go <&3 && [ "$go" = go ] && exec 3<&- && exec "$@"`

func (s *Supervisor) fork(u Unit) (record, error) {
	logFile, err := openLog(u.LogFile)
	if err != nil {
		return record{}, err
	}
	defer logFile.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return record{}, err
	}
	defer null.Close()
	gateR, gateW, err := os.Pipe()
	if err != nil {
		return record{}, err
	}
	defer gateW.Close()
	defer gateR.Close()

	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return record{}, err
	}
	rec := record{
		Name: u.Name, BootID: s.boot, StartID: hex.EncodeToString(id), Exec: u.Exec, StartedAt: time.Now(),
		StopSignal: u.StopSignal, StopTimeout: u.StopTimeout,
	}
	rec.PID, err = syscall.ForkExec("/bin/sh", append([]string{"sh", "-c", gate, u.Name}, u.Exec...), &syscall.ProcAttr{
		Dir:   u.Dir,
		Env:   append(append([]string{}, u.Env...), rec.mark()),
		Files: []uintptr{null.Fd(), logFile.Fd(), logFile.Fd(), gateR.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return record{}, fmt.Errorf("fork in %s: %w", u.Dir, err)
	}
	st, err := readStat(rec.PID)
	if err == nil {
		rec.Start = st.Start
		err = rec.write(s.dir)
	}
	if err == nil {
		_, err = gateW.WriteString("go\n")
	}
	if err != nil {
		// The program was not let in. The shell ends by itself now; it is our child, so it is waited for.
		gateW.Close()
		_, _ = syscall.Wait4(rec.PID, nil, 0, nil)
		return record{}, err
	}
	return rec, nil
}

func (s *Supervisor) watch(rec record) {
	r := &run{rec: rec, done: make(chan struct{})}
	s.units[rec.Name] = r
	s.watches.Go(func() {
		defer s.wake()
		defer close(r.done)
		r.err = s.follow(r)
	})
}

// follow waits for the end of the main process, kills what it left, and notes how it ended. Its error means that the supervisor was closed before.
func (s *Supervisor) follow(r *run) error {
	if err := s.insist(r, r.rec.wait); err != nil {
		return err
	}
	end := reap(r.rec.PID)
	s.mu.Lock()
	r.stopping = true
	s.mu.Unlock()
	s.wake()
	if err := s.insist(r, r.rec.killAll); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	end.At, end.Asked = time.Now(), r.asked
	if r.timedOut {
		end.Result = "timeout"
	}
	r.ended = &end
	s.log.Info("unit ended", "unit", r.rec.Name, "pid", r.rec.PID, "result", end.Result, "exit_code", end.ExitCode, "asked", end.Asked)
	rec := r.rec
	rec.Ended = r.ended
	if err := rec.write(s.dir); err != nil {
		// Nothing depends on it but the history: the next agent looks for the process and finds it gone.
		s.log.Warn("cannot record that a unit ended", "unit", r.rec.Name, "err", err)
	}
	return nil
}

// insist repeats try until it succeeds or the supervisor is closed: a unit must not go unwatched because a file could not be opened for a while.
func (s *Supervisor) insist(r *run, try func(context.Context) error) error {
	for {
		err := try(s.ctx)
		if err == nil || s.ctx.Err() != nil {
			return err
		}
		s.log.Error("watching a unit failed; trying again", "unit", r.rec.Name, "pid", r.rec.PID, "err", err)
		select {
		case <-s.ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// reap asks for the exit code. Only the parent is told, so that of a program which an earlier agent started is not known.
func reap(pid int) ending {
	var ws syscall.WaitStatus
	for {
		got, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || got != pid:
			return ending{Result: ResultUnknown, ExitCode: -1}
		case ws.Signaled():
			return ending{Result: "signal", ExitCode: 128 + int(ws.Signal())}
		case ws.ExitStatus() == 0:
			return ending{Result: "success"}
		default:
			return ending{Result: "exit-code", ExitCode: ws.ExitStatus()}
		}
	}
}

// wait returns nil when nothing of this start is left.
func (r *run) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotEmpty, context.Cause(ctx))
	}
}

// asked returns the start of name that still has processes, or nil, and notes that its end is wanted.
func (s *Supervisor) asked(name string) (*run, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.units[name]
	if r == nil || r.ended != nil {
		return nil, nil
	}
	r.asked, r.stopping = true, true
	return r, nil
}

// Stop is described at Units.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	r, err := s.asked(name)
	if err != nil || r == nil {
		return err
	}
	s.wake()
	if err := r.rec.signal(r.rec.StopSignal); err != nil {
		return fmt.Errorf("stop unit %s: %w", name, err)
	}
	timeout := time.NewTimer(r.rec.StopTimeout)
	defer timeout.Stop()
	select {
	case <-r.done:
		if r.err != nil {
			return fmt.Errorf("stop unit %s: %w", name, r.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop unit %s (process %d): %w: %w", name, r.rec.PID, ErrNotEmpty, context.Cause(ctx))
	case <-timeout.C:
	}
	s.log.Warn("unit did not stop in time; killing it", "unit", name, "pid", r.rec.PID, "after", r.rec.StopTimeout)
	s.mu.Lock()
	r.timedOut = true
	s.mu.Unlock()
	return s.kill(ctx, r)
}

// Kill is described at Units.
func (s *Supervisor) Kill(ctx context.Context, name string) error {
	r, err := s.asked(name)
	if err != nil || r == nil {
		return err
	}
	s.wake()
	return s.kill(ctx, r)
}

func (s *Supervisor) kill(ctx context.Context, r *run) error {
	// Not left to the watch alone, which waits for the main process first.
	if err := r.rec.killAll(ctx); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	if err := r.wait(ctx); err != nil {
		return fmt.Errorf("kill unit %s: %w", r.rec.Name, err)
	}
	return nil
}

// Restart is described at Units.
func (s *Supervisor) Restart(ctx context.Context, u Unit) error {
	if err := u.check(); err != nil {
		return err
	}
	if err := s.Stop(ctx, u.Name); err != nil {
		return err
	}
	return s.Start(ctx, u)
}

// Target is described at Units.
func (s *Supervisor) Target(_ context.Context, name string) (Target, error) {
	return Target{Record: recordPath(s.dir, name)}, checkName(name)
}

// Status is described at Units. A name that was never started is stopped, without StartID.
func (s *Supervisor) Status(_ context.Context, name string) (UnitStatus, error) {
	if err := checkName(name); err != nil {
		return UnitStatus{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.units[name]
	if r == nil {
		rec, found, err := readRecord(s.dir, name)
		if err != nil {
			return UnitStatus{}, err
		}
		if !found {
			return UnitStatus{State: StateStopped, ExitCode: -1}, nil
		}
		return rec.status(), nil
	}
	rec := r.rec
	rec.Ended = r.ended
	st := rec.status()
	if st.Active && r.stopping {
		st.State = StateStopping
	}
	return st, nil
}
