package guard

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Boottime is the time since the host booted, as CLOCK_BOOTTIME counts it: also while the host sleeps.
func Boottime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("guard: this kernel has no CLOCK_BOOTTIME: %v", err)) // it came with 2.6.39
	}
	return time.Duration(now.Nano())
}

// alarm goes off at an instant of Boottime; after a sleep of the host, at once for what was slept through. A time.Timer counts on a clock that sleeps too.
type alarm struct{ file *os.File }

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("guard: make a timer: %w", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// set lets it go off at the instant and at no other. One that has passed goes off at once.
func (a *alarm) set(at time.Duration) error {
	conn, err := a.file.SyscallConn()
	if err != nil {
		return err
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(at, 1)))} // zero would mean never
	var setErr error
	err = conn.Control(func(fd uintptr) { setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil) })
	if err == nil {
		err = setErr
	}
	if err != nil {
		return fmt.Errorf("guard: set a timer: %w", err)
	}
	return nil
}

// wait returns nil when it went off, and otherwise ctx's error.
func (a *alarm) wait(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = a.file.SetReadDeadline(time.Unix(1, 0)) })()
	_, err := a.file.Read(make([]byte, 8))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (a *alarm) close() error { return a.file.Close() }
