package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"ferryman"
)

// journal keeps the book in a file. Every change is on disk before it counts.
type journal struct {
	file File

	mu   sync.Mutex
	book book
	// aside says that an unreadable book was set aside when this agent started.
	aside string
	// failed is why the newest write failed; nil once one succeeded again.
	failed error
}

// openJournal reads the book. One that cannot be understood is set aside, and the steps that may have been in it are in doubt: it is never taken for
// an empty one. A file that cannot be read at all is an error, for it may be whole.
func openJournal(file File, slots []string) (*journal, error) {
	j := &journal{file: file}
	raw, err := file.Load()
	if errors.Is(err, fs.ErrNotExist) {
		j.book = book{Format: bookFormat}.clone()
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the step journal: %w; make it readable for the agent's user", err)
	}
	err = json.Unmarshal(raw, &j.book)
	switch {
	case err == nil && j.book.Format > bookFormat:
		return nil, fmt.Errorf("the step journal has format %d, this agent knows up to %d: start the newer agent again", j.book.Format, bookFormat)
	case err == nil && j.book.Format < 1:
		err = errors.New("it names no format")
	}
	if err != nil {
		// The copy comes first, and the replacement is one rename: there is no moment at which a crash leaves nothing, which would read as a new node.
		where, copyErr := file.SetAside(raw)
		if copyErr != nil {
			return nil, fmt.Errorf("the step journal cannot be understood (%w), and setting it aside failed: %w", err, copyErr)
		}
		j.aside = fmt.Sprintf("the step journal could not be understood (%v) and was set aside as %s; services will be restarted by the next rollout where "+
			"what they run is no longer known; nothing needs to be done, the file may be deleted", err, where)
		j.book = book{Format: bookFormat, Doubt: slots}.clone()
		if err := j.save(j.book); err != nil {
			return nil, err
		}
		return j, nil
	}
	j.book = j.book.clone()
	return j, nil
}

// ReadDeparted is what Departed says, for whoever runs nothing here. What cannot be read says nothing: the agent that is started looks into it.
func ReadDeparted(file File) string {
	var b book
	if raw, err := file.Load(); err != nil || json.Unmarshal(raw, &b) != nil {
		return ""
	}
	return b.Departed
}

func (j *journal) save(b book) error {
	raw, err := json.Marshal(b)
	if err == nil {
		err = j.file.Save(append(raw, '\n'))
	}
	if err != nil {
		err = fmt.Errorf("write the step journal: %w", err)
	}
	j.failed = err
	return err
}

// change makes f true on disk and then in memory; when the disk fails, nothing changed.
func (j *journal) change(f func(*book)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.book.clone()
	f(&next)
	if err := j.save(next); err != nil {
		return err
	}
	j.book = next
	return nil
}

// note makes f true in memory even when the disk fails. It is for what would also be found out by looking: how an attempt ended. Each write holds the
// whole book, so the next that succeeds makes it durable.
func (j *journal) note(f func(*book)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.book)
	return j.save(j.book)
}

// entry returns the record of a step, if there is one.
func (j *journal) entry(step uint64) (entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.book.find(step)
	if !ok {
		return entry{}, false
	}
	return *e, true
}

func (j *journal) selection(slot string) selection {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.book.Services[slot]
}

// read runs f with the book, which f must neither change nor keep.
func (j *journal) read(f func(*book)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.book)
}

func (j *journal) problems() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	if j.aside != "" {
		out = append(out, j.aside)
	}
	if j.failed != nil {
		out = append(out, fmt.Sprintf("%v; no step begins here until it can be written again: look at the data directory's disk", j.failed))
	}
	return out
}

// outcomes is described at book.
func (j *journal) outcomes(n int) []ferryman.Outcome {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.book.outcomes(n)
}
