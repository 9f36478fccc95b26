package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"ferryman/systemd"
)

const (
	// lately is how old the standby's last question may be for it to count as there.
	lately = time.Second
	// silentFor is after how long without a question a standby is replaced, and slowStart the same for one that never asked.
	silentFor = 2 * time.Second
	slowStart = 10 * time.Second
	// minPause and maxPause bound the pause before a standby that ended is started again.
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
)

// pair is the active guard's side of having a standby.
type pair struct {
	*guard
	run func(func()) // where its goroutines belong

	mu      sync.Mutex
	peers   []*peer // at most two: one and, while it is replaced, its successor
	leaving bool    // no standby is started any more
}

// peer is one standby process.
type peer struct {
	systemd.Process
	began time.Time
	ended chan struct{} // closed with the process's end
	asked chan struct{} // closed with its first question
	last  time.Time     // of its last question; zero before the first
}

func newPair(g *guard, run func(func())) *pair { return &pair{guard: g, run: run} }

// keep has a standby until ctx ends, which leaves the standby as it is.
func (p *pair) keep(ctx context.Context) {
	pause := minPause
	for {
		began := time.Now()
		s, err := p.start(ctx, p.Program, p.Args)
		switch {
		case err == nil:
			p.attend(ctx, s)
			p.forget(s)
		case errors.Is(err, errLeaving):
			return
		default:
			p.Log.Error("guard: no standby; trying again", "error", err)
		}
		if time.Since(began) > slowStart {
			pause = minPause
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		case <-ctx.Done():
			return
		}
	}
}

// attend returns when the standby has ended, or ctx. One that is silent is killed: it is stopped, or hangs.
func (p *pair) attend(ctx context.Context, s *peer) {
	tick := time.NewTicker(silentFor / 8)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
			p.Log.Warn("guard: the standby ended", "standby", s.PID)
			return
		case <-tick.C:
			if !p.silent(s) {
				continue
			}
			p.Log.Warn("guard: the standby is silent; killing it", "standby", s.PID)
			if err := s.Kill(); err != nil {
				p.Log.Error("guard: the standby cannot be killed", "standby", s.PID, "error", err)
			}
		}
	}
}

func (p *pair) silent(s *peer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.last.IsZero() {
		return time.Since(s.began) > slowStart
	}
	return time.Since(s.last) > silentFor
}

var errLeaving = errors.New("the active guard is about to end")

// start starts one more standby, in a session of its own, so that it lives on when this process ends.
func (p *pair) start(ctx context.Context, program string, args []string) (*peer, error) {
	if _, err := os.Stat(program); err != nil {
		p.Log.Warn("guard: its program is gone; the standby is a copy of this process", "error", err)
		program = "/proc/self/exe"
	}
	cmd := exec.Command(program, append(slices.Clone(args), "--standby")...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaving {
		return nil, errLeaving
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a standby: %w", err)
	}
	proc, err := systemd.FindProcess(cmd.Process.Pid)
	if err != nil { // our own child, even one that ended, is there until we ask for its exit code
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	s := &peer{Process: proc, began: time.Now(), ended: make(chan struct{}), asked: make(chan struct{})}
	p.peers = append(p.peers, s)
	p.run(func() {
		for proc.Wait(ctx) != nil { // too many files, perhaps
			select {
			case <-time.After(minPause):
			case <-ctx.Done():
				return // the standby lives on
			}
		}
		_ = cmd.Wait() // why it ended is in the log that both write to
		close(s.ended)
	})
	return s, nil
}

func (p *pair) forget(s *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peers = slices.DeleteFunc(p.peers, func(q *peer) bool { return q == s })
}

// heard notes a standby's question. False: it is not one of ours.
func (p *pair) heard(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.peers {
		if s.PID == pid {
			if s.last.IsZero() {
				close(s.asked)
			}
			s.last = time.Now()
			return true
		}
	}
	return false
}

// heardLately says whether a standby is there.
func (p *pair) heardLately() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.peers, func(s *peer) bool { return !s.last.IsZero() && time.Since(s.last) < lately })
}

// replace returns nil when a standby of the new program is there, and is the only one: this process can end then.
func (p *pair) replace(ctx context.Context, program string, args []string) error {
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("replace the guard: %w", err)
	}
	next, err := p.start(ctx, program, args)
	if err != nil {
		return fmt.Errorf("replace the guard: %w", err)
	}
	late := time.NewTimer(slowStart)
	defer late.Stop()
	select {
	case <-next.asked:
		return p.leaveTo(ctx, next)
	case <-next.ended:
		err = errors.New("it ended")
	case <-late.C:
		err = fmt.Errorf("it did not ask within %v", slowStart)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.forget(next)
	return fmt.Errorf("replace the guard by %s: %w; see the guard's log", program, errors.Join(err, next.Kill()))
}

// leaveTo ends all standbys but one, and starts no other.
func (p *pair) leaveTo(ctx context.Context, heir *peer) error {
	p.mu.Lock()
	if p.leaving {
		p.mu.Unlock()
		return errLeaving
	}
	p.leaving = true
	others := slices.DeleteFunc(slices.Clone(p.peers), func(s *peer) bool { return s == heir })
	p.mu.Unlock()
	for _, s := range others {
		if err := s.Kill(); err != nil {
			p.Log.Error("guard: the standby cannot be killed", "standby", s.PID, "error", err)
			continue
		}
		select {
		case <-s.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
