package apiserver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman/agent/source"
	"ferryman/apiserver"
)

func script(t *testing.T, text string) (*apiserver.Exec, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncd "+dir+"\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return &apiserver.Exec{Program: path}, dir
}

func TestExecRunsTheProgram(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	e, dir := script(t, `
cat >>orders; echo >>orders; env >environment
mkdir -p hosts
case $1 in
create) : >hosts/$2 ;;
remove) rm -f hosts/$2 ;;
list) ls hosts | sed 's/$/:7440/' ;;
esac
`)
	if got := list(t, e); got != "" {
		t.Errorf("at first: got %s", got)
	}
	for _, name := range []string{"n1", "n2"} {
		if err := e.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := list(t, e), "n1:7440 n2:7440"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := e.Remove(t.Context(), "n1", true); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, e), "n2:7440"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	list(t, e) // from memory
	orders, _ := os.ReadFile(filepath.Join(dir, "orders"))
	want := `{"operation":"list"}
{"operation":"create","name":"n1"}
{"operation":"create","name":"n2"}
{"operation":"list"}
{"operation":"remove","name":"n1","lost":true}
{"operation":"list"}
`
	// The last list may be a second old on a slow machine, and asked for anew.
	if got := string(orders); !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if environment, _ := os.ReadFile(filepath.Join(dir, "environment")); strings.Contains(string(environment), "hunter2") {
		t.Error("the program sees the server's environment")
	}
}

func TestExecFailures(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"status":     {"echo 'no quota left' >&2; exit 3", "no quota left"},
		"not a name": {"echo a/b", "not the name of a host"},
		"endless":    {"while :; do echo n1; done | head -c 200000", "too large"},
		"loud":       {"head -c 200000 /dev/zero | tr '\\0' x >&2; exit 1", "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := script(t, test.text)
			_, err := e.List(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to contain %q", err, test.want)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
		})
	}
	e, _ := script(t, "head -c 200000 /dev/zero | tr '\\0' x")
	if _, err := e.List(t.Context()); !errors.Is(err, source.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

// When its time is over, the program ends with all that it started.
func TestExecEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e, dir := script(t, "sleep 1000 & echo $! >pid.new; mv pid.new pid; wait")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Create(ctx, "n1") }()
	var pid string
	eventually(t, "the script runs", func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, "pid"))
		pid = strings.TrimSpace(string(raw))
		return err == nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	eventually(t, "its child ends", func() bool {
		raw, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(raw), ") Z ")
	})
}
