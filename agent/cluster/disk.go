package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"ferryman/agent/telemetry"
)

const (
	storeDir  = "raft"
	storeFile = "raft.db"
	// openTimeout bounds the wait for the file's lock; bbolt's default waits
	// for ever.
	openTimeout = time.Second
	// keepSnapshots is how many snapshots stay on disk.
	keepSnapshots = 2
	rejoin        = "the other nodes have everything: move the agent's whole data directory away (keep it until the cluster is whole again) and start the agent; with an empty data directory it joins as a new node"
)

// OnDisk opens the stores in the agent's data directory dir, below raft/, and
// makes them if there are none. What is there is checked in full first and
// never emptied: the errors are ErrInUse, ErrCorrupt and those of the file
// system, with what to do.
func OnDisk(dir string, logger *slog.Logger) (Stores, error) {
	base := filepath.Join(dir, storeDir)
	if err := os.MkdirAll(base, 0o700); err != nil {
		return Stores{}, fmt.Errorf("make the raft store in the data directory %s: %w; it must be a directory that the agent's user can write", dir, err)
	}
	path := filepath.Join(base, storeFile)
	if err := check(base, path); err != nil {
		return Stores{}, err
	}
	store, err := open(path)
	if err != nil {
		return Stores{}, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(base, keepSnapshots, telemetry.HCLog(logger, "raft.snapshots"))
	if err != nil {
		return Stores{}, errors.Join(fmt.Errorf("open the snapshots below %s: %w", base, err), store.Close())
	}
	return Stores{Logs: store, Stable: store, Snapshots: snapshots, close: store.Close}, nil
}

func boltOptions() *bbolt.Options {
	o := *bbolt.DefaultOptions
	o.Timeout = openTimeout
	return &o
}

// check makes the store if there was never one, and otherwise reads all of it.
func check(base, path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if snapshot := anySnapshot(base); snapshot != "" {
			return fmt.Errorf("%w: %s is missing, but there is a snapshot, %s: the node's votes and its newest entries are lost; %s", ErrCorrupt, path, snapshot, rejoin)
		}
		return create(base, path)
	case err != nil:
		return fmt.Errorf("open the raft store %s: %w", path, err)
	case info.Size() == 0:
		// bbolt would take it for a new one. Ours are never empty: see create.
		return fmt.Errorf("%w: %s is empty; %s", ErrCorrupt, path, rejoin)
	}
	return verify(path)
}

// create makes the store beside its place and moves it there complete, so that
// an empty or half-written file is never one that a crash left behind.
func create(base, path string) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make the raft store %s: %w", path, err)
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: fresh, BoltOptions: boltOptions()})
	if err != nil {
		return fmt.Errorf("make the raft store %s: %w; the directory must be writable for the agent's user", path, err)
	}
	if err := store.Close(); err != nil {
		return fmt.Errorf("make the raft store %s: %w", path, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("make the raft store %s: %w", path, err)
	}
	return syncDir(base)
}

// verify reads everything. bbolt itself would panic, or read beyond the end of a
// file that was cut, when it comes across the damage later.
func verify(path string) (err error) {
	defer guard(path, &err)()
	o := boltOptions()
	o.ReadOnly = true
	o.PreLoadFreelist = true
	o.OpenFile = func(name string, _ int, mode os.FileMode) (*os.File, error) {
		// Opened for writing, so that a store that cannot be written is found
		// now.
		return os.OpenFile(name, os.O_RDWR, mode)
	}
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return storeError(path, err)
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("open the raft store %s: %w", path, err)
		}
		if info.Size() < tx.Size() {
			return storeError(path, fmt.Errorf("%d of %d bytes are there", info.Size(), tx.Size()))
		}
		// Not bbolt's own check: on a damaged file it faults in a goroutine of
		// its own, which ends the process, or runs for ever.
		if err := tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error { return walk(bucket) }); err != nil {
			return storeError(path, err)
		}
		return nil
	})
}

// walk reads every byte of a bucket and finds every key on its way from the
// root.
func walk(bucket *bbolt.Bucket) error {
	var last []byte
	return bucket.ForEach(func(k, v []byte) error {
		if v == nil {
			return fmt.Errorf("key %x is a bucket", k)
		}
		if last != nil && bytes.Compare(last, k) >= 0 {
			return fmt.Errorf("key %x comes after key %x", k, last)
		}
		last = k
		if found := bucket.Get(k); !bytes.Equal(found, v) {
			return fmt.Errorf("key %x is not where it belongs", k)
		}
		return nil
	})
}

// guard turns panics and faults while a damaged file is read into an error. It
// belongs into a defer of the goroutine that reads.
func guard(path string, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = storeError(path, fmt.Errorf("%v", p))
		}
	}
}

func open(path string) (store *raftboltdb.BoltStore, err error) {
	defer guard(path, &err)()
	store, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions()})
	if err != nil {
		return nil, storeError(path, err)
	}
	return store, nil
}

func storeError(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s is held by another process", ErrInUse, path)
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("open the raft store %s: %w; it must be readable and writable for the agent's user", path, err)
	default:
		return fmt.Errorf("%w: %s: %w; %s", ErrCorrupt, path, err, rejoin)
	}
}

// anySnapshot returns the path of a complete snapshot, if there is one.
func anySnapshot(base string) string {
	dir := filepath.Join(base, "snapshots")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), ".tmp") {
			return filepath.Join(dir, e.Name())
		}
	}
	return ""
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
