package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ferryman"
)

// Packages is the host's package manager. What changes anything takes root, which judges by itself whether it does it; the rest is looking.
type Packages interface {
	// Stage has everything kept on the host that it takes to install the package, and to go back to what is installed now. It changes nothing else.
	Stage(ctx context.Context, key string, p ferryman.Package) error
	// Switch installs what is kept, also over a newer version, and nothing is started or stopped by it.
	Switch(ctx context.Context, key string, p ferryman.Package) error
	// Kept tells whether what Stage keeps is there.
	Kept(p ferryman.Package) bool
	// Installed is the version that the host has of a package; empty when it has none, or not whole.
	Installed(name string) (string, error)
}

// ErrPackage means that the release is a package of the host's package manager, and nothing here can install such.
var ErrPackage = errors.New("packages need systemd and `ferryman setup` (database.supervisor: systemd); offer the release as an archive")

// Digest is what a release goes by in a Store: an archive's SHA-256, and for a package that of its name and version. Empty for no release.
func Digest(r ferryman.Release) string {
	switch {
	case r.Archive != nil:
		return strings.ToLower(r.Archive.SHA256)
	case r.Package != nil:
		sum := sha256.Sum256([]byte(r.Digest()))
		return hex.EncodeToString(sum[:])
	}
	return ""
}

// Release is what the installed one is bound to; without the place that it came from.
func (in Installed) Release() ferryman.Release {
	if in.Package != nil {
		return ferryman.Release{Package: in.Package}
	}
	return ferryman.Release{Archive: &ferryman.Archive{SHA256: in.SHA256, Size: in.Size}}
}

// A package's files are where its distribution puts them. Its directory here has what an engine looks for in a release: what this version is called, in
// release.json, and its programs, by a link. So a release is the same to an engine, and a way from an archive to a package and back is one of links.
const (
	programs    = "/usr/bin"
	aboutName   = "release.json"
	programsDir = "bin"
)

func (s *Store) stagePackage(ctx context.Context, engine, version string, r ferryman.Release) (Installed, error) {
	p, sha := *r.Package, Digest(r)
	if s.packages == nil {
		return Installed{}, ErrPackage
	}
	if err := p.Check(); err != nil {
		return Installed{}, err
	}
	if _, err := identify(engine, version, sha); err != nil {
		return Installed{}, err
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return Installed{}, err
	}
	defer leave()
	// Also when it is the one that is installed: what is kept of it is the way back to it.
	if !s.packages.Kept(p) {
		if err := s.packages.Stage(ctx, ferryman.ReleaseKey(engine, version), p); err != nil {
			return Installed{}, err
		}
		if !s.packages.Kept(p) {
			return Installed{}, errors.New("the installer ended well, and what it should keep is not there: journalctl -u 'ferryman-install@*' has what it did")
		}
	}
	if in, err := s.installed(engine, releaseName(version, sha)); err == nil || !errors.Is(err, ErrNotStaged) {
		return in, err
	}
	in := Installed{Engine: engine, Version: version, SHA256: sha, Package: &p, Time: time.Now().UTC()}
	in.Path, err = s.place(in, func(dir string) error {
		about, err := json.Marshal(map[string]string{"version": version})
		if err != nil {
			return err
		}
		return errors.Join(WriteFile(filepath.Join(dir, aboutName), about, 0o644), os.Symlink(programs, filepath.Join(dir, programsDir)))
	})
	if err != nil {
		return Installed{}, err
	}
	s.log.Info("release staged", "engine", engine, "version", version, "package", p.Name, "of", p.Version, "path", in.Path)
	return in, nil
}

// whole tells whether a package can be switched to: it is kept, or it is what the host has.
func (s *Store) whole(p ferryman.Package) error {
	if s.packages == nil || s.packages.Kept(p) {
		return nil
	}
	now, err := s.packages.Installed(p.Name)
	if err != nil {
		return err
	}
	if now != p.Version {
		return fmt.Errorf("package %s %s: %w: what was kept of it is gone", p.Name, p.Version, ErrNotStaged)
	}
	return nil
}

// unlike says that the host has another version of a package than the one that is current here: somebody changed it, or a switch was cut off.
func (s *Store) unlike(p ferryman.Package) error {
	if s.packages == nil {
		return nil
	}
	now, err := s.packages.Installed(p.Name)
	if err == nil && now != p.Version {
		if now == "" {
			now = "no version"
		}
		err = fmt.Errorf("the host has %s of package %s, and %s is selected: somebody changed it, or a switch was cut off; the next start by the agent installs the selected one",
			now, p.Name, p.Version)
	}
	return err
}

// install makes the host have the package.
func (s *Store) install(ctx context.Context, key string, p ferryman.Package) error {
	if s.packages == nil {
		return ErrPackage
	}
	if err := s.packages.Switch(ctx, key, p); err != nil {
		return err
	}
	return s.unlike(p)
}
