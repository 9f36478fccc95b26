package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ferryman/agent/guard"
)

// part is one of the processes of a host.
type part string

const (
	theAgent    part = "agent"
	theGuard    part = "guard" // the active one of the pair
	theStandby  part = "standby"
	theDatabase part = "database"
)

// fault is what is done to one of them.
type fault struct {
	part part
	sig  syscall.Signal
}

func kills(p part) fault { return fault{p, syscall.SIGKILL} }
func stops(p part) fault { return fault{p, syscall.SIGSTOP} }

func (f fault) String() string {
	if f.sig == syscall.SIGSTOP {
		return "stop " + string(f.part)
	}
	return "kill " + string(f.part)
}

// process finds one of a host's; it stays that one, whoever has its pid later.
func (c *company) process(name string, p part) (*os.Process, error) {
	pid := 0
	var err error
	switch p {
	case theAgent:
		if pid = c.stage.quiet().Agent(name); pid == 0 {
			err = errors.New("none runs")
		}
	case theGuard:
		pid, err = c.guardPID(name)
	case theStandby:
		pid, err = c.standbyPID(name)
	case theDatabase:
		pid, err = c.databasePID(name)
	}
	var found *os.Process
	if err == nil {
		found, err = os.FindProcess(pid)
	}
	if err == nil {
		err = found.Signal(syscall.Signal(0))
	}
	if err != nil {
		return nil, fmt.Errorf("the %s of %s: %w", p, name, err)
	}
	return found, nil
}

// guardPID is that of the active guard, who signs the lock that it holds.
func (c *company) guardPID(name string) (int, error) {
	var holder struct {
		PID int `json:"pid"`
	}
	err := readJSON(filepath.Join(c.host(name), "data", "guard", "lock"), &holder)
	if err == nil && !slices.Contains(commandLine(holder.PID), "guard") {
		err = fmt.Errorf("process %d is %q", holder.PID, commandLine(holder.PID))
	}
	return holder.PID, err
}

// standbyPID finds the one that the active guard started with its own spec.
func (c *company) standbyPID(name string) (int, error) {
	all, err := os.ReadDir("/proc")
	for _, entry := range all {
		pid, notPID := strconv.Atoi(entry.Name())
		if args := commandLine(pid); notPID == nil && slices.Contains(args, "--standby") && slices.Contains(args, filepath.Join(c.host(name), "data", "guard", "spec.json")) {
			return pid, nil
		}
	}
	return 0, errors.Join(err, errors.New("none runs"))
}

// databasePID is that of the process that the guard would kill.
func (c *company) databasePID(name string) (int, error) {
	spec, err := guard.ReadSpec(filepath.Join(c.host(name), "data", "guard", "spec.json"))
	var unit struct {
		PID   int       `json:"pid"`
		Ended *struct{} `json:"ended"`
	}
	if err == nil {
		err = readJSON(spec.Target.Record, &unit)
	}
	if err == nil && unit.Ended != nil {
		err = errors.New("it ended")
	}
	return unit.PID, err
}

func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// commandLine is how a process was called; empty when there is none.
func commandLine(pid int) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(string(raw), "\x00")
}

// strike applies faults to one host at about the same time: all processes are
// found first.
func (c *company) strike(t *testing.T, name string, faults ...fault) *wounds {
	t.Helper()
	w := &wounds{c: c, host: name}
	var found []*os.Process
	for _, f := range faults {
		p, err := c.process(name, f.part)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, p)
	}
	for i, f := range faults {
		if err := found[i].Signal(f.sig); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if f.sig == syscall.SIGSTOP {
			w.stopped = append(w.stopped, found[i])
		} else if f.part == theAgent {
			w.agent = true
		}
	}
	t.Cleanup(w.goOn)
	return w
}

// wounds are what is to be undone.
type wounds struct {
	c       *company
	host    string
	stopped []*os.Process
	agent   bool // it was killed, and nobody but the test starts it
}

// goOn continues what was stopped, if it still is there.
func (w *wounds) goOn() {
	for _, p := range w.stopped {
		_ = p.Signal(syscall.SIGCONT)
	}
	w.stopped = nil
}

// heal continues what was stopped and starts the agent again that was killed.
func (w *wounds) heal(t *testing.T) {
	t.Helper()
	w.goOn()
	if w.agent {
		w.agent = false
		w.c.reviveAgent(t, w.host)
	}
}

// reviveAgent starts the agent of a host again as soon as its end was noticed.
func (c *company) reviveAgent(t *testing.T, name string) {
	t.Helper()
	eventually(t, "the host of "+name+" ends with its agent", func() error {
		hosts, err := c.stage.hosts()
		if err == nil && slices.Contains(hosts, name) {
			err = errors.New("it still runs it")
		}
		return err
	})
	c.revive(t, name)
}
