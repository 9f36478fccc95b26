package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	markerFile = "bootstrap.json"
	usedFile   = "bootstrap.used.json"
)

// Marker is the permission to found a cluster, once. `ferryman init` puts it
// into the data directory; a node without one only ever joins, so that a first
// host that was wiped or restarted does not make a second cluster.
type Marker struct {
	// Cluster is the name of the cluster to found.
	Cluster string `json:"cluster"`
}

// WriteMarker allows the node with the data directory dir to found a cluster.
// It is durable when it returns. A marker for another cluster is not replaced.
func WriteMarker(dir string, m Marker) error {
	path := filepath.Join(dir, markerFile)
	old, err := readMarker(path)
	switch {
	case err == nil && old == m:
		return nil
	case err == nil:
		return fmt.Errorf("allow to found cluster %q: %s is there for cluster %q; remove it if that was a mistake", m.Cluster, path, old.Cluster)
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("allow to found cluster %q: %w", m.Cluster, err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := writeDurably(path, append(b, '\n')); err != nil {
		return fmt.Errorf("allow to found cluster %q: %w", m.Cluster, err)
	}
	return nil
}

// ConsumeMarker returns the marker at most once, true if it may be used now:
// it is put aside durably before it is returned. Call it at every start;
// hasState is Node.HasState. A node with state belongs to a cluster: a marker
// that is still there is put aside and not returned.
//
// ErrMarkerUsed means that the marker was used before and yet there is no
// state: the agent stopped between the two, or the state was lost. The node may
// still join; it must not found a cluster by itself, because the one that it
// founded may live on other nodes.
func ConsumeMarker(dir string, hasState bool) (Marker, bool, error) {
	path, used := filepath.Join(dir, markerFile), filepath.Join(dir, usedFile)
	m, err := readMarker(path)
	if errors.Is(err, os.ErrNotExist) {
		if hasState {
			return Marker{}, false, nil
		}
		switch old, err := readMarker(used); {
		case errors.Is(err, os.ErrNotExist):
			return Marker{}, false, nil
		case err != nil:
			return Marker{}, false, fmt.Errorf("look whether this node founded a cluster: %w", err)
		default:
			return old, false, fmt.Errorf("%w: %s says that this node was to found cluster %q, but it has no raft state: the agent stopped just before, or the state was deleted; "+
				"if any other node is in that cluster, let this one join it; if there is none and never was, run `ferryman init` again", ErrMarkerUsed, used, old.Cluster)
		}
	}
	if err != nil {
		return Marker{}, false, fmt.Errorf("read the permission to found a cluster: %w", err)
	}
	if err := os.Rename(path, used); err != nil {
		return Marker{}, false, fmt.Errorf("use the permission to found a cluster: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return Marker{}, false, fmt.Errorf("use the permission to found a cluster: %w", err)
	}
	return m, !hasState, nil
}

func readMarker(path string) (Marker, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Marker{}, err
	}
	var m Marker
	if err := json.Unmarshal(b, &m); err != nil {
		return Marker{}, fmt.Errorf("%s: %w; remove it and run `ferryman init` again if this node shall found the cluster", path, err)
	}
	return m, nil
}

// writeDurably writes a file beside its place, syncs it and moves it there.
func writeDurably(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has moved
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
