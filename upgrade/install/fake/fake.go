// Package fake is a store of releases in memory, for tests in virtual time.
package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ferryman"
	"ferryman/upgrade/install"
)

// Store has the methods of install.Store. It outlives the agent that uses it, as a disk does. The zero value holds nothing.
type Store struct {
	mu      sync.Mutex
	staged  []install.Installed // oldest first
	current map[string][]string // paths by engine: the current one first, then the previous
	takes   time.Duration
	fail    func(engine, version string) error
	stages  int
	trial   install.Trial
}

// Takes sets how long it takes to stage what is not there.
func (s *Store) Takes(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes = d
}

// Fail asks before each staging of what is not there whether it fails; nil means that none does.
func (s *Store) Fail(fail func(engine, version string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// Stages is how often something was staged that was not there.
func (s *Store) Stages() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stages
}

// Stage makes the release whole.
func (s *Store) Stage(ctx context.Context, engine, version string, r ferryman.Release) (install.Installed, error) {
	sha := install.Digest(r)
	s.mu.Lock()
	in, err := s.find(engine, version, sha)
	takes, fail := s.takes, s.fail
	s.mu.Unlock()
	if err == nil {
		return in, nil
	}
	if fail != nil {
		if err := fail(engine, version); err != nil {
			return install.Installed{}, fmt.Errorf("stage %s %s: %w", engine, version, err)
		}
	}
	if takes > 0 {
		t := time.NewTimer(takes)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return install.Installed{}, fmt.Errorf("stage %s %s: %w", engine, version, context.Cause(ctx))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stages++
	in = install.Installed{Engine: engine, Version: version, SHA256: sha, Package: r.Package, Time: time.Now(), Path: Path(engine, version, sha)}
	if r.Archive != nil {
		in.Size = r.Archive.Size
	}
	s.staged = append(s.staged, in)
	return in, nil
}

// Path is where a release would be; its last element begins with the version and a dash.
func Path(engine, version, sha string) string {
	return fmt.Sprintf("/fake/releases/%s/%s-%.12s", engine, version, sha)
}

// List returns the whole releases of an engine.
func (s *Store) List(engine string) ([]install.Installed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.staged), func(in install.Installed) bool { return in.Engine != engine }), nil
}

// Current is what Switch chose last; install.ErrNone before.
func (s *Store) Current(engine string) (install.Installed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	links := s.current[engine]
	for _, in := range s.staged {
		if len(links) > 0 && in.Path == links[0] {
			return in, nil
		}
	}
	return install.Installed{}, fmt.Errorf("current of %s: %w", engine, install.ErrNone)
}

// Switch makes a staged release the current one.
func (s *Store) Switch(ctx context.Context, engine, version, digest string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in, err := s.find(engine, version, strings.ToLower(strings.TrimPrefix(digest, "sha256:")))
	if err != nil {
		return fmt.Errorf("switch to %s %s: %w", engine, version, err)
	}
	links := s.current[engine]
	if len(links) > 0 && links[0] == in.Path {
		return nil
	}
	if s.current == nil {
		s.current = map[string][]string{}
	}
	s.current[engine] = append([]string{in.Path}, links[:min(1, len(links))]...)
	return nil
}

// Try is a Switch on trial; an empty version is what the host has installed.
func (s *Store) Try(ctx context.Context, engine, version, digest string, step uint64, limit time.Duration) error {
	t := install.Trial{Version: version, SHA256: strings.ToLower(strings.TrimPrefix(digest, "sha256:")), Step: step, Limit: limit}
	if version != "" {
		if err := s.Switch(ctx, engine, version, digest); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if version == "" {
		delete(s.current, engine)
	}
	s.trial = t
	return nil
}

// Trial is the newest one, of whatever engine.
func (s *Store) Trial(string) (install.Trial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trial, nil
}

// PutBack ends the trial as the start of a program does that does not hold.
func (s *Store) PutBack(engine, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial.PutBack = why
	if links := s.current[engine]; len(links) > 1 {
		s.current[engine] = links[1:]
	} else {
		delete(s.current, engine)
	}
}

// Arrive notes that the program is where it should be.
func (s *Store) Arrive(string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial.Arrived = s.trial.Open()
	return nil
}

// EndStart does nothing: starts are not counted here.
func (s *Store) EndStart(string) error { return nil }

// Confirm ends the trial.
func (s *Store) Confirm(string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trial.Open() {
		s.trial = install.Trial{}
	}
	return nil
}

// Prune deletes the oldest releases of engine until keep are left, but never the current and the previous one and those inUse.
func (s *Store) Prune(_ context.Context, engine string, keep int, inUse ...string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := 0
	for _, in := range s.staged {
		if in.Engine == engine {
			left++
		}
	}
	var gone []string
	s.staged = slices.DeleteFunc(s.staged, func(in install.Installed) bool {
		if in.Engine != engine || left <= keep || slices.Contains(s.current[engine], in.Path) || slices.Contains(inUse, in.Path) {
			return false
		}
		left--
		gone = append(gone, in.Version)
		return true
	})
	return gone, nil
}

func (s *Store) find(engine, version, sha string) (install.Installed, error) {
	for _, in := range s.staged {
		if in.Engine == engine && in.Version == version && in.SHA256 == sha {
			return in, nil
		}
	}
	return install.Installed{}, fmt.Errorf("%s %s: %w", engine, version, install.ErrNotStaged)
}
