package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// File is a Source that reads a local file.
type File struct {
	path  string
	every time.Duration
	told  string // the last error that was returned
	answered
}

var _ Source = (*File)(nil)

// DefaultLook is how often File looks.
const DefaultLook = 200 * time.Millisecond

// NewFile makes a source of the file at path, which is looked at so often
// (DefaultLook if every is zero).
func NewFile(path string, every time.Duration) *File {
	if every <= 0 {
		every = DefaultLook
	}
	return &File{path: path, every: every}
}

// Fetch is described at Source. The file is read at each look: it is small,
// and neither its time, its size nor its inode tells every change. A content
// counts once two looks saw the same, so that a file that is being written is
// left alone; to be certain, write a new one beside it and rename it. An error
// is returned once, then looked past until it is another one.
func (f *File) Fetch(ctx context.Context, etag string) ([]byte, string, error) {
	var last []byte
	seen := false
	for {
		raw, err := f.read()
		if err == nil {
			f.answered.now()
		}
		switch {
		case err != nil && err.Error() != f.told:
			f.told = err.Error()
			return nil, etag, err
		case err != nil:
			seen = false
		case sum(raw) == etag:
			f.told, seen = "", false
		case seen && bytes.Equal(raw, last):
			f.told = ""
			return raw, sum(raw), nil
		default:
			last, seen = raw, true
		}
		if err := sleep(ctx, f.every); err != nil {
			return nil, etag, err
		}
	}
}

func (f *File) read() ([]byte, error) {
	// Without O_NONBLOCK, the open of a named pipe would never return.
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read the desired state: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the desired state: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read the desired state: %s is not a regular file", f.path)
	}
	raw, err := readCapped(file, MaxEnvelope)
	if err != nil {
		return nil, fmt.Errorf("read the desired state: %s: %w", f.path, err)
	}
	return raw, nil
}

// ErrTooLarge means that the other side sent more than it may; the rest was
// not read.
var ErrTooLarge = errors.New("too large")

func readCapped(r io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return raw, nil
}
