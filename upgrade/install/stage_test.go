package install_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman"
	"ferryman/upgrade/install"
)

func open(t *testing.T, base string, o install.Options) *install.Store {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := install.Open(base, o)
	if err != nil {
		t.Fatal(err)
	}
	s.Hasten(time.Millisecond, time.Minute)
	return s
}

// base is a directory without links in its path, so that paths compare.
func base(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// local offers an archive as a file.
func local(t *testing.T, raw []byte) ferryman.Release {
	t.Helper()
	path := filepath.Join(t.TempDir(), "artefact")
	must(t, os.WriteFile(path, raw, 0o600))
	return release("file://"+path, raw)
}

func release(url string, raw []byte) ferryman.Release {
	return ferryman.Release{Archive: &ferryman.Archive{URL: url, SHA256: digest(raw), Size: int64(len(raw))}}
}

// leftovers lists all files in a store that are not of a whole release.
func leftovers(t *testing.T, base string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"downloads/*", "releases/*/*", "releases/*/.*"} {
		paths, err := filepath.Glob(filepath.Join(base, pattern))
		must(t, err)
		for _, p := range paths {
			if _, err := os.Stat(filepath.Join(p, ".complete")); err != nil && !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
	}
	return found
}

func stage(t *testing.T, s *install.Store, version string) install.Installed {
	t.Helper()
	raw := gz(t, tarOf(t, program("bin/server", "#!/bin/sh\necho "+version+"\n")))
	in, err := s.Stage(t.Context(), "valkey", version, local(t, raw))
	must(t, err)
	return in
}

func TestStage(t *testing.T) {
	t.Parallel()
	dir := base(t)
	s := open(t, dir, install.Options{})
	raw := zst(t, tarOf(t, program("bin/server", "x")))
	r := local(t, raw)
	sha := digest(raw)
	if s.Staged("valkey", "5:8.1.0~rc1+b2-1", sha) {
		t.Error("staged before it was")
	}
	in, err := s.Stage(t.Context(), "valkey", "5:8.1.0~rc1+b2-1", r)
	must(t, err)
	want := filepath.Join(dir, "releases", "valkey", "5:8.1.0~rc1+b2-1-"+sha[:12])
	if in.Path != want || in.Engine != "valkey" || in.Version != "5:8.1.0~rc1+b2-1" || in.SHA256 != sha || in.Size != int64(len(raw)) || in.Time.IsZero() {
		t.Errorf("staged: got %+v, want path %s", in, want)
	}
	if !s.Staged("valkey", in.Version, sha) || !s.Staged("valkey", in.Version, "sha256:"+strings.ToUpper(sha)) {
		t.Error("not staged after it was")
	}
	if s.Staged("valkey", in.Version, digest([]byte("other"))) || s.Staged("redis", in.Version, sha) || s.Staged("valkey", "8.1.1", sha) {
		t.Error("another engine, version or digest counts as staged")
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// Again, and after a restart, it needs no artefact any more.
	must(t, os.Remove(strings.TrimPrefix(r.Archive.URL, "file://")))
	for _, s := range []*install.Store{s, open(t, dir, install.Options{})} {
		again, err := s.Stage(t.Context(), "valkey", in.Version, r)
		must(t, err)
		if again != in {
			t.Errorf("staged again: got %+v, want %+v", again, in)
		}
	}
}

func TestStageRefusesInput(t *testing.T) {
	t.Parallel()
	dir := base(t)
	s := open(t, dir, install.Options{})
	good := local(t, gz(t, tarOf(t, file("f", "x"))))
	archive := func(change func(*ferryman.Archive)) ferryman.Release {
		a := *good.Archive
		change(&a)
		return ferryman.Release{Archive: &a}
	}
	for _, tt := range []struct {
		name, engine, version string
		release               ferryman.Release
		want                  string
	}{
		{"engine", "../valkey", "1", good, "engine name"},
		{"engine with a slash", "a/b", "1", good, "engine name"},
		{"version", "valkey", "../1", good, "version"},
		{"version with a slash", "valkey", "1/2", good, "version"},
		{"no version", "valkey", "", good, "version"},
		{"hidden version", "valkey", ".tmp-1", good, "version"},
		{"no release", "valkey", "1", ferryman.Release{}, "no release"},
		{"digest", "valkey", "1", archive(func(a *ferryman.Archive) { a.SHA256 = "abc" }), "64 hexadecimal"},
		{"size", "valkey", "1", archive(func(a *ferryman.Archive) { a.Size = 0 }), "size"},
		{"scheme", "valkey", "1", archive(func(a *ferryman.Archive) { a.URL = "ftp://host/x" }), "none of"},
		{"no host", "valkey", "1", archive(func(a *ferryman.Archive) { a.URL = "https:///x" }), "none of"},
		{"password", "valkey", "1", archive(func(a *ferryman.Archive) { a.URL = "https://me:secret@host/x" }), "password"},
		{"file elsewhere", "valkey", "1", archive(func(a *ferryman.Archive) { a.URL = "file://host/x" }), "host"},
		{"no file", "valkey", "1", archive(func(a *ferryman.Archive) { a.URL = "file:///no/such/file" }), "no such file"},
		{"directory", "valkey", "1", archive(func(a *ferryman.Archive) { a.URL = "file:///tmp" }), "plain file"},
		{"package", "valkey", "1", ferryman.Release{Package: &ferryman.Package{Name: "valkey", Version: "1"}}, "packages need systemd"},
		{"more than the disk holds", "valkey", "1", archive(func(a *ferryman.Archive) { a.Size = 1 << 60 }), "no space left"},
	} {
		if _, err := s.Stage(t.Context(), tt.engine, tt.version, tt.release); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	if _, err := s.Stage(t.Context(), "valkey", "1", ferryman.Release{Package: &ferryman.Package{}}); !errors.Is(err, install.ErrPackage) {
		t.Errorf("package: got %v, want ErrPackage", err)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestStageRefusesArtefact: what is not as the document says is refused before it is unpacked, and what is malicious while it is.
func TestStageRefusesArtefact(t *testing.T) {
	t.Parallel()
	good := gz(t, tarOf(t, file("f", strings.Repeat("content ", 500))))
	changed := bytes.Clone(good)
	changed[len(changed)/2] ^= 1
	evil := gz(t, tarOf(t, file("first", "x"), file("../evil", "x")))
	fixed := func(raw []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(raw))
		}
	}
	chunked := func(raw []byte) http.HandlerFunc { // says nothing about its size
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(raw[:10])
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(raw[10:])
		}
	}
	for _, tt := range []struct {
		name    string
		want    []byte
		handler http.HandlerFunc
		reason  string
	}{
		{"changed", good, fixed(changed), "sha256"},
		{"too big", good, fixed(append(bytes.Clone(good), 'x')), "offers"},
		{"too small", good, fixed(good[:len(good)-1]), "offers"},
		{"changed, of unknown size", good, chunked(changed), "sha256"},
		{"too small, of unknown size", good, chunked(good[:len(good)-1]), "ends before its size"},
		{"malicious", evil, fixed(evil), ".. in it"},
		{"no archive", []byte("hello there"), fixed([]byte("hello there")), "neither"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.handler)
			defer srv.Close()
			dir := base(t)
			s := open(t, dir, install.Options{})
			_, err := s.Stage(t.Context(), "valkey", "1", release(srv.URL+"/artefact", tt.want))
			if !errors.Is(err, install.ErrRefused) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %v, want it refused with %q", err, tt.reason)
			}
			if left := leftovers(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if s.Staged("valkey", "1", digest(tt.want)) {
				t.Error("it counts as staged")
			}
		})
	}
	t.Run("file of another size", func(t *testing.T) {
		t.Parallel()
		r := local(t, good)
		r.Archive.Size--
		if _, err := open(t, base(t), install.Options{}).Stage(t.Context(), "valkey", "1", r); !errors.Is(err, install.ErrRefused) {
			t.Errorf("got %v, want it refused", err)
		}
	})
}

// TestClean: what an agent left that was killed in the middle of staging is gone after the next one's start, and staging works again.
func TestClean(t *testing.T) {
	t.Parallel()
	dir := base(t)
	s := open(t, dir, install.Options{})
	whole := stage(t, s, "1.0")
	must(t, s.Switch(t.Context(), "valkey", "1.0", whole.SHA256))
	raw := gz(t, tarOf(t, program("bin/server", "two")))
	partial := filepath.Join(dir, "releases", "valkey", "2.0-"+digest(raw)[:12])
	for _, path := range []string{
		filepath.Join(dir, "releases", "valkey", ".tmp-123", "bin", "server"),
		filepath.Join(partial, "bin", "old"),
		filepath.Join(dir, "downloads", "abandoned.part"),
		filepath.Join(dir, "downloads", "fresh.part"),
	} {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte("half"), 0o644))
	}
	// A mark that belongs to another directory does not make this one whole.
	mark, err := os.ReadFile(filepath.Join(whole.Path, ".complete"))
	must(t, err)
	copied := filepath.Join(dir, "releases", "valkey", "3.0-0123456789ab")
	must(t, os.MkdirAll(copied, 0o755))
	must(t, os.WriteFile(filepath.Join(copied, ".complete"), mark, 0o644))
	must(t, os.Symlink("elsewhere", filepath.Join(dir, "releases", "valkey", ".tmp-current")))
	old := time.Now().Add(-48 * time.Hour)
	must(t, os.Chtimes(filepath.Join(dir, "downloads", "abandoned.part"), old, old))
	if s.Staged("valkey", "2.0", digest(raw)) {
		t.Error("a directory without a mark counts as staged")
	}

	s = open(t, dir, install.Options{})
	must(t, s.Clean(t.Context()))
	if _, err := os.Stat(copied); err == nil {
		t.Error("a directory with another's mark is left after clean")
	}
	if got, want := leftovers(t, dir), []string{filepath.Join(dir, "downloads", "fresh.part")}; !slices.Equal(got, want) {
		t.Errorf("left after clean: got %v, want %v", got, want)
	}
	if cur, err := s.Current("valkey"); err != nil || cur != whole {
		t.Errorf("current after clean: got %+v, %v; want %+v", cur, err, whole)
	}
	// Also without cleaning, half a release is no obstacle.
	must(t, os.MkdirAll(filepath.Join(partial, "bin"), 0o755))
	in, err := s.Stage(t.Context(), "valkey", "2.0", local(t, raw))
	must(t, err)
	if got, err := os.ReadFile(filepath.Join(in.Path, "bin", "server")); string(got) != "two" {
		t.Errorf("staged over half of it: got %q, %v", got, err)
	}
	must(t, open(t, base(t), install.Options{}).Clean(t.Context())) // with nothing there
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	s := open(t, base(t), install.Options{})
	if _, err := s.Current("valkey"); !errors.Is(err, install.ErrNone) {
		t.Errorf("current before any switch: got %v, want ErrNone", err)
	}
	one, two := stage(t, s, "1.0"), stage(t, s, "2.0")
	if err := s.Switch(t.Context(), "valkey", "3.0", one.SHA256); !errors.Is(err, install.ErrNotStaged) {
		t.Errorf("switch to what is not there: got %v, want ErrNotStaged", err)
	}
	expect := func(current, previous install.Installed) {
		t.Helper()
		if got, err := s.Current("valkey"); err != nil || got != current {
			t.Errorf("current: got %+v, %v; want %s", got, err, current.Version)
		}
		got, err := s.Previous("valkey")
		if previous == (install.Installed{}) {
			if !errors.Is(err, install.ErrNone) {
				t.Errorf("previous: got %+v, %v; want ErrNone", got, err)
			}
		} else if err != nil || got != previous {
			t.Errorf("previous: got %+v, %v; want %s", got, err, previous.Version)
		}
	}
	must(t, s.Switch(t.Context(), "valkey", "1.0", one.SHA256))
	expect(one, install.Installed{})
	must(t, s.Switch(t.Context(), "valkey", "2.0", "sha256:"+two.SHA256))
	expect(two, one)
	must(t, s.Switch(t.Context(), "valkey", "2.0", two.SHA256)) // again: the way back must not be lost
	expect(two, one)
	must(t, s.Switch(t.Context(), "valkey", "1.0", one.SHA256))
	expect(one, two)
	if all, err := s.List("valkey"); err != nil || len(all) != 2 {
		t.Errorf("list: got %v, %v; want two", all, err)
	}

	must(t, os.RemoveAll(one.Path)) // by hand
	if _, err := s.Current("valkey"); !errors.Is(err, install.ErrNotStaged) {
		t.Errorf("current that was deleted: got %v, want ErrNotStaged", err)
	}
	must(t, s.Switch(t.Context(), "valkey", "2.0", two.SHA256))
}

// TestSwitchIsAtomic: readers see one release or the other at every moment.
func TestSwitchIsAtomic(t *testing.T) {
	t.Parallel()
	dir := base(t)
	s := open(t, dir, install.Options{})
	releases := []install.Installed{stage(t, s, "1.0"), stage(t, s, "2.0")}
	must(t, s.Switch(t.Context(), "valkey", "1.0", releases[0].SHA256))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	seen := make([]map[string]bool, 4)
	for i := range seen {
		seen[i] = map[string]bool{}
		other := open(t, dir, install.Options{}) // as another process has it
		readers.Go(func() {
			for {
				if cur, err := other.Current("valkey"); err != nil {
					t.Errorf("current during switches: %v", err)
					return
				} else {
					seen[i][cur.Version] = true
				}
				if _, err := os.ReadFile(filepath.Join(dir, "releases", "valkey", "current", "bin", "server")); err != nil {
					t.Errorf("program during switches: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 100 {
		r := releases[(i+1)%2]
		must(t, s.Switch(t.Context(), "valkey", r.Version, r.SHA256))
	}
	close(stop)
	readers.Wait()
}

func versions(t *testing.T, s *install.Store) []string {
	t.Helper()
	all, err := s.List("valkey")
	must(t, err)
	var names []string
	for _, in := range all {
		names = append(names, in.Version)
	}
	slices.Sort(names)
	return names
}

func TestPrune(t *testing.T) {
	t.Parallel()
	dir := base(t)
	s := open(t, dir, install.Options{})
	var all []install.Installed
	for i := range 7 {
		all = append(all, stage(t, s, fmt.Sprint(i)))
	}
	// 0 runs, 1 is named by the caller, 2 runs as a script, 4 was current before 3.
	must(t, s.Switch(t.Context(), "valkey", "4", all[4].SHA256))
	must(t, s.Switch(t.Context(), "valkey", "3", all[3].SHA256))
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	raw, err := os.ReadFile(sleep)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(all[0].Path, "bin", "sleep"), raw, 0o755))
	must(t, os.WriteFile(filepath.Join(all[2].Path, "bin", "script"), []byte("echo; cat"), 0o644))
	binary := exec.Command(filepath.Join(dir, "releases", "valkey", "0-"+all[0].SHA256[:12], "bin", "sleep"), "1000")
	binary.Args[0] = "sleep" // so that only /proc/<pid>/exe tells where it is from
	must(t, startRetry(binary))
	defer func() { _ = binary.Process.Kill(); _ = binary.Wait() }()
	script := exec.Command("/bin/sh", filepath.Join(all[2].Path, "bin", "script"))
	in, err := script.StdinPipe()
	must(t, err)
	out, err := script.StdoutPipe()
	must(t, err)
	must(t, script.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil { // it runs
		t.Fatal(err)
	}

	gone, err := s.Prune(t.Context(), "valkey", 1, filepath.Join(dir, "releases", "valkey", filepath.Base(all[1].Path), "bin", "server"))
	must(t, err)
	if want := []string{"5", "6"}; !slices.Equal(gone, want) {
		t.Errorf("pruned: got %v, want %v", gone, want)
	}
	if got, want := versions(t, s), []string{"0", "1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("left: got %v, want %v", got, want)
	}

	must(t, in.Close())
	must(t, script.Wait())
	must(t, binary.Process.Kill())
	_ = binary.Wait()
	for _, tt := range []struct {
		keep int
		want []string
	}{
		{5, []string{"0", "1", "2", "3", "4"}},
		{4, []string{"1", "2", "3", "4"}}, // the oldest goes first
		{0, []string{"3", "4"}},
	} {
		if _, err := s.Prune(t.Context(), "valkey", tt.keep); err != nil {
			t.Fatal(err)
		}
		if got := versions(t, s); !slices.Equal(got, tt.want) {
			t.Errorf("left after keeping %d: got %v, want %v", tt.keep, got, tt.want)
		}
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if gone, err := s.Prune(t.Context(), "unknown", 1); len(gone) > 0 || err != nil {
		t.Errorf("prune of an engine that is not there: got %v, %v", gone, err)
	}
}

// startRetry starts a program that was just written: while another test forks, its descriptor for writing may still be open there ("text file busy").
func startRetry(cmd *exec.Cmd) error {
	for {
		err := cmd.Start()
		if err == nil || !strings.Contains(err.Error(), "text file busy") {
			return err
		}
		*cmd = exec.Cmd{Path: cmd.Path, Args: cmd.Args}
	}
}

func TestStageEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan bool, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
	}))
	defer srv.Close()
	s := open(t, base(t), install.Options{})
	staged := make(chan error)
	go func() {
		_, err := s.Stage(ctx, "valkey", "1", release(srv.URL, []byte("anything")))
		staged <- err
	}()
	<-asked
	waiting, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Switch(waiting, "valkey", "1", digest([]byte("anything"))); !errors.Is(err, context.Canceled) {
		t.Errorf("switch while staging, with an ended context: got %v", err)
	}
	cancel()
	if err := <-staged; !errors.Is(err, context.Canceled) {
		t.Errorf("stage with an ended context: got %v", err)
	}
}
