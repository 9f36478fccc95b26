package cluster_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"ferryman/agent/cluster"
)

// used returns a data directory with a store that holds entries, and a term.
func used(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := onDisk(t, dir)
	for i := range uint64(500) {
		if err := s.Logs.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: make([]byte, 200)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func onDisk(t *testing.T, dir string) cluster.Stores {
	t.Helper()
	s, err := cluster.OnDisk(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreKeeps(t *testing.T) {
	t.Parallel()
	s := onDisk(t, used(t))
	defer s.Close()
	if last, err := s.Logs.LastIndex(); err != nil || last != 500 {
		t.Errorf("last entry %d, %v; want 500", last, err)
	}
}

func TestDamagedStoreIsRefused(t *testing.T) {
	t.Parallel()
	// overwrite puts b at an offset; a negative one counts from the end.
	overwrite := func(t *testing.T, path string, at int64, b []byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	junk := []byte(strings.Repeat("\xde\xad", 2048))
	tests := map[string]func(t *testing.T, path string){
		"emptied":   func(t *testing.T, path string) { truncate(t, path, 0) },
		"cut short": func(t *testing.T, path string) { truncate(t, path, 8192+100) },
		"cut in half": func(t *testing.T, path string) {
			truncate(t, path, 64<<10)
		},
		"garbage at the start": func(t *testing.T, path string) {
			overwrite(t, path, 0, append(junk, junk...))
		},
		"garbage inside": func(t *testing.T, path string) {
			for page := int64(2); page < 20; page++ {
				overwrite(t, path, page*4096, junk)
			}
		},
		"another file": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("not a database"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := used(t)
			path := filepath.Join(dir, "raft", "raft.db")
			damage(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := cluster.OnDisk(dir, nil)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, cluster.ErrCorrupt) {
				t.Fatalf("got %v, want %v", err, cluster.ErrCorrupt)
			}
			for _, want := range []string{path, "joins as a new node"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("the damaged file was changed (%v)", err)
			}
		})
	}
}

// Whatever is overwritten, opening ends, and with an error that is ErrCorrupt
// or none: bytes that are in use by nothing, or in an entry, are not seen here.
func TestDamageAnywhereEndsInAnError(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(filepath.Join(used(t), "raft", "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 200 {
		b := bytes.Clone(whole)
		// The header of a page, which is where damage does most.
		at := rng.IntN(len(b)/4096)*4096 + rng.IntN(32)
		for i := range b[at : at+1+rng.IntN(64)] {
			b[at+i] = byte(rng.Uint32())
		}
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "raft"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "raft", "raft.db"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := cluster.OnDisk(dir, nil)
		switch {
		case err == nil:
			s.Close()
		case errors.Is(err, cluster.ErrCorrupt):
			found++
		default:
			t.Errorf("damage at %d: %v", at, err)
		}
	}
	if found == 0 {
		t.Error("no damage was found")
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// A log with a hole, and no snapshot that covers it, is found by raft, which
// panics.
func TestLogWithAHoleIsRefused(t *testing.T) {
	t.Parallel()
	dir := used(t)
	s := onDisk(t, dir)
	defer s.Close()
	if err := s.Logs.DeleteRange(1, 100); err != nil {
		t.Fatal(err)
	}
	cfg := cluster.NewConfig()
	cfg.ID, cfg.Address = "n1", "n1:1"
	_, err := cluster.Open(cfg, &list{}, cluster.Deps{Transport: cluster.NewNetwork(nil).Transport("n1:1"), Stores: s})
	if !errors.Is(err, cluster.ErrCorrupt) {
		t.Errorf("got %v, want %v", err, cluster.ErrCorrupt)
	}
}

// Snapshots without the file with votes and log are half a node.
func TestMissingStoreBesideSnapshotsIsRefused(t *testing.T) {
	t.Parallel()
	dir := used(t)
	s := onDisk(t, dir)
	_, transport := raft.NewInmemTransport("n1:1")
	sink, err := s.Snapshots.Create(1, 10, 1, raft.Configuration{}, 1, transport)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sink.Close(), s.Close(), os.Remove(filepath.Join(dir, "raft", "raft.db"))); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.OnDisk(dir, nil); !errors.Is(err, cluster.ErrCorrupt) {
		t.Errorf("got %v, want %v", err, cluster.ErrCorrupt)
	}
	if _, err := os.Stat(filepath.Join(dir, "raft", "raft.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a new store was made: %v", err)
	}
}

func TestStoreOpenedTwice(t *testing.T) {
	t.Parallel()
	dir := used(t)
	s := onDisk(t, dir)
	defer s.Close()
	if _, err := cluster.OnDisk(dir, nil); !errors.Is(err, cluster.ErrInUse) {
		t.Errorf("got %v, want %v", err, cluster.ErrInUse)
	}
}

// A file in the place of the directory cannot be written by root either.
func TestUnusableDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := cluster.OnDisk(dir, nil)
	if err == nil || errors.Is(err, cluster.ErrCorrupt) || !strings.Contains(err.Error(), dir) {
		t.Errorf("OnDisk: %v", err)
	}
	if _, err := cluster.Lock(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Lock: %v", err)
	}
	if err := cluster.WriteMarker(dir, cluster.Marker{Cluster: "c"}); err == nil {
		t.Error("WriteMarker: nil")
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root writes everywhere; scripts/lab/test runs this as another user")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.OnDisk(dir, nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v, want %v", err, os.ErrPermission)
	}
}

// A crash while the store is made leaves a file that is made anew.
func TestHalfMadeStoreIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "raft"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "raft", "raft.db.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := onDisk(t, dir)
	defer s.Close()
}
