package systemd

import (
	"context"
	"fmt"
	"syscall"
)

// Process names one process of this host until the next boot. A pid alone does not: it is used again.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

// FindProcess names the process that has this pid now.
func FindProcess(pid int) (Process, error) {
	s, err := readStat(pid)
	if err != nil {
		return Process{}, fmt.Errorf("find process %d: %w", pid, err)
	}
	return Process(s.process), nil
}

// Kill sends SIGKILL to exactly this process. One that ended already is no error.
func (p Process) Kill() error { return process(p).signal(syscall.SIGKILL) }

// Wait returns nil when the process has ended, whoever its parent is.
func (p Process) Wait(ctx context.Context) error { return process(p).wait(ctx) }
