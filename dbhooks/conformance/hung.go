package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

func hungProcessIsBounded(t *testing.T, s Suite) {
	nodes := newCluster(t, s, 2)
	n := nodes[1]
	n.freeze(t)
	in := within(t, "status of a hung process", func(ctx context.Context) ferryman.Instance {
		in, err := n.Status(ctx)
		if err != nil {
			t.Errorf("status of a hung process: %v; want it running and not healthy", err)
		}
		return in
	})
	if !in.Running || in.Healthy || in.Reason == "" {
		t.Errorf("a hung process: got %+v, want it running, not healthy, with a reason", in)
	}
	err := within(t, "an operation on a hung process", func(ctx context.Context) error {
		_, err := n.Do(ctx, ferryman.OpPromote, ferryman.Args{Epoch: 2})
		return err
	})
	if err == nil {
		t.Error("promote of a hung process: got nil, want an error")
	}
	n.signal(t, syscall.SIGCONT)
	n.until(t, "it is answered again", func(in ferryman.Instance) bool { return in.Version != "" })
}

// freeze stops the process and waits until the kernel has: the signal returns before its threads do.
func (n *node) freeze(t *testing.T) {
	t.Helper()
	n.signal(t, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := dbhooks.Poll(ctx, func(context.Context) (bool, string, error) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.process.Process.Pid))
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if err != nil {
				return false, "", err
			}
			// The state follows the name, which is in parentheses and may hold anything.
			if _, rest, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(rest, "T") {
				return false, "the process runs on after SIGSTOP", nil
			}
		}
		return len(tasks) > 0, "no such process", err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// within calls f with a short time, and fails the test if f goes on long after it.
func within[T any](t *testing.T, what string, f func(context.Context) T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	answer := make(chan T, 1)
	go func() { answer <- f(ctx) }()
	select {
	case v := <-answer:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: did not return with its context", what)
		panic("unreachable")
	}
}
