package demodb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"ferryman/dbhooks"
)

// history is one primary's reign: the entries from start to the next history's start.
type history struct {
	id    string
	epoch uint64
	start uint64
}

// journal is the log on disk: dir/log. It is not safe for concurrent use, but for read, which touches only what was durable when it was called.
type journal struct {
	file      *os.File
	size      int64
	offsets   []int64 // offsets[i] is where entry i+1 begins
	histories []history
}

// openJournal opens or creates the log in dir and hands every entry to apply. What a crash left unfinished at its end was never acknowledged and is
// cut off; damage before the end is an error, as acknowledged writes are behind it.
func openJournal(dir string, apply func(entry)) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "log")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: file}
	if err := errors.Join(j.load(apply), dbhooks.SyncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), file.Close())
	}
	return j, nil
}

func (j *journal) load(apply func(entry)) error {
	r := bufio.NewReaderSize(j.file, 1<<18)
	for {
		e, n, err := readEntry(r)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errFrame):
			// A frame of full length that is damaged while a good one follows cannot be a torn end.
			if next, _, err := readEntry(r); err == nil && next.position > 0 {
				return fmt.Errorf("entry %d at byte %d is damaged and more follow; set this directory aside and clone from another node", j.last()+1, j.size)
			}
			return errors.Join(j.file.Truncate(j.size), j.file.Sync())
		case err != nil:
			return err
		case e.position != j.last()+1:
			return fmt.Errorf("entry %d follows entry %d at byte %d; set this directory aside and clone from another node", e.position, j.last(), j.size)
		}
		j.note(e, n)
		apply(e)
	}
}

// write puts the entries, whose positions must continue the log, on disk and syncs; noteAll makes them part of it. Apart, so that readers are kept out
// only during the second. After an error the log's end is unknown: the process must end.
func (j *journal) write(entries []entry) error {
	var b []byte
	for i, e := range entries {
		if want := j.last() + 1 + uint64(i); e.position != want {
			return fmt.Errorf("append to the log: entry %d where %d was due", e.position, want)
		}
		b = e.appendTo(b)
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		return fmt.Errorf("append to the log: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync the log: %w", err)
	}
	return nil
}

func (j *journal) noteAll(entries []entry) {
	for _, e := range entries {
		j.note(e, e.size())
	}
}

func (j *journal) note(e entry, size int) {
	j.offsets = append(j.offsets, j.size)
	j.size += int64(size)
	if e.kind == kindHistory {
		j.histories = append(j.histories, history{id: e.history, epoch: e.epoch, start: e.position})
	}
}

// last is the position of the last entry; 0 when there is none.
func (j *journal) last() uint64 { return uint64(len(j.offsets)) }

// current is the history of the last entry.
func (j *journal) current() history {
	if len(j.histories) == 0 {
		return history{}
	}
	return j.histories[len(j.histories)-1]
}

// contains says whether the log holds that entry of that history.
func (j *journal) contains(id string, position uint64) bool {
	for i, h := range j.histories {
		if h.id != id {
			continue
		}
		end := j.last()
		if i+1 < len(j.histories) {
			end = j.histories[i+1].start - 1
		}
		return h.start <= position && position <= end
	}
	return false
}

// span says where the bytes of the entries after a position are, whole entries up to about limit bytes, and the last position among them.
func (j *journal) span(after uint64, limit int64) (offset, size int64, last uint64) {
	if after >= j.last() {
		return j.size, 0, after
	}
	offset = j.offsets[after]
	for last = after + 1; last < j.last() && j.offsets[last]-offset < limit; last++ {
	}
	end := j.size
	if last < j.last() {
		end = j.offsets[last]
	}
	return offset, end - offset, last
}

func (j *journal) close() error { return j.file.Close() }
