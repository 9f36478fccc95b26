package runner_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman/agent/runner"
)

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal.json")
	f := runner.OpenFile(path)
	if _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load before the first save: got %v, want fs.ErrNotExist", err)
	}
	for _, want := range []string{"a longer first content", "second"} {
		if err := f.Save([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Load(); err != nil || string(got) != want {
			t.Errorf("load: got %q, %v; want %q", got, err, want)
		}
	}
	where, err := f.SetAside([]byte("odd"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(where); err != nil || string(got) != "odd" {
		t.Errorf("set aside: got %q, %v", got, err)
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db.log")
	if got := runner.LogTail(path); got != "" {
		t.Errorf("without a log: got %q", got)
	}
	line := strings.Repeat("x", 99) + "\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 100)+"the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runner.LogTail(path)
	if len(got) > 2<<10 || !strings.HasSuffix(got, "\nthe end") || !strings.HasPrefix(got, strings.TrimSpace(line)) {
		t.Errorf("got %d bytes: %.30q … want whole lines of at most 2 KiB", len(got), got)
	}
}
