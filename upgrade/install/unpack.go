package install

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// Limits bound what an artefact may unpack to: a digest says whose it is, not that it is reasonable.
type Limits struct {
	Bytes   int64 // of all files together; 8 GiB when 0
	Entries int   // files, links and directories, also those that are only implied; 200,000 when 0
}

// maxPath is the longest path in an archive, in bytes.
const maxPath = 1024

// maxWindow is the memory that a zstd stream may ask for: what the zstd program accepts without being told otherwise.
const maxWindow = 128 << 20

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 8 << 30
	}
	if l.Entries <= 0 {
		l.Entries = 200_000
	}
	return l
}

// refuse is an error for which the artefact is to blame.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// unpack writes the contents of a tar.gz or tar.zst into dir, which is empty, and makes them durable.
// It is refused as a whole for one entry that is not a plain file, directory, or link that stays inside. At most room bytes are written (ENOSPC).
func unpack(ctx context.Context, r io.Reader, dir string, l Limits, room int64) error {
	b := bufio.NewReader(r)
	head, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return err
	}
	var plain io.Reader
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return refuse("gzip: %w", err)
		}
		plain = z
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return refuse("zstd: %w", err)
		}
		defer z.Close()
		plain = z
	default:
		return refuse("neither a tar.gz nor a tar.zst")
	}
	return untar(ctx, plain, dir, l, room)
}

// untar is unpack without the compression.
func untar(ctx context.Context, r io.Reader, dir string, l Limits, room int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, limits: l, room: room, made: map[string]kind{".": kindDir}, named: map[string]bool{}}
	// Headers and padding count too, so that a stream of them ends.
	t := tar.NewReader(&contextReader{ctx: ctx, r: io.LimitReader(r, l.Bytes+int64(l.Entries)*4096)})
	for {
		h, err := t.Next()
		if err == io.EOF {
			return u.finish()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return refuse("tar: %w", err)
		}
		if err := u.entry(h, t); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("entry %.200q: %w", h.Name, err)
		}
	}
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

type kind byte

const (
	kindDir kind = iota + 1
	kindFile
	kindLink
)

// unpacker keeps account of what it made, so that every entry is judged by that and not by what a path happens to lead to.
// That all goes through os.Root, which no path leaves, is the second line.
type unpacker struct {
	root   *os.Root
	limits Limits
	room   int64
	made   map[string]kind // by clean path
	named  map[string]bool // those that had an entry of their own
	bytes  int64
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader: // a comment; git archive writes one
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	default:
		return refuse("type %q: only files, directories and links are unpacked", h.Typeflag)
	}
	if h.Mode&0o7000 != 0 {
		return refuse("mode %#o: setuid, setgid and sticky bits are not unpacked", h.Mode)
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	if name == "." || strings.SplitN(name, "/", 2)[0] == markName {
		return refuse("the name is reserved")
	}
	if u.named[name] {
		return refuse("a second entry of that name")
	}
	u.named[name] = true
	if err := u.dir(path.Dir(name)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.dir(name)
	}
	k := kindFile
	if h.Typeflag == tar.TypeSymlink {
		k = kindLink
	}
	if err := u.add(name, k); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		return u.symlink(name, h.Linkname)
	case tar.TypeLink:
		return u.hardlink(name, h.Linkname)
	}
	return u.file(name, h, body)
}

// cleanName refuses every name that is not plainly below the top.
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", refuse("the name has more than %d bytes", maxPath)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", refuse("the name is not plain text")
	}
	if name == "" || path.IsAbs(name) {
		return "", refuse("the name is empty or absolute")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", refuse("the name has a .. in it")
		}
		if len(part) > 255 {
			return "", refuse("a part of the name has more than 255 bytes")
		}
	}
	return path.Clean(name), nil
}

// add accounts for one more thing of that name.
func (u *unpacker) add(name string, k kind) error {
	if u.made[name] != 0 {
		return refuse("there is something else of that name")
	}
	if len(u.made) > u.limits.Entries {
		return refuse("more than %d entries", u.limits.Entries)
	}
	u.made[name] = k
	return nil
}

// dir makes a directory and those above it. None of them may be a link, wherever that leads.
func (u *unpacker) dir(name string) error {
	switch u.made[name] {
	case kindDir:
		return nil
	case kindFile, kindLink:
		return refuse("%q is a file or a link, not a directory", name)
	}
	if err := u.dir(path.Dir(name)); err != nil {
		return err
	}
	if err := u.add(name, kindDir); err != nil {
		return err
	}
	if err := u.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return u.root.Chmod(name, 0o755) // whatever the umask
}

func (u *unpacker) file(name string, h *tar.Header, body io.Reader) error {
	if h.Size > u.limits.Bytes-u.bytes {
		return refuse("the contents have more than %d bytes", u.limits.Bytes)
	}
	u.bytes += h.Size
	if u.bytes > u.room {
		return fmt.Errorf("unpack: more than the %d bytes that are free: %w", u.room, syscall.ENOSPC)
	}
	mode := fs.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, &blaming{body}); err != nil {
		return err
	}
	// A sync for each file, not one for the file system: that would also write out whatever the database beside us has in memory.
	return errors.Join(f.Chmod(mode), f.Sync(), f.Close())
}

// blaming turns errors of reading, which are the archive's, into refusals, and leaves those of writing, which are ours.
type blaming struct{ io.Reader }

func (b *blaming) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = refuse("tar: %w", err)
	}
	return n, err
}

func (u *unpacker) symlink(name, target string) error {
	if target == "" || len(target) > maxPath || !utf8.ValidString(target) || strings.ContainsFunc(target, unicode.IsControl) {
		return refuse("link to %.200q: not a plain path", target)
	}
	if path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return refuse("link to %.200q: it leads out of the release", target)
	}
	return u.root.Symlink(target, name)
}

func (u *unpacker) hardlink(name, target string) error {
	target, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	if target == name || u.made[target] != kindFile {
		return refuse("hard link to %q: no file of that name came before", target)
	}
	return u.root.Link(target, name)
}

// finish checks what can be known only when all is there, and makes the directories durable.
func (u *unpacker) finish() error {
	if len(u.made) == 1 {
		return refuse("it holds nothing")
	}
	for name, k := range u.made {
		switch k {
		case kindLink:
			// Links that are harmless alone can lead out together. os.Root follows them and stops at the border. One that leads nowhere is harmless.
			if _, err := u.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return refuse("link %q: %w", name, err)
			}
		case kindDir:
			d, err := u.root.Open(name)
			if err != nil {
				return err
			}
			if err := errors.Join(d.Sync(), d.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}
