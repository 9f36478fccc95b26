package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ferryman/demo/port"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ferryman": main})
}

// TestScript types what people type. The scripts have two verbs more than
// testscript's: `exits CODE PROGRAM …`, and `until PATTERN PROGRAM …`, which
// asks again until the standard output matches.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Defer(func() { endDatabases(t, env.WorkDir) })
			for _, name := range []string{"PEER", "DB", "METRICS", "API"} {
				env.Setenv(name, port.Free())
			}
			env.Setenv("NO_COLOR", "1")
			program, err := exec.LookPath("ferryman")
			env.Setenv("PROGRAM", program)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("got exit code %d, want %d", got, want)
	}
}

// patience is how long a cluster of one may take to be as a script wants it.
const patience = time.Minute

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM …")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	deadline := time.After(patience)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		// Failures are what is waited through.
		_ = ts.Exec(args[1], args[2:]...)
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			ts.Fatalf("%q does not come within %s", args[0], patience)
		}
	}
}

// endDatabases ends the databases of agents that a script started: they
// outlive the agent, as they should, and are known by the directory of their data.
func endDatabases(t *testing.T, dir string) {
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Error(err)
	}
	for _, p := range processes {
		raw, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(raw, []byte("\x00--data\x00"+dir+"/")) {
			continue // another's, or gone by now
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("end the database of %s: %v", p, err)
		}
	}
}
