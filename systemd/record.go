package systemd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// record is what the next agent must know to find a program again, and to know how it ended.
type record struct {
	Name string `json:"name"`
	process
	BootID      string         `json:"bootID"`
	StartID     string         `json:"startID"`
	Exec        []string       `json:"exec"`
	StartedAt   time.Time      `json:"startedAt"`
	StopSignal  syscall.Signal `json:"stopSignal"`
	StopTimeout time.Duration  `json:"stopTimeout"`
	Ended       *ending        `json:"ended,omitempty"`
}

// ending is how a start ended, once nothing of it is left.
type ending struct {
	At       time.Time `json:"at"`
	Result   string    `json:"result"`
	ExitCode int       `json:"exitCode"`
	Asked    bool      `json:"asked"` // it was stopped or killed; it did not end by itself
}

const (
	recordSuffix = ".json"
	markKey      = "INVOCATION_ID"
)

func (r record) mark() string { return markKey + "=" + r.StartID }

func (r record) status() UnitStatus {
	st := UnitStatus{StartID: r.StartID, ExitCode: -1}
	if r.Ended == nil {
		st.State, st.Active, st.PID, st.Since = StateRunning, true, r.PID, r.StartedAt
		return st
	}
	st.State, st.Since, st.Result, st.ExitCode = StateStopped, r.Ended.At, r.Ended.Result, r.Ended.ExitCode
	if !r.Ended.Asked && r.Ended.Result != "success" {
		st.State = StateFailed
	}
	return st
}

func recordPath(dir, name string) string { return filepath.Join(dir, name+recordSuffix) }

// write makes the record durable: after it returns, it is there also when the power fails.
func (r record) write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+r.Name+".tmp")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, recordPath(dir, r.Name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readRecord returns the record of name; found is false when it was never started here.
func readRecord(dir, name string) (r record, found bool, err error) {
	path := recordPath(dir, name)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err == nil && (r.Name != name || r.PID <= 1) {
		err = errors.New("not a record of this unit")
	}
	if err != nil {
		// Starting all the same could make two of what must be one.
		return record{}, false, fmt.Errorf("record of unit %s: %w; look whether it runs, stop it by hand, then delete %s", name, err, path)
	}
	return r, true, nil
}
