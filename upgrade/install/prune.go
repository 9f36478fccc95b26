package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Prune deletes releases of an engine until keep are left, oldest first, and returns the versions that went. Never deleted are the current and the previous one,
// and those that a program runs from: found in /proc, or named in inUse by a path in them. So more than keep can stay.
func (s *Store) Prune(ctx context.Context, engine string, keep int, inUse ...string) ([]string, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("prune releases of %s: %w", engine, err)
	}
	defer leave()
	all, err := s.List(engine)
	if err != nil {
		return nil, fmt.Errorf("prune releases of %s: %w", engine, err)
	}
	held, err := s.held(engine, inUse)
	if err != nil {
		return nil, fmt.Errorf("prune releases of %s: %w", engine, err)
	}
	slices.SortFunc(all, func(a, b Installed) int { return a.Time.Compare(b.Time) })
	var gone []string
	left := len(all)
	for _, in := range all {
		if left <= keep || held(in.Path) {
			continue
		}
		if err := s.remove(in.Path); err != nil {
			return gone, fmt.Errorf("prune releases of %s: %w", engine, err)
		}
		left--
		gone = append(gone, in.Version)
		s.log.Info("release deleted", "engine", engine, "version", in.Version, "path", in.Path)
	}
	return gone, nil
}

// held says of a directory whether something needs it. The links count by their names, whatever state their targets are in.
func (s *Store) held(engine string, inUse []string) (func(dir string) bool, error) {
	var paths []string
	for _, link := range []string{currentLink, previousLink, backLink} {
		name, err := os.Readlink(filepath.Join(s.engineDir(engine), link))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			paths = append(paths, filepath.Join(s.engineDir(engine), name))
		}
	}
	for _, p := range inUse {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			paths = append(paths, real)
		}
		paths = append(paths, abs)
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var lines [][]byte
	for _, p := range procs {
		// Errors mean that it ended, or is another user's; the caller names those with inUse.
		if exe, err := os.Readlink(filepath.Join(p, "exe")); err == nil {
			paths = append(paths, exe)
		}
		// A script runs from where its interpreter was told to find it.
		if line, err := os.ReadFile(filepath.Join(p, "cmdline")); err == nil {
			lines = append(lines, line)
		}
	}
	return func(dir string) bool {
		return slices.ContainsFunc(paths, func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }) ||
			slices.ContainsFunc(lines, func(l []byte) bool { return bytes.Contains(l, []byte(dir+"/")) })
	}, nil
}

// remove takes the name away first: a directory that is half deleted must not look whole.
func (s *Store) remove(dir string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), tempPrefix)
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(tmp, "deleted")); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return errors.Join(syncDir(filepath.Dir(dir)), os.RemoveAll(tmp))
}

// partialsAge is how long a download that nobody goes on with is kept.
const partialsAge = 24 * time.Hour

// Clean removes what an agent that was killed left unfinished. The agent calls it once at its start; a second process on the same store must not.
func (s *Store) Clean(ctx context.Context) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return fmt.Errorf("clean release store: %w", err)
	}
	defer leave()
	return errors.Join(s.cleanReleases(), s.cleanDownloads())
}

func (s *Store) cleanReleases() error {
	engines, err := os.ReadDir(filepath.Join(s.base, "releases"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clean release store: %w", err)
	}
	for _, e := range engines {
		held, err := s.held(e.Name(), nil)
		if err != nil {
			return fmt.Errorf("clean release store: %w", err)
		}
		entries, err := os.ReadDir(s.engineDir(e.Name()))
		if err != nil {
			return fmt.Errorf("clean release store: %w", err)
		}
		for _, d := range entries {
			path := filepath.Join(s.engineDir(e.Name()), d.Name())
			unfinished := strings.HasPrefix(d.Name(), tempPrefix)
			if !unfinished && d.IsDir() && !held(path) {
				_, err := s.installed(e.Name(), d.Name())
				unfinished = errors.Is(err, ErrNotStaged)
			}
			if !unfinished {
				continue
			}
			s.log.Info("removing an unfinished release", "path", path)
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("clean release store: %w", err)
			}
		}
	}
	return nil
}

func (s *Store) cleanDownloads() error {
	files, err := os.ReadDir(s.downloads())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clean release store: %w", err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err == nil && time.Since(info.ModTime()) > partialsAge {
			err = os.Remove(filepath.Join(s.downloads(), f.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clean release store: %w", err)
		}
	}
	return nil
}
