package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ferryman"
)

const (
	currentLink  = "current"
	previousLink = "previous"
)

// Current returns the release that is to be used. ErrNone before the first switch. Of a package it is asked whether the host has that version.
func (s *Store) Current(engine string) (Installed, error) {
	in, err := s.linked(engine, currentLink)
	if err == nil && in.Package != nil {
		err = s.unlike(*in.Package)
	}
	return in, err
}

// Previous returns the release that was current before. ErrNone before the second switch.
func (s *Store) Previous(engine string) (Installed, error) { return s.linked(engine, previousLink) }

func (s *Store) linked(engine, link string) (Installed, error) {
	name, err := os.Readlink(filepath.Join(s.engineDir(engine), link))
	if errors.Is(err, fs.ErrNotExist) {
		return Installed{}, fmt.Errorf("%s of %s: %w", link, engine, ErrNone)
	}
	if err != nil {
		return Installed{}, fmt.Errorf("%s of %s: %w", link, engine, err)
	}
	if name == asInstalled {
		return Installed{}, fmt.Errorf("%s of %s: %w", link, engine, ErrNone)
	}
	in, err := s.installed(engine, name)
	if err != nil {
		return Installed{}, fmt.Errorf("%s of %s: %w", link, engine, err)
	}
	return in, nil
}

// Switch makes a staged release the current one. Whoever looks sees the old or the new one, also after a crash; programs that run are not touched.
// For a package it first has the host install it, where it is another version that the host has.
// The way back is a Switch to Previous. ErrNotStaged when it is not whole here.
func (s *Store) Switch(ctx context.Context, engine, version, digest string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return fmt.Errorf("switch to %s %s: %w", engine, version, err)
	}
	defer leave()
	in, err := s.find(engine, version, digest)
	if err != nil {
		return fmt.Errorf("switch to %s %s: %w", engine, version, err)
	}
	// What cannot be read now (a directory deleted by hand, say) must not keep us from switching to what can.
	now, err := os.Readlink(filepath.Join(s.engineDir(engine), currentLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("switch to %s %s: %w", engine, version, err)
	}
	name := filepath.Base(in.Path)
	if in.Package != nil && (now != name || s.unlike(*in.Package) != nil) {
		if err := s.install(ctx, ferryman.ReleaseKey(engine, version), *in.Package); err != nil {
			return fmt.Errorf("switch to %s %s, package %s %s: %w", engine, version, in.Package.Name, in.Package.Version, err)
		}
	}
	if now == name {
		return nil
	}
	if now != "" {
		// First, so that there is a way back whenever there is a way forward.
		if err := s.link(engine, previousLink, now); err != nil {
			return fmt.Errorf("switch to %s %s: %w", engine, version, err)
		}
	}
	if err := s.link(engine, currentLink, name); err != nil {
		return fmt.Errorf("switch to %s %s: %w", engine, version, err)
	}
	s.log.Info("release switched", "engine", engine, "version", version, "from", now, "to", name)
	return nil
}

// link replaces a link in one step: a rename has no moment in between.
func (s *Store) link(engine, link, name string) error {
	dir := s.engineDir(engine)
	tmp := filepath.Join(dir, tempPrefix+link)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(name, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, link)); err != nil {
		return err
	}
	return syncDir(dir)
}
