package install_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman/upgrade/install"
)

// tried is a store with releases 1 and 2 of an agent, 2 on trial after 1.
func tried(t *testing.T) (*install.Store, string) {
	t.Helper()
	s, dir := open(t, base(t), install.Options{}), ""
	for _, v := range []string{"1", "2"} {
		in, err := s.Stage(t.Context(), "ferryman", v, local(t, gz(t, tarOf(t, program("bin/ferryman", v)))))
		must(t, err)
		dir = filepath.Dir(in.Path)
		try(t, s, v, 7)
		if v == "1" {
			must(t, s.Confirm("ferryman"))
		}
	}
	return s, dir
}

// try puts a release on trial; an empty version is what the host has installed.
func try(t *testing.T, s *install.Store, version string, step uint64) {
	t.Helper()
	all, err := s.List("ferryman")
	must(t, err)
	sha := ""
	for _, in := range all {
		if in.Version == version {
			sha = in.SHA256
		}
	}
	must(t, s.Try(t.Context(), "ferryman", version, sha, step, time.Minute))
}

func currentIs(t *testing.T, s *install.Store, want string) {
	t.Helper()
	in, err := s.Current("ferryman")
	if errors.Is(err, install.ErrNone) {
		in.Version, err = "installed", nil
	}
	if err != nil || in.Version != want {
		t.Fatalf("got %s, %v; want %s to be current", in.Version, err, want)
	}
}

// began starts the release and wants it to be put back because of something, or
// with an empty reason to go on.
func began(t *testing.T, s *install.Store, boot string, now time.Duration, why string) {
	t.Helper()
	trial, err := s.Start("ferryman", boot, now)
	if err != nil {
		t.Fatal(err)
	}
	if (trial.PutBack == "") != (why == "") || !strings.Contains(trial.PutBack, why) {
		t.Fatalf("start in boot %s at %s: put back because %q, want %q", boot, now, trial.PutBack, why)
	}
}

func TestTrial(t *testing.T) {
	t.Parallel()
	const twice = "it ended 2 times without being asked to"
	for name, play := range map[string]func(t *testing.T, s *install.Store) (current string){
		"it ends again and again": func(t *testing.T, s *install.Store) string {
			began(t, s, "a", 1, "")
			began(t, s, "a", 2, "")
			currentIs(t, s, "2")
			began(t, s, "a", 3, twice)
			began(t, s, "a", 4, twice) // which is known, and counts nothing any more
			return "1"
		},
		"it ends in order": func(t *testing.T, s *install.Store) string {
			for i := range time.Duration(5) {
				began(t, s, "a", i, "")
				must(t, s.EndStart("ferryman"))
			}
			return "2"
		},
		"it does not arrive": func(t *testing.T, s *install.Store) string {
			began(t, s, "a", time.Hour, "")
			began(t, s, "a", time.Hour+time.Minute, "it was not back in its cluster within 1m0s")
			return "1"
		},
		"it arrives and ends later": func(t *testing.T, s *install.Store) string {
			began(t, s, "a", 0, "")
			must(t, s.Arrive("ferryman"))
			began(t, s, "a", time.Hour, "")
			began(t, s, "a", 2*time.Hour, twice)
			return "1"
		},
		"the power is cut": func(t *testing.T, s *install.Store) string {
			began(t, s, "a", time.Hour, "")
			began(t, s, "b", 1, "") // the clock began anew, and so does the limit
			began(t, s, "b", time.Minute+1, twice)
			return "1"
		},
		"it is confirmed": func(t *testing.T, s *install.Store) string {
			began(t, s, "a", 1, "")
			began(t, s, "a", 2, "")
			must(t, s.Confirm("ferryman"))
			began(t, s, "a", 3, "")
			if in, err := s.Previous("ferryman"); err != nil || in.Version != "1" {
				t.Errorf("got %s, %v; want 1 to be the previous one", in.Version, err)
			}
			return "2"
		},
		"back to what the host has installed": func(t *testing.T, s *install.Store) string {
			try(t, s, "", 9)
			currentIs(t, s, "installed")
			began(t, s, "a", 1, "")
			began(t, s, "a", 2, "")
			currentIs(t, s, "installed")
			began(t, s, "a", 3, twice)
			return "1" // and not 2, which had proved nothing
		},
		"back to what was before": func(t *testing.T, s *install.Store) string {
			began(t, s, "a", 1, "")
			try(t, s, "1", 9)
			if trial, err := s.Trial("ferryman"); err != nil || trial != (install.Trial{}) {
				t.Errorf("got %+v, %v; want no trial", trial, err)
			}
			return "1"
		},
		"from what the host has installed": func(t *testing.T, s *install.Store) string {
			try(t, s, "", 9)
			must(t, s.Confirm("ferryman"))
			try(t, s, "1", 10)
			began(t, s, "a", 0, "")
			began(t, s, "a", time.Minute, "not back in its cluster")
			return "installed"
		},
		"what it switched to is current already": func(t *testing.T, s *install.Store) string {
			began(t, s, "a", 1, "")
			try(t, s, "2", 8)
			if trial, err := s.Trial("ferryman"); err != nil || trial.Step != 7 || trial.Starts != 1 {
				t.Errorf("got %+v, %v; want the trial that is open", trial, err)
			}
			return "2"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := tried(t)
			currentIs(t, s, play(t, s))
		})
	}
}

// A full disk takes no new file, and the way back needs none. What was put back
// is known afterwards, whatever could be written down of it.
func TestTrialOnAFullDisk(t *testing.T) {
	t.Parallel()
	s, dir := tried(t)
	began(t, s, "a", 1, "")
	full := filepath.Join(dir, ".tmp-trial.json")
	must(t, os.Mkdir(full, 0o755))
	began(t, s, "a", 2, "its start could not be written down")
	currentIs(t, s, "1")
	began(t, s, "a", 3, "could not be written down")
	currentIs(t, s, "1")
	// With room again, the next trial is one like any other.
	must(t, os.Remove(full))
	try(t, s, "2", 8)
	began(t, s, "a", 4, "")
	currentIs(t, s, "2")
}

// A record that cannot be read counts nothing. What the links say is on trial is put back then; what they say proved itself stays, and the next trial
// is one like any other.
func TestTrialWhoseRecordCannotBeRead(t *testing.T) {
	t.Parallel()
	const why = "the record of its trial could not be used"
	for state, play := range map[string]struct {
		before func(t *testing.T, s *install.Store, dir string)
		after  func(t *testing.T, s *install.Store)
	}{
		"on trial": {
			func(t *testing.T, s *install.Store, _ string) { began(t, s, "a", 1, "") },
			func(t *testing.T, s *install.Store) {
				began(t, s, "a", 2, why)
				if trial, err := s.Trial("ferryman"); err == nil && trial.Version != "2" {
					t.Errorf("got %+v; want that 2 was put back", trial)
				}
			},
		},
		"on trial, and a switch back comes before a start": {
			func(t *testing.T, s *install.Store, _ string) { began(t, s, "a", 1, "") },
			func(t *testing.T, s *install.Store) { try(t, s, "1", 9) },
		},
		"what the host has installed is on trial": {
			func(t *testing.T, s *install.Store, _ string) { try(t, s, "", 9) },
			func(t *testing.T, s *install.Store) { began(t, s, "a", 1, why) },
		},
		"cut off before the switch": {
			func(t *testing.T, _ *install.Store, dir string) {
				one, err := os.Readlink(filepath.Join(dir, "back"))
				must(t, errors.Join(err, relink(filepath.Join(dir, "current"), one)))
			},
			func(t *testing.T, s *install.Store) { began(t, s, "a", 1, "") },
		},
		"put back": {
			func(t *testing.T, s *install.Store, _ string) {
				began(t, s, "a", 1, "")
				began(t, s, "a", time.Hour, "not back in its cluster")
			},
			func(t *testing.T, s *install.Store) { began(t, s, "a", time.Hour, "") },
		},
		"none is open": {
			func(t *testing.T, s *install.Store, _ string) {
				try(t, s, "1", 9)
				try(t, s, "", 10)
				must(t, s.Confirm("ferryman"))
				try(t, s, "1", 11)
				must(t, s.Confirm("ferryman"))
			},
			func(t *testing.T, s *install.Store) { began(t, s, "a", 1, "") },
		},
	} {
		for damage, text := range map[string]string{
			"cut off": `{"version":"2","sha`, "empty": "", "without a step": "{}", "a directory": "dir",
		} {
			t.Run(state+", "+damage, func(t *testing.T) {
				t.Parallel()
				s, dir := tried(t)
				play.before(t, s, dir)
				record := filepath.Join(dir, "trial.json")
				if err := os.Remove(record); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
				if text == "dir" {
					must(t, os.Mkdir(record, 0o755))
				} else {
					must(t, os.WriteFile(record, []byte(text), 0o644))
				}
				play.after(t, s)
				currentIs(t, s, "1")
				if _, err := s.Start("ferryman", "b", 1); err != nil {
					t.Fatal(err)
				}
				currentIs(t, s, "1")
				try(t, s, "2", 12)
				began(t, s, "b", 2, "")
				currentIs(t, s, "2")
			})
		}
	}
}

// A record of a third release, whose switch was cut off, does not let what is on trial run uncounted.
func TestTrialOfAThirdReleaseIsCutOff(t *testing.T) {
	t.Parallel()
	s, dir := tried(t)
	two, err := os.Readlink(filepath.Join(dir, "current"))
	must(t, err)
	try(t, s, "", 9)
	must(t, relink(filepath.Join(dir, "current"), two))
	began(t, s, "a", 1, "could not be used")
	currentIs(t, s, "1")
}

// Where nothing can be put back, whoever starts the program is told.
func TestTrialCannotEnd(t *testing.T) {
	t.Parallel()
	s, dir := tried(t)
	must(t, errors.Join(os.WriteFile(filepath.Join(dir, "trial.json"), nil, 0o644), os.Remove(filepath.Join(dir, "back")), os.Mkdir(filepath.Join(dir, "back"), 0o755)))
	if trial, err := s.Start("ferryman", "a", 1); err == nil {
		t.Errorf("got %+v, want an error", trial)
	}
}

// A power cut between any two of a switch's writes leaves no trial that nobody
// began, and the next attempt brings it about.
func TestTrialIsCutOff(t *testing.T) {
	t.Parallel()
	for _, cut := range []string{"current", "trial.json", "back"} {
		t.Run("before "+cut, func(t *testing.T) {
			t.Parallel()
			s, dir := tried(t)
			one, err := os.Readlink(filepath.Join(dir, "back"))
			if err != nil {
				t.Fatal(err)
			}
			// What is written from there on is undone.
			undo := map[string]func() error{
				"current":    func() error { return relink(filepath.Join(dir, "current"), one) },
				"trial.json": func() error { return os.Remove(filepath.Join(dir, "trial.json")) },
				"back":       func() error { return os.Remove(filepath.Join(dir, "back")) },
			}
			for _, file := range []string{"current", "trial.json", "back"} {
				must(t, undo[file]())
				if file == cut {
					break
				}
			}
			began(t, s, "a", 1, "")
			currentIs(t, s, "1")
			if trial, err := s.Trial("ferryman"); err != nil || trial != (install.Trial{}) {
				t.Fatalf("got %+v, %v; want no trial", trial, err)
			}
			try(t, s, "2", 7)
			currentIs(t, s, "2")
			if trial, err := s.Trial("ferryman"); err != nil || !trial.Open() {
				t.Fatalf("got %+v, %v; want a trial", trial, err)
			}
		})
	}
}

// While a release is on trial its way back stays, whatever becomes of the next
// switch: here there is no room for its record.
func TestTheWayBackOfATrialStays(t *testing.T) {
	t.Parallel()
	s, dir := tried(t)
	began(t, s, "a", 1, "")
	must(t, os.Mkdir(filepath.Join(dir, ".tmp-trial.json"), 0o755))
	if err := s.Try(t.Context(), "ferryman", "", "", 9, time.Minute); err == nil {
		t.Fatal("a trial without a record began")
	}
	currentIs(t, s, "2")
	try(t, s, "1", 10) // takes no room
	currentIs(t, s, "1")
}

func relink(path, name string) error {
	return errors.Join(os.Remove(path), os.Symlink(name, path))
}

// What is on trial and what it would go back to are never deleted.
func TestPruneSparesATrial(t *testing.T) {
	t.Parallel()
	s, _ := tried(t)
	gone, err := s.Prune(t.Context(), "ferryman", 0)
	if err != nil || len(gone) > 0 {
		t.Errorf("got %v, %v; want nothing to go", gone, err)
	}
}

// A release that its check refuses is not staged, and stays away.
func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	said := errors.New("it is for another kind of machine")
	s := open(t, base(t), install.Options{Check: func(_ context.Context, _, _, dir string) error {
		if _, err := os.Stat(filepath.Join(dir, "bin", "ferryman")); err != nil {
			t.Error(err)
		}
		return said
	}})
	r := local(t, gz(t, tarOf(t, program("bin/ferryman", "x"))))
	if _, err := s.Stage(t.Context(), "ferryman", "3", r); !errors.Is(err, said) || !errors.Is(err, install.ErrRefused) {
		t.Errorf("got %v, want that it is refused because %v", err, said)
	}
	if s.Staged("ferryman", "3", r.Archive.SHA256) {
		t.Error("it counts as staged")
	}
}
