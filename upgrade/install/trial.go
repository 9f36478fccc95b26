package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// backLink is where a trial goes back to. It is made before the trial begins: to rename it over the current one takes no room on a full disk.
	backLink  = "back"
	trialFile = "trial.json"
	// asInstalled is what a link leads to that leads to no release: the program is then the one that the host has installed.
	asInstalled = "installed"
)

// Trial is a release that was switched to and has not proved itself yet. Whoever starts the program counts its starts, and puts back what was there
// before when it does not hold.
type Trial struct {
	Version string        `json:"version,omitempty"` // empty: what the host has installed
	SHA256  string        `json:"sha256,omitempty"`
	Step    uint64        `json:"step"`  // that switched to it
	Limit   time.Duration `json:"limit"` // how long it may take to arrive, from its first start in each boot of the host
	// Boot is the boot of the host that Until is meant in, an instant of CLOCK_BOOTTIME; both are set with its first start.
	Boot  string        `json:"boot,omitempty"`
	Until time.Duration `json:"until,omitempty"`
	// Starts are those that did not end in order so far, with the one that runs.
	Starts  int       `json:"starts,omitempty"`
	Started time.Time `json:"started,omitzero"` // the newest of them
	Arrived bool      `json:"arrived,omitempty"`
	// PutBack says why it did not hold; the release of before is current again.
	PutBack string `json:"putBack,omitempty"`
}

// Open tells that the release is current, and still to prove itself.
func (t Trial) Open() bool { return t.Step != 0 && t.PutBack == "" }

// Digest is what a document knows the release by; empty for what the host has installed. No package is ever on trial.
func (t Trial) Digest() string {
	if t.SHA256 == "" {
		return ""
	}
	return Installed{SHA256: t.SHA256}.Release().Digest()
}

// maxStarts is how often a release on trial is started. One end may be anyone's doing; two are the release's.
const maxStarts = 2

// Try makes a staged release the current one on trial, or with an empty version what the host has installed. Nothing changes when it is current already.
func (s *Store) Try(ctx context.Context, engine, version, digest string, step uint64, limit time.Duration) error {
	fail := func(err error) error { return fmt.Errorf("try %s %s: %w", engine, version, err) }
	leave, err := s.enter(ctx)
	if err != nil {
		return fail(err)
	}
	defer leave()
	name, t := asInstalled, Trial{Step: step, Limit: limit}
	if version != "" {
		in, err := s.find(engine, version, digest)
		if err != nil {
			return fail(err)
		}
		name, t.Version, t.SHA256 = filepath.Base(in.Path), in.Version, in.SHA256
	}
	now, err := s.target(engine, currentLink)
	if err != nil {
		return fail(err)
	}
	if now == name {
		return nil
	}
	if err := os.MkdirAll(s.engineDir(engine), 0o755); err != nil {
		return fail(err)
	}
	open, err := s.Trial(engine)
	onTrial := open.Open()
	if err != nil { // the record is about to be written anew
		onTrial = s.leadsBack(engine)
	}
	back, err := s.target(engine, backLink)
	if err != nil {
		return fail(err)
	}
	switch {
	case onTrial && back == name:
		// The way back is there already, and needs no trial.
		if err := os.Rename(filepath.Join(s.engineDir(engine), backLink), filepath.Join(s.engineDir(engine), currentLink)); err != nil {
			return fail(err)
		}
		s.log.Info("release is gone back to", "engine", engine, "version", version, "from", now, "to", name)
		return errors.Join(os.Remove(filepath.Join(s.engineDir(engine), trialFile)), syncDir(s.engineDir(engine)))
	case onTrial:
		// What is current has proved nothing: it is no way back.
	default:
		// Before the record, so that a crash leaves nothing that looks like a trial that was put back.
		if err := s.link(engine, backLink, now); err != nil {
			return fail(err)
		}
	}
	if err := s.saveTrial(engine, t); err != nil {
		return fail(err)
	}
	if err := s.link(engine, currentLink, name); err != nil {
		return fail(err)
	}
	s.log.Info("release is on trial", "engine", engine, "version", version, "from", now, "to", name)
	return nil
}

// target is what a link leads to, by name.
func (s *Store) target(engine, link string) (string, error) {
	name, err := os.Readlink(filepath.Join(s.engineDir(engine), link))
	if errors.Is(err, fs.ErrNotExist) {
		return asInstalled, nil
	}
	return name, err
}

// leadsBack tells by the links alone whether what is current has still to prove itself.
func (s *Store) leadsBack(engine string) bool {
	back, err := os.Readlink(filepath.Join(s.engineDir(engine), backLink))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	now, nowErr := s.target(engine, currentLink)
	return err != nil || nowErr != nil || back != now
}

// Trial returns the newest trial of an engine, also one that was put back; the zero Trial when there is none, or when its switch was cut off. A record
// that cannot be read, or is of neither what is current nor a switch to it, is an error.
func (s *Store) Trial(engine string) (Trial, error) {
	raw, err := os.ReadFile(filepath.Join(s.engineDir(engine), trialFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Trial{}, nil
	}
	var t Trial
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err == nil && t.Step == 0 && t.PutBack == "" {
		err = errors.New("it names no step")
	}
	if err != nil {
		return Trial{}, fmt.Errorf("read the trial of %s: %w", engine, err)
	}
	if t.PutBack != "" {
		return t, nil
	}
	now, err := s.target(engine, currentLink)
	if err != nil {
		return Trial{}, fmt.Errorf("read the trial of %s: %w", engine, err)
	}
	if on := t.Version == "" && now == asInstalled || t.Version != "" && now == releaseName(t.Version, t.SHA256); on {
		return t, nil
	}
	if _, err := os.Lstat(filepath.Join(s.engineDir(engine), backLink)); errors.Is(err, fs.ErrNotExist) {
		t.PutBack = "the release of before was put back, and why could not be written down"
		return t, nil
	}
	if s.leadsBack(engine) {
		return Trial{}, fmt.Errorf("read the trial of %s: it is of %s, and %s is current", engine, t.Version, now)
	}
	return Trial{}, nil
}

// Start counts a start of the program at an instant of CLOCK_BOOTTIME, and puts back what was there before when there were too many of them, or none led
// anywhere in time, or when they cannot be counted. It returns the trial as it is then. Nothing happens where there is none. After an error, what is
// current may be started for ever.
func (s *Store) Start(engine, boot string, now time.Duration) (Trial, error) {
	t, err := s.Trial(engine)
	if err != nil {
		return s.startUnread(engine, err)
	}
	if !t.Open() {
		return t, nil
	}
	last := t.Started
	switch {
	case t.Starts >= maxStarts:
		return s.putBack(engine, t, fmt.Sprintf("it ended %d times without being asked to, the last time %s after its start", t.Starts, time.Since(last).Round(100*time.Millisecond)))
	case !t.Arrived && t.Boot == boot && now >= t.Until:
		return s.putBack(engine, t, fmt.Sprintf("it was not back in its cluster within %s", t.Limit))
	}
	if t.Boot != boot {
		t.Boot, t.Until = boot, now+t.Limit
	}
	t.Starts++
	t.Started = time.Now().UTC()
	if err := s.saveTrial(engine, t); err != nil {
		// One that cannot be counted could be started for ever.
		return s.putBack(engine, t, fmt.Sprintf("its start could not be written down: %v", err))
	}
	return t, nil
}

// startUnread is Start where the record of the trial cannot be read. One that is open then cannot be counted.
func (s *Store) startUnread(engine string, cause error) (Trial, error) {
	if s.leadsBack(engine) {
		var t Trial
		if now, err := s.target(engine, currentLink); err == nil && now != asInstalled {
			if in, err := s.installed(engine, now); err == nil {
				t.Version, t.SHA256 = in.Version, in.SHA256
			}
		}
		return s.putBack(engine, t, fmt.Sprintf("the record of its trial could not be used: %v", cause))
	}
	// What is current proved itself. Without the record, nobody knows any more what was put back before.
	s.log.Error("the record of a trial that is over is removed, as it cannot be used", "engine", engine, "error", cause)
	if err := os.Remove(filepath.Join(s.engineDir(engine), trialFile)); err != nil {
		s.log.Warn("the record of a trial could not be removed", "engine", engine, "error", err)
	}
	return Trial{}, nil
}

// putBack is one rename; what is written down of it may be missing afterwards.
func (s *Store) putBack(engine string, t Trial, why string) (Trial, error) {
	dir := s.engineDir(engine)
	if err := os.Rename(filepath.Join(dir, backLink), filepath.Join(dir, currentLink)); err != nil {
		return t, fmt.Errorf("put back what was before %s %s, as %s: %w", engine, t.Version, why, err)
	}
	if err := syncDir(dir); err != nil {
		s.log.Warn("a release that was put back may be back after a power cut", "engine", engine, "error", err)
	}
	t.PutBack = why
	if err := s.saveTrial(engine, t); err != nil {
		s.log.Warn("why a release was put back could not be written down", "engine", engine, "why", why, "error", err)
	}
	s.log.Error("release was put back", "engine", engine, "version", t.Version, "why", why)
	return t, nil
}

// Arrive notes that the program is where it should be; from then on only its ends count. EndStart notes that its newest start ended in order, and Confirm
// that it has proved itself: the trial is over.
func (s *Store) Arrive(engine string) error {
	return s.note(engine, func(t *Trial) { t.Arrived = true })
}

// EndStart is described at Arrive.
func (s *Store) EndStart(engine string) error {
	return s.note(engine, func(t *Trial) { t.Starts = max(0, t.Starts-1) })
}

// Confirm is described at Arrive. What was there before is the previous release from then on.
func (s *Store) Confirm(engine string) error {
	t, err := s.Trial(engine)
	if err != nil || !t.Open() {
		return err
	}
	dir := s.engineDir(engine)
	if err := os.Remove(filepath.Join(dir, trialFile)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if back, err := s.target(engine, backLink); err == nil && back == asInstalled {
		err = os.Remove(filepath.Join(dir, backLink))
		return err
	}
	return os.Rename(filepath.Join(dir, backLink), filepath.Join(dir, previousLink))
}

func (s *Store) note(engine string, f func(*Trial)) error {
	t, err := s.Trial(engine)
	if err != nil || !t.Open() {
		return err
	}
	before := t
	if f(&t); t == before {
		return nil
	}
	return s.saveTrial(engine, t)
}

func (s *Store) saveTrial(engine string, t Trial) error {
	raw, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(s.engineDir(engine), trialFile), append(raw, '\n'), 0o644)
}

// Holds returns the release of the engine that a program belongs to, and whether there is one.
func (s *Store) Holds(engine, program string) (Installed, bool) {
	rel, err := filepath.Rel(s.engineDir(engine), program)
	if err != nil || strings.HasPrefix(rel, "..") {
		return Installed{}, false
	}
	name, _, _ := strings.Cut(rel, string(filepath.Separator))
	in, err := s.installed(engine, name)
	return in, err == nil
}
