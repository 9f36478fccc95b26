package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

// The limits of what a program may print.
const (
	maxOutput = 64 << 10
	maxReason = 4 << 10
)

// lingering is how long the output of a program that ended may stay open: longer means that it left a process behind.
const lingering = 500 * time.Millisecond

// The exit codes with a meaning of their own.
const (
	exitUnsupported = 2
	exitEpoch       = 4
	exitDiverged    = 5
	exitTryAgain    = 75
)

// ErrOutput says that a program printed too much, or not what the contract asks for.
var ErrOutput = errors.New("output refused")

// Run runs a program with one argument and input, in a clean environment to which env adds, and returns what it printed. When ctx ends, its whole
// process group is killed. The error holds what it said on its standard error; errors.Is knows the exit codes.
func Run(ctx context.Context, program, argument string, env []string, input []byte) ([]byte, error) {
	var out capped
	var reason tail
	cmd := exec.CommandContext(ctx, program, argument)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &reason
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = lingering
	killGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = killGroup
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", program, argument, err)
	}
	err := cmd.Wait()
	// Whatever it left behind in its group ends with it; that there is nothing is the usual case.
	if kill := killGroup(); kill != nil && !errors.Is(kill, syscall.ESRCH) {
		err = errors.Join(err, kill)
	}
	if err = explain(ctx, err, out.over, reason.String()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", program, argument, err)
	}
	return out.b.Bytes(), nil
}

// explain turns how a program ended into an error that a person and errors.Is understand.
func explain(ctx context.Context, err error, over bool, reason string) error {
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	kinds := map[int]error{
		exitUnsupported: ferryman.ErrUnsupported, exitEpoch: dbhooks.ErrEpoch, exitDiverged: dbhooks.ErrDiverged, exitTryAgain: ferryman.ErrUnavailable,
	}
	if reason == "" {
		reason = "it gave no reason"
	}
	switch {
	case over:
		return fmt.Errorf("%w: more than %d bytes", ErrOutput, maxOutput)
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("killed, its time was up: %w; last it said: %s", ctx.Err(), reason)
	case errors.Is(err, exec.ErrWaitDelay):
		return fmt.Errorf("it left a process behind that kept its output open, which was killed: %w", err)
	case kinds[code] != nil:
		return fmt.Errorf("%w: %s", kinds[code], reason)
	}
	return fmt.Errorf("%w: %s", err, reason)
}

// capped keeps what fits and fails when there is more.
type capped struct {
	b    bytes.Buffer
	over bool
}

func (w *capped) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxOutput {
		w.over = true
		return 0, ErrOutput
	}
	return w.b.Write(p)
}

// tail keeps the last of what is written.
type tail struct{ b []byte }

func (w *tail) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	if over := len(w.b) - maxReason; over > 0 {
		w.b = append(w.b[:0], w.b[over:]...)
	}
	return len(p), nil
}

func (w *tail) String() string { return strings.TrimSpace(strings.ToValidUTF8(string(w.b), "?")) }
