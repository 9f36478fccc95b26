package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"ferryman"
)

// OnHost is the Host that this process runs on.
type OnHost struct{}

// aptEnv is all that the package manager and the scripts of packages get: nothing is asked, no pager, and nothing is restarted afterwards.
var aptEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "UCF_FORCE_CONFFOLD=1",
	"NEEDRESTART_SUSPEND=1", "APT_LISTCHANGES_FRONTEND=none", "APT_LISTBUGS_FRONTEND=none",
}

// Run is described at Host.
func (OnHost) Run(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, aptEnv
	var out printed
	cmd.Stdout, cmd.Stderr = &out, (*aside)(&out)
	err := cmd.Run()
	if err != nil {
		if said := ferryman.LastLines(out.both.String(), maxTail); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	}
	return out.stdout.String(), err
}

// printed is what a program printed, and what it printed and complained, in order. The two come at once.
type printed struct {
	mu           sync.Mutex
	stdout, both bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.both.Write(b)
	return p.stdout.Write(b)
}

type aside printed

func (p *aside) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.both.Write(b)
}

// Locked is described at Host. Locks are those of fcntl, which dpkg and rpm take, and files that end with .pid, as dnf has them.
func (OnHost) Locked(path string) (string, error) {
	if strings.HasSuffix(path, ".pid") {
		raw, err := os.ReadFile(path)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
		if errors.Is(err, os.ErrNotExist) || err == nil && (pid <= 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH)) {
			return "", nil // it died
		}
		return process(pid), err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return "", fmt.Errorf("look for the lock %s: %w", path, err)
	}
	if lock.Type == unix.F_UNLCK {
		return "", nil
	}
	return process(int(lock.Pid)), nil
}

// process names one.
func process(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(name)), pid)
}

// Answers is described at Host.
func (OnHost) Answers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Room is described at Host.
func (OnHost) Room(path string) (int64, error) { return free(path) }

// Glob is described at Host.
func (OnHost) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

func run(ctx context.Context, h Host, dir, program string, args ...string) (string, error) {
	out, err := h.Run(ctx, dir, program, args...)
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(append([]string{program}, args[:min(1, len(args))]...), " "), err)
	}
	return out, err
}

// change runs what must not be cut off in the middle, as a service that is stopped or a time-out would do: what has begun comes to its own end.
func change(ctx context.Context, h Host, program string, args ...string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	_, err := run(context.WithoutCancel(ctx), h, "", program, args...)
	return err
}

// maxTail is how much of what a package manager printed goes into an error, which is committed in Raft.
const maxTail = 1200
