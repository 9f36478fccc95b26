package dbhooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ferryman"
)

// ErrEpoch says that an operation came with an epoch that this instance may not act on: a newer primary is known, or this epoch was given to another
// instance. It is final for that epoch: only a newer one, decided by the leader, can succeed.
var ErrEpoch = errors.New("epoch refused")

// ErrFenced says that the instance is fenced at this epoch: only unfence, or a promotion with a newer epoch, lifts it.
var ErrFenced = errors.New("fenced")

// ErrGone says that the one process which an operation found has ended or answers no more: nothing is done to the next one.
var ErrGone = errors.New("the process that this operation found is gone, or no longer answers it")

// Marker is what a single-primary instance remembers, durably and beside its data, about who may write. It holds the rules of epochs for every engine
// whose database has none of its own. All of its methods return the changed marker and leave the receiver as it was: save first, then act.
type Marker struct {
	Epoch   uint64 `json:"epoch"`          // the newest epoch heard of
	Primary bool   `json:"primary"`        // this instance was promoted at Epoch, or was the primary when it was fenced
	Fenced  bool   `json:"fenced"`         // no writes, whatever restarts, until unfence or a newer promotion
	From    string `json:"from,omitempty"` // whom it follows: host:port
}

// Promote is refused with ErrEpoch when a newer epoch is known or when this epoch belongs to another instance, and with ErrFenced when this epoch was
// fenced here. The same promotion again is accepted: a primary that restarts comes up without writes, and is promoted again.
func (m Marker) Promote(epoch uint64) (Marker, error) {
	switch {
	case epoch == 0:
		return m, fmt.Errorf("promote: %w: epochs begin at 1", ErrEpoch)
	case epoch < m.Epoch:
		return m, fmt.Errorf("promote at epoch %d: %w: epoch %d is known here", epoch, ErrEpoch, m.Epoch)
	case epoch == m.Epoch && m.Fenced:
		return m, fmt.Errorf("promote at epoch %d: %w at this epoch: unfence it, or promote with a newer one", epoch, ErrFenced)
	case epoch == m.Epoch && !m.Primary && m.From != "":
		return m, fmt.Errorf("promote at epoch %d: %w: this epoch has another primary", epoch, ErrEpoch)
	}
	return Marker{Epoch: epoch, Primary: true}, nil
}

// Fence is refused only when a newer epoch is known: an old order says nothing about a newer primary. An epoch that was heard of in a fence only may be
// this instance's own: its lease can end before it was promoted.
func (m Marker) Fence(epoch uint64) (Marker, error) {
	if epoch < m.Epoch {
		return m, fmt.Errorf("fence at epoch %d: %w: epoch %d is known here", epoch, ErrEpoch, m.Epoch)
	}
	if epoch > m.Epoch {
		m.From = ""
	}
	m.Epoch, m.Fenced = epoch, true
	return m, nil
}

// Unfence takes the fence away when no newer epoch is known. Whether the instance may write afterwards is for Primary to say.
func (m Marker) Unfence(epoch uint64) (Marker, error) {
	if epoch < m.Epoch {
		return m, fmt.Errorf("unfence at epoch %d: %w: epoch %d is known here", epoch, ErrEpoch, m.Epoch)
	}
	m.Epoch, m.Fenced = epoch, false
	return m, nil
}

// Follow gives up the right to write and names the primary of the epoch.
func (m Marker) Follow(epoch uint64, from string) (Marker, error) {
	if epoch < m.Epoch {
		return m, fmt.Errorf("follow %s at epoch %d: %w: epoch %d is known here", from, epoch, ErrEpoch, m.Epoch)
	}
	return Marker{Epoch: epoch, From: from}, nil
}

// LoadMarker reads what SaveMarker saved in dir into v: a *Marker, or a pointer to a struct that embeds one. Where nothing is saved yet, v stays as it
// is. What cannot be read is an error: guessing would forget a fence.
func LoadMarker(dir string, v any) error {
	raw, err := os.ReadFile(markerPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("read the epoch marker %s: %w; restore it by hand, it says who may write", markerPath(dir), err)
	}
	return nil
}

// SaveMarker makes v durable in dir before it returns.
func SaveMarker(dir string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := WriteFile(markerPath(dir), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the epoch marker: %w", err)
	}
	return nil
}

// FenceMarker makes the marker in dir say, durably, that the instance is fenced at epoch; what else an engine keeps in the file stays as it is. A marker of
// a newer epoch stays too, without an error: an old order says nothing about a newer primary. Where there is no marker yet, or no dir, it makes one.
// It is for who fences without the engine: an operation of the engine's at the same time could undo it.
func FenceMarker(dir string, epoch uint64) error {
	var m Marker
	if err := LoadMarker(dir, &m); err != nil {
		return err
	}
	fields := map[string]json.RawMessage{}
	if err := LoadMarker(dir, &fields); err != nil {
		return err
	}
	m, err := m.Fence(epoch)
	if errors.Is(err, ErrEpoch) {
		return nil
	}
	if err != nil {
		return err
	}
	raw, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(raw, &fields) // over those of the same names
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("fence the epoch marker %s: %w", markerPath(dir), err)
	}
	return SaveMarker(dir, fields)
}

// ReplaceMarker makes next durable in dir before it returns, in the place of old, which is what LoadMarker read there. When something else is there by
// now it changes nothing: who may write is also decided by others, such as the guard that fences an instance, and an operation that was stopped since
// it read the marker must not take that back.
func ReplaceMarker[M comparable](dir string, old, next M) error {
	raw, err := json.Marshal(next)
	if err != nil {
		return err
	}
	err = writeFile(markerPath(dir), append(raw, '\n'), 0o600, func() error { return CheckMarker(dir, old) })
	if err != nil {
		return fmt.Errorf("save the epoch marker: %w", err)
	}
	return nil
}

// CheckMarker fails when the marker in dir is not the one that is given.
func CheckMarker[M comparable](dir string, want M) error {
	var now M
	if err := LoadMarker(dir, &now); err != nil {
		return err
	}
	if now != want {
		return fmt.Errorf("%w: %s was %+v and became %+v meanwhile", ferryman.ErrConflict, markerPath(dir), want, now)
	}
	return nil
}

func markerPath(dir string) string { return filepath.Join(dir, "ferryman-marker.json") }

// WriteFile replaces the file at path, durably and in one step: whoever reads it sees the old content or the new.
func WriteFile(path string, content []byte, mode os.FileMode) error {
	return writeFile(path, content, mode, func() error { return nil })
}

// writeFile is WriteFile, if check, which is asked last, does not object.
func writeFile(path string, content []byte, mode os.FileMode, check func() error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = check()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable: without it a rename can be undone by a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
