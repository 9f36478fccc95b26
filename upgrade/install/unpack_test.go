package install_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ferryman/upgrade/install"
)

// file, link and the like are short for entries of an archive.
func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}

func program(name, content string) entry {
	e := file(name, content)
	e.Mode = 0o755
	return e
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func link(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func hard(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func special(kind byte, name string) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o644}, ""}
}

func mode(e entry, m int64) entry {
	e.Mode = m
	return e
}

type entry struct {
	tar.Header
	content string
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(plain)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t testing.TB, plain []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(plain, nil)
}

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // tree shows modes
	os.Exit(m.Run())
}

// tree lists what is in a directory: name, mode, and content or target.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		what := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			what, err = os.Readlink(path)
		case info.Mode().IsRegular():
			var raw []byte
			raw, err = os.ReadFile(path)
			what = string(raw)
		}
		fmt.Fprintf(&b, "%s %s %s\n", rel, info.Mode(), what)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	plain := tarOf(t,
		entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "a commit"}}, ""},
		dir("./"),
		mode(program("./bin/server", "run"), 0o777),
		dir("bin"), // after it was implied
		file("share/doc/README", "read me"),
		mode(file("secret", "mine"), 0o600),
		link("bin/current", "server"),
		link("lib", "share/../bin"),
		link("dangling", "not/there"),
		hard("bin/same", "bin/server"),
		mode(dir("empty"), 0o700),
		file("..name", "dots"),
		file("sub/.complete", "not at the top"),
	)
	want := `. drwxr-xr-x ` + `
..name -rw-r--r-- dots
bin drwxr-xr-x ` + `
bin/current Lrwxrwxrwx server
bin/same -rwxr-xr-x run
bin/server -rwxr-xr-x run
dangling Lrwxrwxrwx not/there
empty drwxr-xr-x ` + `
lib Lrwxrwxrwx share/../bin
secret -rw-r--r-- mine
share drwxr-xr-x ` + `
share/doc drwxr-xr-x ` + `
share/doc/README -rw-r--r-- read me
sub drwxr-xr-x ` + `
sub/.complete -rw-r--r-- not at the top
`
	for name, raw := range map[string][]byte{"gzip": gz(t, plain), "zstd": zst(t, plain)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := install.Unpack(t.Context(), bytes.NewReader(raw), dir, install.Limits{}); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, dir); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// malicious are archives of which each must be refused, with the reason.
func malicious(t testing.TB) []struct {
	name    string
	entries []entry
	reason  string
} {
	many := make([]entry, 12)
	for i := range many {
		many[i] = file(fmt.Sprint("f", i), "")
	}
	return []struct {
		name    string
		entries []entry
		reason  string
	}{
		{"nothing", nil, "holds nothing"},
		{"only the top", []entry{dir("./")}, "holds nothing"},
		{"absolute path", []entry{file("/etc/evil", "x")}, "absolute"},
		{"parent", []entry{file("../evil", "x")}, ".. in it"},
		{"parent inside", []entry{file("a/../b", "x")}, ".. in it"},
		{"parent at the end", []entry{dir("a/..")}, ".. in it"},
		{"parent directory", []entry{dir("../evil")}, ".. in it"},
		{"empty name", []entry{file("", "x")}, "empty or absolute"},
		{"file in place of the top", []entry{link(".", "a")}, "reserved"},
		{"completeness mark", []entry{file(".complete", "{}")}, "reserved"},
		{"completeness mark by another spelling", []entry{file(".//.complete", "{}")}, "reserved"},
		{"below the completeness mark", []entry{file(".complete/x", "{}")}, "reserved"},
		{"control character", []entry{file("a\nb", "x")}, "plain text"},
		{"not text", []entry{file("a\xff", "x")}, "plain text"},
		{"long path", []entry{file(strings.Repeat("abcdefghi/", 103)+"f", "x")}, "more than 1024"},
		{"long name", []entry{file(strings.Repeat("a", 256), "x")}, "more than 255"},
		{"symlink to an absolute path", []entry{link("l", "/etc/passwd")}, "leads out"},
		{"symlink to the parent", []entry{link("l", "..")}, "leads out"},
		{"symlink out of a directory", []entry{link("a/b/l", "../../../x")}, "leads out"},
		{"symlink without a target", []entry{link("l", "")}, "not a plain path"},
		{"symlinks that lead out together", []entry{link("d/up", ".."), link("out", "d/up/..")}, "escapes"},
		{"symlinks in a circle", []entry{link("a", "b"), link("b", "a")}, "link"},
		{"through a symlink", []entry{dir("d"), link("l", "d"), file("l/x", "x")}, "not a directory"},
		{"through a symlink that leads out", []entry{link("l", "../.."), file("l/x", "x")}, "leads out"},
		{"directory in place of a symlink", []entry{dir("d"), link("l", "d"), dir("l")}, "second entry"},
		{"through a file", []entry{file("f", "x"), file("f/x", "x")}, "not a directory"},
		{"file in place of a directory", []entry{file("d/x", "x"), file("d", "x")}, "something else"},
		{"hard link out", []entry{hard("l", "../../etc/passwd")}, ".. in it"},
		{"hard link to an absolute path", []entry{hard("l", "/etc/passwd")}, "absolute"},
		{"hard link to a symlink", []entry{link("s", "x"), hard("l", "s")}, "no file of that name"},
		{"hard link through a symlink", []entry{file("d/x", "x"), link("s", "d"), hard("l", "s/x")}, "no file of that name"},
		{"hard link to a directory", []entry{dir("d"), hard("l", "d")}, "no file of that name"},
		{"hard link to itself", []entry{hard("l", "l")}, "no file of that name"},
		{"hard link to what comes later", []entry{hard("l", "f"), file("f", "x")}, "no file of that name"},
		{"character device", []entry{special(tar.TypeChar, "null")}, "only files"},
		{"block device", []entry{special(tar.TypeBlock, "sda")}, "only files"},
		{"fifo", []entry{special(tar.TypeFifo, "pipe")}, "only files"},
		{"contiguous file", []entry{special(tar.TypeCont, "cont")}, "only files"},
		{"setuid", []entry{mode(program("su", "x"), 0o4755)}, "setuid"},
		{"setgid", []entry{mode(program("wall", "x"), 0o2755)}, "setuid"},
		{"setgid directory", []entry{mode(dir("d"), 0o2755)}, "setuid"},
		{"sticky directory", []entry{mode(dir("tmp"), 0o1777)}, "setuid"},
		{"two of one name", []entry{file("f", "x"), file("f", "y")}, "second entry"},
		{"two of one name in other spelling", []entry{file("d/f", "x"), file("./d//f", "y")}, "second entry"},
		{"two directories of one name", []entry{dir("d"), dir("d/")}, "second entry"},
		{"too many entries", many, "more than 10 entries"},
		{"too many implied directories", []entry{file("1/2/3/4/5/6/7/8/9/10/11/f", "x")}, "more than 10 entries"},
		{"too many bytes", []entry{file("a", strings.Repeat("a", 60)), file("b", strings.Repeat("b", 60))}, "more than 100 bytes"},
	}
}

var tight = install.Limits{Bytes: 100, Entries: 10}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range malicious(t) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			around := t.TempDir()
			inner := filepath.Join(around, "a", "b")
			if err := os.MkdirAll(inner, 0o755); err != nil {
				t.Fatal(err)
			}
			err := install.Unpack(t.Context(), bytes.NewReader(gz(t, tarOf(t, tt.entries...))), inner, tight)
			if !errors.Is(err, install.ErrRefused) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %v, want it refused with %q", err, tt.reason)
			}
			if err := os.RemoveAll(inner); err != nil {
				t.Fatal(err)
			}
			if got, want := tree(t, around), ". drwxr-xr-x \na drwxr-xr-x \n"; got != want {
				t.Errorf("outside of the directory: got\n%s", got)
			}
		})
	}
}

func TestUnpackNotAnArchive(t *testing.T) {
	t.Parallel()
	good := tarOf(t, file("f", strings.Repeat("content", 1000)))
	packed := gz(t, good)
	flipped := bytes.Clone(packed)
	flipped[len(flipped)/2] ^= 0xff
	for name, raw := range map[string][]byte{
		"empty":             nil,
		"three bytes":       {0x1f, 0x8b, 8},
		"text":              []byte("<html>not found</html>"),
		"plain tar":         good,
		"gzip of text":      gz(t, []byte(strings.Repeat("no tar", 200))),
		"zstd of text":      zst(t, []byte(strings.Repeat("no tar", 200))),
		"gzip cut off":      packed[:len(packed)/2],
		"gzip changed":      flipped,
		"gzip of half":      gz(t, good[:2000]),
		"zstd of half":      zst(t, good[:2000]),
		"zstd, vast window": {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 1, 0, 0},
	} {
		if err := install.Unpack(t.Context(), bytes.NewReader(raw), t.TempDir(), install.Limits{}); !errors.Is(err, install.ErrRefused) {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
}

// TestUnpackEndless: a stream that only says more headers come must end, however small it is packed.
func TestUnpackEndless(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for range 1000 {
		h := tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 4000)}}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := install.Unpack(t.Context(), &b, t.TempDir(), tight); !errors.Is(err, install.ErrRefused) {
		t.Errorf("plain: got %v, want it refused", err)
	}
	err := install.Unpack(t.Context(), bytes.NewReader(gz(t, tarOf(t, func() (all []entry) {
		for range 1000 {
			all = append(all, entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 4000)}}, ""})
		}
		return append(all, file("f", "x"))
	}()...))), t.TempDir(), tight)
	if !errors.Is(err, install.ErrRefused) {
		t.Errorf("a thousand headers: got %v, want it refused", err)
	}
}

func TestUnpackEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := install.Unpack(ctx, bytes.NewReader(gz(t, tarOf(t, file("f", "x")))), t.TempDir(), install.Limits{})
	if !errors.Is(err, context.Canceled) || errors.Is(err, install.ErrRefused) {
		t.Errorf("got %v, want that the context ended", err)
	}
}

// TestUnpackNoRoom: a full disk is not the artefact's fault.
func TestUnpackNoRoom(t *testing.T) {
	t.Parallel()
	err := install.UnpackInto(t.Context(), bytes.NewReader(gz(t, tarOf(t, file("f", "12345")))), t.TempDir(), 4)
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, install.ErrRefused) {
		t.Errorf("got %v, want that the disk is full", err)
	}
}

// memoryDir is a directory where a sync costs nothing, if the system has one: a fuzzer needs thousands.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "unpack")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// FuzzUnpack: whatever the archive, nothing outside of the directory changes, and what is inside is plain and within its limits.
// The input is the tar stream: compression would only hide it from the fuzzer. Run it with -fuzzminimizetime 10x, or it spends its time on making inputs smaller.
func FuzzUnpack(f *testing.F) {
	for _, tt := range malicious(f) {
		f.Add(tarOf(f, tt.entries...))
	}
	f.Add(tarOf(f, dir("d"), program("d/p", "x"), link("l", "d/p"), hard("h", "d/p")))
	f.Add([]byte("no tar at all"))
	limits := install.Limits{Bytes: 1 << 16, Entries: 50}
	f.Fuzz(func(t *testing.T, raw []byte) {
		around := memoryDir(t)
		inner := filepath.Join(around, "x", "y", "inner")
		if err := os.MkdirAll(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		canary := filepath.Join(around, "x", "canary")
		if err := os.WriteFile(canary, []byte("sings"), 0o600); err != nil {
			t.Fatal(err)
		}
		unpackErr := install.Untar(t.Context(), bytes.NewReader(raw), inner, limits)

		var size int64
		count := 0
		err := filepath.WalkDir(inner, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			count++
			switch m := info.Mode(); {
			case m.IsRegular():
				size += info.Size()
			case m&fs.ModeSymlink != 0:
				if real, err := filepath.EvalSymlinks(path); unpackErr == nil && err == nil && real != inner && !strings.HasPrefix(real, inner+"/") {
					t.Errorf("link %s leads out to %s", path, real)
				}
			case !m.IsDir():
				t.Errorf("%s: mode %s", path, m)
			}
			if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
				t.Errorf("%s: mode %s", path, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// A hard link is counted by the walk, but takes no room.
		if count > limits.Entries+1 || size > limits.Bytes*int64(limits.Entries) {
			t.Errorf("%d entries with %d bytes", count, size)
		}
		if _, err := os.Lstat(filepath.Join(inner, ".complete")); err == nil {
			t.Error("the archive brought its own completeness mark")
		}
		if err := os.RemoveAll(inner); err != nil {
			t.Fatal(err)
		}
		want := ". drwxr-xr-x \nx drwxr-xr-x \nx/canary -rw------- sings\nx/y drwxr-xr-x \n"
		if got := tree(t, around); got != want {
			t.Errorf("outside of the directory: got\n%s", got)
		}
	})
}
