package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ferryman"
)

// Stage makes the release whole on this node, and returns at once when it is. What is in use is not touched.
// ErrRefused when the artefact is not what the document says; nothing of it is left then. After any other error it may be called again, and goes on
// where the download ended.
func (s *Store) Stage(ctx context.Context, engine, version string, r ferryman.Release) (Installed, error) {
	if r.Package != nil {
		in, err := s.stagePackage(ctx, engine, version, r)
		if err != nil {
			err = fmt.Errorf("stage %s %s, package %s %s: %w", engine, version, r.Package.Name, r.Package.Version, err)
		}
		return in, err
	}
	if r.Archive == nil {
		return Installed{}, fmt.Errorf("stage %s %s: the document has no release of that name", engine, version)
	}
	in, err := s.stage(ctx, engine, version, *r.Archive)
	if err != nil {
		return Installed{}, fmt.Errorf("stage %s %s from %s: %w", engine, version, r.Archive.URL, err)
	}
	return in, nil
}

func (s *Store) stage(ctx context.Context, engine, version string, a ferryman.Archive) (Installed, error) {
	sha, err := identify(engine, version, a.SHA256)
	if err != nil {
		return Installed{}, err
	}
	a.SHA256 = sha
	leave, err := s.enter(ctx)
	if err != nil {
		return Installed{}, err
	}
	defer leave()
	in, err := s.find(engine, version, sha)
	if err == nil || !errors.Is(err, ErrNotStaged) {
		return in, err
	}

	artefact, err := s.fetch(ctx, a)
	if err != nil {
		return Installed{}, err
	}
	defer artefact.Close()
	in = Installed{Engine: engine, Version: version, SHA256: sha, Size: a.Size, Time: time.Now().UTC()}
	in.Path, err = s.place(in, func(dir string) error {
		room, err := free(s.base)
		if err != nil {
			return err
		}
		if err := unpack(ctx, artefact, dir, s.limits, room); err != nil {
			return err
		}
		if err := s.check(ctx, engine, version, dir); err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return nil
	})
	if err != nil {
		if errors.Is(err, ErrRefused) {
			s.discard(sha)
		}
		return Installed{}, err
	}
	s.discard(sha)
	s.log.Info("release staged", "engine", engine, "version", version, "sha256", sha, "path", in.Path)
	return in, nil
}

// place has a release's directory filled, and marks it as whole.
func (s *Store) place(in Installed, fill func(dir string) error) (path string, err error) {
	path = filepath.Join(s.engineDir(in.Engine), releaseName(in.Version, in.SHA256))
	return path, makeDir(path, func(dir string) error {
		if err := fill(dir); err != nil {
			return err
		}
		return writeMark(dir, in)
	})
}

func writeMark(dir string, in Installed) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, markName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
