package systemd

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// Target says where a unit's processes are found by somebody who has neither the agent that started them nor a bus: by the record of the Supervisor, or by
// their control group. Exactly one of the two is set.
type Target struct {
	Record string `json:"record,omitempty"` // absolute path of the Supervisor's record
	Cgroup string `json:"cgroup,omitempty"` // absolute path of the control group's directory
}

// Check refuses a target that names nothing to kill: its end would be taken for seen.
func (t Target) Check() error {
	path := t.Record + t.Cgroup
	if (t.Record == "") == (t.Cgroup == "") || !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("target with record %q and control group %q: want the clean absolute path of one of the two", t.Record, t.Cgroup)
	}
	if t.Record != "" && filepath.Ext(path) != recordSuffix {
		return fmt.Errorf("target record %s: want a path that ends in %s", path, recordSuffix)
	}
	return nil
}

// Kill sends SIGKILL to all of the unit until it has seen that nothing is left: only then it returns nil. A stopped process dies of it too.
// ErrNotEmpty when ctx ended before. What is started after its return is not its concern.
func (t Target) Kill(ctx context.Context) error {
	if err := t.Check(); err != nil {
		return err
	}
	if t.Record != "" {
		return killRecorded(ctx, filepath.Dir(t.Record), strings.TrimSuffix(filepath.Base(t.Record), recordSuffix))
	}
	return killCgroup(ctx, t.Cgroup)
}

// killRecorded kills what the record of a name says, and looks again: a start may have come in between.
func killRecorded(ctx context.Context, dir, name string) error {
	boot, err := BootID()
	if err != nil {
		return err
	}
	for seen := ""; ; {
		rec, found, err := readRecord(dir, name)
		if err != nil {
			return err
		}
		if !found || rec.Ended != nil || rec.BootID != boot || rec.StartID == seen {
			return nil
		}
		// The main process first: to look for the others takes the longer the more a host runs.
		if err := rec.signal(syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill unit %s: %w", name, err)
		}
		if err := rec.killAll(ctx); err != nil {
			return fmt.Errorf("kill: %w", err)
		}
		seen = rec.StartID
	}
}

// killAll sends SIGKILL until no process of this start is left. What forks meanwhile is found by the next round.
func (r record) killAll(ctx context.Context) error {
	for {
		left, err := members(r.process, r.mark())
		if err != nil {
			return fmt.Errorf("look for processes of unit %s: %w", r.Name, err)
		}
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			if err := p.signal(syscall.SIGKILL); err != nil {
				return fmt.Errorf("unit %s: %w", r.Name, err)
			}
		}
		for _, p := range left {
			if err := p.wait(ctx); err != nil {
				return fmt.Errorf("unit %s: wait for killed process %d: %w: %w", r.Name, p.PID, ErrNotEmpty, err)
			}
		}
	}
}
