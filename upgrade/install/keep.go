package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ferryman"
)

// Keep is the directory in which root keeps packages, so that they can be installed whatever has become of their source. Everybody may read it. In
// the path of a file apt takes = and : for more than they are, so that a version's colons are written %3a.
//
//	<keep>/<name>@<version>/kept.json    what is kept for that package, written last
//	<keep>/<name>@<version>/*.deb, *.rpm its file, and those of what goes with it
type Keep string

// Kept is what it takes to install one version of a package.
type Kept struct {
	Package ferryman.Package `json:"package"`
	Files   []KeptFile       `json:"files"`
	Time    time.Time        `json:"time"`
}

// KeptFile is one package's file.
type KeptFile struct {
	ferryman.Package
	// Extra tells that it is only there for a host that has no version of it: what the package depends on.
	Extra  bool   `json:"extra,omitempty"`
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

const keptName = "kept.json"

func (k Keep) dir(p ferryman.Package) string {
	return filepath.Join(string(k), p.Name+"@"+escaped(p.Version))
}

// escaped is a version as it stands in the names of files.
func escaped(version string) string { return strings.ReplaceAll(version, ":", "%3a") }

// Read returns what is kept for a package, once all of its files are there. ErrNotStaged when they are not.
func (k Keep) Read(p ferryman.Package) (Kept, error) {
	fail := func(err error) (Kept, error) {
		return Kept{}, fmt.Errorf("what is kept of package %s %s: %w: %w", p.Name, p.Version, ErrNotStaged, err)
	}
	if err := p.Check(); err != nil {
		return fail(err)
	}
	raw, err := os.ReadFile(filepath.Join(k.dir(p), keptName))
	if err != nil {
		return fail(err)
	}
	var kept Kept
	if err := json.Unmarshal(raw, &kept); err != nil {
		return fail(err)
	}
	if kept.Package != p || len(kept.Files) == 0 {
		return fail(fmt.Errorf("it is of %s %s", kept.Package.Name, kept.Package.Version))
	}
	for _, f := range kept.Files {
		if info, err := os.Lstat(filepath.Join(k.dir(p), f.File)); err != nil {
			return fail(err)
		} else if !info.Mode().IsRegular() || info.Size() != f.Size {
			return fail(fmt.Errorf("%s is another file now", f.File))
		}
	}
	return kept, nil
}

// verify returns the paths of files that are kept for p, after it has read all of them.
func (k Keep) verify(p ferryman.Package, files []KeptFile) ([]string, error) {
	var paths []string
	for _, f := range files {
		path := filepath.Join(k.dir(p), f.File)
		sum, _, err := hashFile(path)
		if err == nil && sum != f.SHA256 {
			err = fmt.Errorf("its SHA-256 is %s, and was %s when it was kept", sum, f.SHA256)
		}
		if err != nil {
			return nil, fmt.Errorf("kept package %s: %w: remove %s and stage it again", path, err, k.dir(p))
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// put keeps the files that fill brings into a directory.
func (k Keep) put(p ferryman.Package, fill func(dir string) ([]KeptFile, error)) error {
	return makeDir(k.dir(p), func(dir string) (err error) {
		kept := Kept{Package: p, Time: time.Now().UTC()}
		if kept.Files, err = fill(dir); err != nil {
			return err
		}
		for i := range kept.Files {
			f := &kept.Files[i]
			path := filepath.Join(dir, f.File)
			if f.SHA256, f.Size, err = hashFile(path); err == nil {
				err = errors.Join(os.Chmod(path, 0o644), syncDir(path)) // a file is synced as a directory is
			}
			if err != nil {
				return err
			}
		}
		raw, err := json.Marshal(kept)
		if err != nil {
			return err
		}
		return WriteFile(filepath.Join(dir, keptName), append(raw, '\n'), 0o644)
	})
}

// prune deletes what is kept of a package's other versions until count are left, oldest first, and what was cut off in the middle.
func (k Keep) prune(name string, count int, but ...string) error {
	entries, err := os.ReadDir(string(k))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var all []Kept
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.RemoveAll(filepath.Join(string(k), e.Name())); err != nil {
				return err
			}
		}
		if n, version, ok := strings.Cut(e.Name(), "@"); ok && n == name {
			if kept, err := k.Read(ferryman.Package{Name: n, Version: strings.ReplaceAll(version, "%3a", ":")}); err == nil {
				all = append(all, kept)
			}
		}
	}
	slices.SortFunc(all, func(a, b Kept) int { return a.Time.Compare(b.Time) })
	left := len(all)
	for _, kept := range all {
		if left > count && !slices.Contains(but, kept.Package.Version) {
			if err := os.RemoveAll(k.dir(kept.Package)); err != nil {
				return err
			}
			left--
		}
	}
	return nil
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}
