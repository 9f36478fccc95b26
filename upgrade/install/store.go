// Package install puts releases on this node: it fetches an artefact, verifies it, unpacks it beside the others, and switches between them and back.
// Nothing is unpacked before its size and digest are those of the document, and nothing is used that was not unpacked completely.
//
//	<base>/downloads/<sha256>.part           what was fetched of an artefact so far
//	<base>/releases/<engine>/<version>-<first 12 of sha256>/   an unpacked release; .complete in it says that it is whole
//	<base>/releases/<engine>/current         a link to the one in use
//	<base>/releases/<engine>/previous        a link to the one before it
//
// A release that is a package of the host has such a directory too, with a link to where the host's programs are (package.go). What root does for it, and
// what is kept of it, is in apt.go and keep.go.
package install

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"ferryman"
)

var (
	// ErrRefused means that the artefact itself is bad: another size or digest than the document says, or contents that must not be unpacked.
	// Trying again does not help; another release does.
	ErrRefused = errors.New("artefact refused")
	// ErrNotStaged means that the release is not on this node, or not whole.
	ErrNotStaged = errors.New("release is not staged on this node")
	// ErrNone means that the engine has no current, or no previous, release here. It is so until the first switch.
	ErrNone = errors.New("no release")
)

// Options is what a Store needs from outside; the zero value works.
type Options struct {
	Client *http.Client      // its redirect policy is replaced; a client with sound time-outs when nil
	Tokens map[string]string // bearer tokens by origin ("https://host:port"); sent there and nowhere else
	Log    *slog.Logger
	Limits Limits
	// Check looks at an unpacked release before it counts as staged; nil takes any. What it says against one is final.
	Check func(ctx context.Context, engine, version, dir string) error
	// Packages installs releases that are packages of the host; nil where nothing does.
	Packages Packages
}

// Store is the releases on this node.
type Store struct {
	base   string // absolute and without links, as /proc shows running programs
	client *http.Client
	tokens map[string]string
	log    *slog.Logger
	limits Limits
	check  func(ctx context.Context, engine, version, dir string) error

	packages Packages

	busy       chan struct{} // holds a value while files are being changed
	backOff    time.Duration // before the second try of a download; doubles
	stallAfter time.Duration // a connection that brings nothing for so long is given up
}

// Open makes base if need be. It changes nothing that is there: that is for Clean.
func Open(base string, o Options) (*Store, error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, fmt.Errorf("open release store: %w", err)
	}
	base, err := filepath.Abs(base)
	if err == nil {
		base, err = filepath.EvalSymlinks(base)
	}
	if err != nil {
		return nil, fmt.Errorf("open release store: %w", err)
	}
	if o.Check == nil {
		o.Check = func(context.Context, string, string, string) error { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{
		base: base, client: newClient(o.Client, o.Tokens), tokens: o.Tokens, log: o.Log, limits: o.Limits.orDefault(), check: o.Check, packages: o.Packages,
		busy: make(chan struct{}, 1), backOff: 200 * time.Millisecond, stallAfter: 30 * time.Second,
	}, nil
}

// Base is the directory that the store is in.
func (s *Store) Base() string { return s.base }

// enter waits until nobody else changes files; the caller calls leave in the end.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.busy <- struct{}{}:
		return func() { <-s.busy }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Installed is a release that is whole on this node.
type Installed struct {
	Engine  string    `json:"engine"`
	Version string    `json:"version"`
	SHA256  string    `json:"sha256"` // see Digest
	Size    int64     `json:"size"`   // of the artefact
	Time    time.Time `json:"time"`   // when it was staged
	// Package is what the host's package manager has to have installed for it; nil for an archive, which is all in Path.
	Package *ferryman.Package `json:"package,omitempty"`
	Path    string            `json:"-"` // the release's own directory, not a link: it stays this release's after a switch
}

// markName is the completeness mark at the top of a release; written last.
const markName = ".complete"

// tempPrefix begins the name of whatever is not finished; Clean removes it.
const tempPrefix = ".tmp-"

var (
	engineName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	versionName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,127}$`)
)

// identify checks the names that become paths. The digest may begin with "sha256:".
func identify(engine, version, digest string) (sha string, err error) {
	if !engineName.MatchString(engine) {
		return "", fmt.Errorf("engine name %q: use lower-case letters, digits, _ and -", engine)
	}
	if !versionName.MatchString(version) {
		return "", fmt.Errorf("version %q: use letters, digits and .+~:_- and begin with a letter or digit", version)
	}
	sha = strings.ToLower(strings.TrimPrefix(digest, "sha256:"))
	if raw, err := hex.DecodeString(sha); err != nil || len(raw) != 32 {
		return "", fmt.Errorf("digest %q: not 64 hexadecimal digits", digest)
	}
	return sha, nil
}

func (s *Store) engineDir(engine string) string { return filepath.Join(s.base, "releases", engine) }

func releaseName(version, sha string) string { return version + "-" + sha[:12] }

// installed reads the mark of one directory. ErrNotStaged when there is no sound one.
func (s *Store) installed(engine, name string) (Installed, error) {
	dir := filepath.Join(s.engineDir(engine), name)
	raw, err := os.ReadFile(filepath.Join(dir, markName))
	if errors.Is(err, fs.ErrNotExist) {
		return Installed{}, fmt.Errorf("%s: %w", dir, ErrNotStaged)
	}
	if err != nil {
		return Installed{}, err
	}
	in := Installed{}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Installed{}, fmt.Errorf("%s: %w: %w", dir, ErrNotStaged, err)
	}
	// The mark must be of this very directory: one that was copied or renamed by hand proves nothing.
	if sha, err := identify(in.Engine, in.Version, in.SHA256); err != nil || in.Engine != engine || releaseName(in.Version, sha) != name {
		return Installed{}, fmt.Errorf("%s: %w: its mark is of %s %s", dir, ErrNotStaged, in.Engine, in.Version)
	}
	if in.Package != nil && (in.Package.Check() != nil || Digest(in.Release()) != in.SHA256) {
		return Installed{}, fmt.Errorf("%s: %w: its mark is of another package", dir, ErrNotStaged)
	}
	in.Path = dir
	return in, nil
}

// find returns the staged release with exactly this digest.
func (s *Store) find(engine, version, digest string) (Installed, error) {
	sha, err := identify(engine, version, digest)
	if err != nil {
		return Installed{}, err
	}
	in, err := s.installed(engine, releaseName(version, sha))
	if err == nil && in.SHA256 != sha {
		return Installed{}, fmt.Errorf("%s holds digest %s, which begins like %s: give one of them another version", in.Path, in.SHA256, sha)
	}
	if err == nil && in.Package != nil {
		err = s.whole(*in.Package)
	}
	return in, err
}

// Staged says whether the release is whole on this node. The digest is hexadecimal, with or without "sha256:".
func (s *Store) Staged(engine, version, digest string) bool {
	_, err := s.find(engine, version, digest)
	return err == nil
}

// List returns the whole releases of an engine, in no order.
func (s *Store) List(engine string) ([]Installed, error) {
	dirs, err := os.ReadDir(s.engineDir(engine))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []Installed
	for _, d := range dirs {
		if !d.IsDir() || strings.HasPrefix(d.Name(), tempPrefix) {
			continue
		}
		in, err := s.installed(engine, d.Name())
		if err == nil && in.Package != nil {
			err = s.whole(*in.Package)
		}
		if errors.Is(err, ErrNotStaged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, in)
	}
	return all, nil
}
