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
)

// cgroupMounts are where a host has the hierarchy that systemd sorts its units into: version 2, and version 1.
var cgroupMounts = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd"}

// cgroupDir returns the directory of a unit's control group, whether or not it is there now.
func cgroupDir(group string) (string, error) {
	for _, mount := range cgroupMounts {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err == nil {
			return filepath.Join(mount, group), nil
		}
	}
	return "", fmt.Errorf("control group %s: no hierarchy of systemd's at %s", group, strings.Join(cgroupMounts, " or "))
}

// unitCgroup is the control group that systemd gives a unit while it runs: one that is down has none, and its slice says where it would be.
func unitCgroup(service string, svc map[string]any) (string, error) {
	if group, _ := svc["ControlGroup"].(string); group != "" {
		return group, nil
	}
	slice, _ := svc["Slice"].(string)
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || strings.HasPrefix(service, "_") { // systemd writes such a name otherwise
		return "", fmt.Errorf("unit %s is down, and its slice %q does not say where it would run: start it first", service, slice)
	}
	group := "/"
	if name != "-" {
		for i := range len(name) { // a-b.slice is below a.slice
			if name[i] == '-' {
				group = filepath.Join(group, name[:i]+".slice")
			}
		}
		group = filepath.Join(group, slice)
	}
	return filepath.Join(group, service), nil
}

// killCgroup kills until the group was seen empty.
func killCgroup(ctx context.Context, dir string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := killOnce(dir)
		if err != nil {
			return fmt.Errorf("kill control group %s: %w", dir, err)
		}
		if !left {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("kill control group %s: %w: %w", dir, ErrNotEmpty, context.Cause(ctx))
		}
	}
}

// killOnce kills what is in the group now, and says whether there was anything. A group that is not there is empty, if the place where it would be is one
// for control groups.
func killOnce(dir string) (left bool, err error) {
	pids, err := cgroupPids(dir)
	if err != nil {
		return false, err
	}
	// The kernel's own kill reaches what is forked meanwhile too. Version 1, and a kernel before 5.14, have none: there each round kills what it finds.
	killed := kernelKill(dir) == nil
	for _, pid := range pids {
		s, err := readStat(pid)
		if gone(err) || err == nil && s.dead() {
			continue
		}
		if err != nil {
			return false, err
		}
		left = true
		if killed {
			continue
		}
		if err := s.process.signal(syscall.SIGKILL); err != nil {
			return false, err
		}
	}
	if left {
		return true, nil
	}
	events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err == nil {
		return bytes.Contains(events, []byte("populated 1")), nil
	}
	return false, inHierarchy(dir)
}

func kernelKill(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("1")
	return errors.Join(err, f.Close())
}

// inHierarchy refuses a directory that is not, and never will be, a control group: nothing would ever be found in it.
func inHierarchy(dir string) error {
	for at := dir; at != "/"; at = filepath.Dir(at) {
		if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Stat(filepath.Join(at, "cgroup.procs")); err != nil {
			return fmt.Errorf("%s is no control group: %w", at, err)
		}
		return nil
	}
	return fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
}

// cgroupPids lists the processes in a control group and below it; one that is not there has none.
func cgroupPids(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "cgroup.procs" {
			var raw []byte
			raw, err = os.ReadFile(path)
			for f := range strings.FieldsSeq(string(raw)) {
				pid, err := strconv.Atoi(f)
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				pids = append(pids, pid)
			}
		}
		// A group that is removed while we look is empty: ENODEV is what its files say then. A threaded one leaves the answer to the one above it.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EOPNOTSUPP) {
			return nil
		}
		return err
	})
	return pids, err
}
