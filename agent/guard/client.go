package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// callTime bounds one request that the guard answers at once, startTime the start of a guard, replaceTime a replacement.
	callTime    = time.Second
	startTime   = 5 * time.Second
	replaceTime = slowStart + startTime
	// maxLog is the size in bytes above which the guard's log is set aside when a guard is started. One older log is kept.
	maxLog = 4 << 20
)

// Client is the agent's end. Each call connects anew, and starts the guard when there is none: that is what keeps it alive. All methods may be called at
// the same time. A refusal is dbhooks.ErrEpoch, dbhooks.ErrFenced, ErrArmed or ErrFencing where one of them is the reason; it changed nothing.
type Client struct {
	spec Spec

	mu      sync.Mutex // held while a guard is started, too: one at a time
	program string
	args    []string
}

// Start writes the spec, and returns once a guard for it answers: one that runs already, which is replaced when it is for another spec, or one that it
// starts. The guard outlives its caller. Args are the program's; --spec and the file are added. Without a program a service manager keeps the guard, and
// Start only looks for it.
func Start(ctx context.Context, spec Spec, program string, args ...string) (*Client, error) {
	if err := spec.write(); err != nil {
		return nil, err
	}
	c := &Client{spec: spec, program: program, args: append(slices.Clone(args), "--spec", spec.path())}
	st, err := c.Check(ctx)
	if err != nil || st.Spec == spec.digest() {
		return c, err
	}
	if program == "" {
		return c, fmt.Errorf("guard: process %d is for an older configuration: restart its unit", st.PID)
	}
	return c, c.replace(ctx, program, c.args)
}

// Check asks how it is, and starts it if it is gone.
func (c *Client) Check(ctx context.Context) (Status, error) { return c.call(ctx, request{Op: opCheck}) }

// Arm makes the guard fence at the deadline, an instant of Boottime, or moves its deadline on: within an epoch it never goes back. When it returns nil, the
// guard holds the deadline whatever happens to any of its processes. After a fence at this epoch it is refused until Disarm.
func (c *Client) Arm(ctx context.Context, epoch uint64, deadline time.Duration) (Status, error) {
	return c.call(ctx, request{Op: opArm, Epoch: epoch, Deadline: deadline})
}

// Disarm ends the deadline, and takes note of a fence at this epoch.
func (c *Client) Disarm(ctx context.Context, epoch uint64) (Status, error) {
	return c.call(ctx, request{Op: opDisarm, Epoch: epoch})
}

// Release says that failover is a person's matter from now on: the health endpoints believe the database without a lease, until the next Arm. Disarm first.
func (c *Client) Release(ctx context.Context) (Status, error) {
	return c.call(ctx, request{Op: opRelease})
}

// Replace puts guards of another program, or of another version of it, in the place of those that run, and returns when they answer. Somebody holds the
// deadline all the while.
func (c *Client) Replace(ctx context.Context, program string, args ...string) error {
	return c.replace(ctx, program, append(slices.Clone(args), "--spec", c.spec.path()))
}

func (c *Client) replace(ctx context.Context, program string, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, replaceTime)
	defer cancel()
	before, err := c.call(ctx, request{Op: opReplace, Program: program, Args: args})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.program, c.args = program, args
	c.mu.Unlock()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		now, err := c.Check(ctx)
		if err == nil && now.PID != before.PID {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("guard: %s does not answer in the place of process %d: %w; see %s", program, before.PID, errors.Join(err, context.Cause(ctx)), c.spec.log())
		}
	}
}

// Quit ends the guard, for when failover becomes a person's matter and no health endpoints are wanted. Disarm first. The next call starts it again.
func (c *Client) Quit(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opQuit})
	return err
}

// call has a request answered, by a guard that it starts if need be. All requests may be repeated, so one that a guard took with it goes to the next.
func (c *Client) call(ctx context.Context, req request) (Status, error) {
	var lost error
	for range 3 {
		rep, err := c.once(ctx, req)
		if err == nil {
			return rep.Status, rep.err()
		}
		lost = err
		if ctx.Err() != nil {
			break
		}
		if req.Op == opQuit && errors.Is(err, errNone) {
			return Status{}, nil
		}
		if err := c.revive(ctx); err != nil {
			return Status{}, err
		}
	}
	return Status{}, fmt.Errorf("%w; see %s", lost, c.spec.log())
}

// errNone says that nobody listens.
var errNone = errors.New("no guard runs")

func (c *Client) once(ctx context.Context, req request) (reply, error) {
	if req.Op != opReplace { // which takes as long as it takes
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTime)
		defer cancel()
	}
	l, err := dial(ctx, c.spec.socket())
	if err != nil {
		return reply{}, fmt.Errorf("%w in %s: %w", errNone, c.spec.Dir, err)
	}
	defer l.close()
	return l.ask(ctx, req)
}

// revive returns nil when a guard answers: the standby of one that ended, or a new one. One guard too many ends by itself.
func (c *Client) revive(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if _, err := c.once(ctx, request{Op: opCheck}); err == nil {
		return nil
	}
	if c.program == "" {
		return fmt.Errorf("%w in %s: start its unit", errNone, c.spec.Dir)
	}
	if err := c.spawn(); err != nil {
		return fmt.Errorf("guard: start %s: %w", c.program, err)
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := c.once(ctx, request{Op: opCheck})
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("guard: %s was started and does not answer: %w; see %s", c.program, err, c.spec.log())
		}
	}
}

// spawn starts a guard that is nobody's child: a shell starts it in a session of its own, and is gone.
func (c *Client) spawn() error {
	log := c.spec.log()
	if info, err := os.Stat(log); err == nil && info.Size() > maxLog {
		if err := os.Rename(log, log+".1"); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `"$@" &`, "ferryman-guard", c.program}, c.args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	// What systemd says to the agent is not for the guard.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "WATCHDOG_") || strings.HasPrefix(v, "INVOCATION_ID=")
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Run()
}
