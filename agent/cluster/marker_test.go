package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ferryman/agent/cluster"
)

func TestMarker(t *testing.T) {
	t.Parallel()
	orders := cluster.Marker{Cluster: "orders"}
	type result struct {
		m  cluster.Marker
		ok bool
	}
	consume := func(dir string, hasState bool) (result, error) {
		m, ok, err := cluster.ConsumeMarker(dir, hasState)
		return result{m, ok}, err
	}
	tests := []struct {
		name string
		do   func(t *testing.T, dir string) (result, error)
		want result
		err  error
	}{
		{"none", func(_ *testing.T, dir string) (result, error) { return consume(dir, false) }, result{}, nil},
		{"one", func(t *testing.T, dir string) (result, error) {
			write(t, dir, orders)
			return consume(dir, false)
		}, result{orders, true}, nil},
		{"twice", func(t *testing.T, dir string) (result, error) {
			write(t, dir, orders)
			if _, err := consume(dir, false); err != nil {
				t.Fatal(err)
			}
			return consume(dir, false)
		}, result{orders, false}, cluster.ErrMarkerUsed},
		{"after a restart", func(t *testing.T, dir string) (result, error) {
			write(t, dir, orders)
			if _, err := consume(dir, false); err != nil {
				t.Fatal(err)
			}
			return consume(dir, true)
		}, result{}, nil},
		{"again by a person", func(t *testing.T, dir string) (result, error) {
			write(t, dir, orders)
			if _, err := consume(dir, false); err != nil {
				t.Fatal(err)
			}
			write(t, dir, orders)
			return consume(dir, false)
		}, result{orders, true}, nil},
		{"beside state", func(t *testing.T, dir string) (result, error) {
			write(t, dir, orders)
			return consume(dir, true)
		}, result{orders, false}, nil},
		{"beside state that is lost later", func(t *testing.T, dir string) (result, error) {
			write(t, dir, orders)
			if _, err := consume(dir, true); err != nil {
				t.Fatal(err)
			}
			return consume(dir, false)
		}, result{orders, false}, cluster.ErrMarkerUsed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := test.do(t, t.TempDir())
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, test.want, test.err)
			}
			if err != nil && !strings.Contains(err.Error(), "ferryman init") {
				t.Errorf("the error shows no way out: %v", err)
			}
		})
	}
}

func write(t *testing.T, dir string, m cluster.Marker) {
	t.Helper()
	if err := cluster.WriteMarker(dir, m); err != nil {
		t.Fatal(err)
	}
}

func TestMarkerIsNotReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, cluster.Marker{Cluster: "orders"})
	write(t, dir, cluster.Marker{Cluster: "orders"})
	if err := cluster.WriteMarker(dir, cluster.Marker{Cluster: "other"}); err == nil {
		t.Error("the marker for another cluster was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestBrokenMarkerIsNotUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bootstrap.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := cluster.ConsumeMarker(dir, false); ok || err == nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held, err := cluster.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cluster.Lock(dir)
	if !errors.Is(err, cluster.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("got %v, want %v with the pid", err, cluster.ErrInUse)
	}
	// A process that was just forked has the file until it runs its program.
	forked, err := syscall.Dup(int(held.(interface{ Fd() uintptr }).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(forked)
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := cluster.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
