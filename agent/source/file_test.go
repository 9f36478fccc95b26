package source_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ferryman/agent/source"
)

// replace writes a file as an editor or a deployment tool does.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

type fetched struct {
	text, next string
	err        error
}

// fetch calls Fetch in the background.
func fetch(ctx context.Context, s source.Source, etag string) <-chan fetched {
	done := make(chan fetched, 1)
	go func() {
		raw, next, err := s.Fetch(ctx, etag)
		done <- fetched{string(raw), next, err}
	}()
	return done
}

func TestFileTellsEachContentOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "desired.yaml")
	replace(t, path, "nodes: 3")
	synctest.Test(t, func(t *testing.T) {
		s := source.NewFile(path, time.Second)
		got := <-fetch(t.Context(), s, "")
		if got.err != nil || got.text != "nodes: 3" {
			t.Fatalf("first: got %+v", got)
		}

		again := fetch(t.Context(), s, got.next)
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case got := <-again:
			t.Fatalf("unchanged for an hour: got %+v", got)
		default:
		}
		if ago := time.Since(s.Answered()); ago > time.Second {
			t.Errorf("it last answered %s ago, want at its last look: that nothing changed is an answer", ago)
		}

		replace(t, path, "nodes: 4") // the same size, another inode
		changed := <-again
		if changed.err != nil || changed.text != "nodes: 4" || changed.next == got.next {
			t.Fatalf("replaced: got %+v", changed)
		}

		// Changed in place, to the same size and with the same times.
		again = fetch(t.Context(), s, changed.next)
		info, _ := os.Stat(path)
		if err := os.WriteFile(path, []byte("nodes: 5"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		if got := <-again; got.err != nil || got.text != "nodes: 5" {
			t.Fatalf("changed in place: got %+v", got)
		}
	})
}

func TestFileLeavesAHalfWrittenContentAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "desired.yaml")
	replace(t, path, "nodes: 1")
	synctest.Test(t, func(t *testing.T) {
		done := fetch(t.Context(), source.NewFile(path, time.Second), "")
		for _, text := range []string{"nodes: 10", "nodes: 100"} {
			time.Sleep(900 * time.Millisecond)
			synctest.Wait()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-done; got.text != "nodes: 100" {
			t.Errorf("got %+v, want the last content", got)
		}
	})
}

func TestFileTellsAnErrorOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "desired.yaml")
	synctest.Test(t, func(t *testing.T) {
		s := source.NewFile(path, time.Second)
		if got := <-fetch(t.Context(), s, "x"); !errors.Is(got.err, fs.ErrNotExist) || got.next != "x" {
			t.Errorf("missing: got %+v", got)
		}
		if at := s.Answered(); !at.IsZero() {
			t.Errorf("a file that is not there answered at %s", at)
		}
		again := fetch(t.Context(), s, "")
		time.Sleep(time.Minute)
		replace(t, path, "nodes: 3")
		if got := <-again; got.err != nil || got.text != "nodes: 3" {
			t.Errorf("there now: got %+v", got)
		}
	})
}

func TestFileRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, big := filepath.Join(dir, "pipe"), filepath.Join(dir, "big")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	replace(t, big, "")
	if err := os.Truncate(big, 1<<40); err != nil { // a hole
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir: "not a regular file", pipe: "not a regular file", "/dev/zero": "not a regular file", big: "too large"} {
		_, _, err := source.NewFile(path, 0).Fetch(t.Context(), "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to contain %q", path, err, want)
		}
	}
}

func TestFileEndsWithItsContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "desired.yaml")
	replace(t, path, "nodes: 3")
	synctest.Test(t, func(t *testing.T) {
		s := source.NewFile(path, time.Second)
		got := <-fetch(t.Context(), s, "")
		ctx, cancel := context.WithCancel(t.Context())
		done := fetch(ctx, s, got.next)
		synctest.Wait()
		cancel()
		if got := <-done; !errors.Is(got.err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", got.err)
		}
	})
}
