package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process names one process for as long as the host is up. A pid alone does not: it is used again.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/<pid>/stat
}

// stat holds what we use of /proc/<pid>/stat; proc(5) describes it.
type stat struct {
	process
	state         byte
	threads       int
	pgrp, session int
}

// dead says that the process runs no code any more, though its parent may not have asked for its exit code yet.
// One whose first thread ended looks like a zombie, but counts its other threads.
func (s stat) dead() bool { return s.state == 'X' || s.state == 'Z' && s.threads <= 1 }

func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(pid, string(raw))
}

func parseStat(pid int, raw string) (stat, error) {
	// The program's name is in parentheses and may itself hold spaces and parentheses, so fields count from the last one.
	i := strings.LastIndexByte(raw, ')')
	f := strings.Fields(raw[i+1:])
	if i < 0 || len(f) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat: cannot be read: %q", pid, raw)
	}
	s := stat{process: process{PID: pid}, state: f[0][0]}
	var err1, err2, err3, err4 error
	s.pgrp, err1 = strconv.Atoi(f[2])
	s.session, err2 = strconv.Atoi(f[3])
	s.threads, err3 = strconv.Atoi(f[17])
	s.Start, err4 = strconv.ParseUint(f[19], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return s, nil
}

// alive says whether exactly this process still runs. An error means that it is not known.
func (p process) alive() (bool, error) {
	s, err := readStat(p.PID)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return s.Start == p.Start && !s.dead(), nil
}

// gone says that err is how the kernel tells that a process ended, before or while its file was read.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// signal sends sig to exactly this process; one that ended already is no error.
func (p process) signal(sig syscall.Signal) error {
	fd, err := p.open()
	switch {
	case errors.Is(err, unix.ENOSYS):
		// A kernel before 5.3. The pid can be used again between the look and the signal only if the process ends just then.
		if alive, err := p.alive(); err != nil || !alive {
			return err
		}
		err = unix.Kill(p.PID, sig)
	case err == nil && fd >= 0:
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
		unix.Close(fd)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("send signal %d to process %d: %w", int(sig), p.PID, err)
	}
	return nil
}

// open returns a pidfd for exactly this process, or -1 when it ended.
func (p process) open() (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if gone(err) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	// The look comes after the opening: a process that is older than its record and still there now was there in between.
	if alive, err := p.alive(); err != nil || !alive {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// pollEvery is how often a kernel without pidfd is asked whether a process still runs.
const pollEvery = 200 * time.Millisecond

// wait returns nil when the process has ended.
func (p process) wait(ctx context.Context) error {
	fd, err := p.open()
	if errors.Is(err, unix.ENOSYS) {
		return p.poll(ctx)
	}
	if err != nil || fd < 0 {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	// A non-blocking file is watched by the runtime's poller: no thread waits, and a deadline in the past ends the wait.
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var pollErr error
	err = rc.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if err != nil && err != unix.EINTR {
			pollErr = err
			return true
		}
		return n > 0
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, pollErr)
}

func (p process) poll(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if alive, err := p.alive(); err != nil || !alive {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// members finds the living processes of a start: those in its session or group, and those that left both but carry its mark in their environment
// (as a program does that puts itself into the background). The mark alone would not do: some databases overwrite their environment with a title.
func members(leader process, mark string) ([]process, error) {
	// When the leader's pid names another process by now, a session of that number is that process's, not ours.
	// While one of ours is left in the session, the kernel does not give its number away.
	ours := true
	if s, err := readStat(leader.PID); err == nil {
		ours = s.Start == leader.Start
	} else if !gone(err) {
		return nil, err
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []process
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.dead() || s.Start < leader.Start {
			continue
		}
		if ours && (s.session == leader.PID || s.pgrp == leader.PID) || marked(pid, mark) {
			found = append(found, s.process)
		}
	}
	return found, nil
}

func marked(pid int, mark string) bool {
	if mark == "" {
		return false
	}
	// What cannot be read belongs to another user, or ended: not ours either way.
	env, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if string(v) == mark {
			return true
		}
	}
	return false
}

// BootID is another one after each boot of this host; start times count from a boot.
func BootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}
