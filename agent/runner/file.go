package runner

import (
	"fmt"
	"io"
	"os"
	"time"

	"ferryman"
	"ferryman/upgrade/install"
)

// File is where the journal lives.
type File interface {
	// Load returns what was saved last, or an error that is fs.ErrNotExist.
	Load() ([]byte, error)
	// Save replaces the content, durably and in one step.
	Save(content []byte) error
	// SetAside keeps a copy of content that could not be understood and says where.
	SetAside(content []byte) (where string, err error)
}

// OpenFile returns the File at path. Its directory must exist; whoever owns the directory's lock is the only writer.
func OpenFile(path string) File { return file(path) }

type file string

func (f file) Load() ([]byte, error) { return os.ReadFile(string(f)) }

func (f file) Save(content []byte) error { return install.WriteFile(string(f), content, 0o600) }

func (f file) SetAside(content []byte) (string, error) {
	where := fmt.Sprintf("%s.unreadable-%s", string(f), time.Now().UTC().Format("20060102T150405.000"))
	return where, install.WriteFile(where, content, 0o600)
}

// maxLog is how much of a log goes into the reason of a failed start: reasons are committed in Raft.
const maxLog = 2 << 10

// LogTail returns the last lines of the log at path, at most 2 KiB, or "" when it cannot be read.
func LogTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-2*maxLog), 2*maxLog))
	if err != nil {
		return ""
	}
	return ferryman.LastLines(string(raw), maxLog)
}
