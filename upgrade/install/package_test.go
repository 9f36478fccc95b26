package install_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman"
	"ferryman/upgrade/install"
	"ferryman/upgrade/install/fake"
)

// installer is a host that installs what is asked for.
type installer struct {
	kept      map[ferryman.Package]bool
	installed map[string]string
	asked     []string
	err       error
	idle      bool // it says that all went well, and does nothing
}

func (i *installer) Stage(_ context.Context, key string, p ferryman.Package) error {
	i.asked = append(i.asked, "stage "+key)
	if i.err == nil && !i.idle {
		i.kept[p] = true
	}
	return i.err
}

func (i *installer) Switch(_ context.Context, key string, p ferryman.Package) error {
	i.asked = append(i.asked, "switch "+key)
	if i.err == nil && !i.idle {
		i.installed[p.Name] = p.Version
	}
	return i.err
}

func (i *installer) Kept(p ferryman.Package) bool { return i.kept[p] }

func (i *installer) Installed(name string) (string, error) {
	return i.installed[name], nil
}

func newInstaller() *installer {
	return &installer{kept: map[ferryman.Package]bool{}, installed: map[string]string{"valkey": "7"}}
}

func packaged(version string) ferryman.Release {
	return ferryman.Release{Package: &ferryman.Package{Name: "valkey", Version: version}}
}

// A package has a directory as an archive has, and a cluster can go from one to the other and back.
func TestPackagesAndArchivesTakeTurns(t *testing.T) {
	t.Parallel()
	host := newInstaller()
	dir := base(t)
	s := open(t, dir, install.Options{Packages: host})
	archive := stage(t, s, "7.0")
	in, err := s.Stage(t.Context(), "valkey", "8.0", packaged("8"))
	must(t, err)
	if in.SHA256 != install.Digest(packaged("8")) || in.Release().Digest() != "package:valkey=8" || host.installed["valkey"] != "7" {
		t.Errorf("staged: got %+v; the host has %v", in, host.installed)
	}
	if about, err := os.ReadFile(filepath.Join(in.Path, "release.json")); err != nil || string(about) != `{"version":"8.0"}` {
		t.Errorf("release.json: got %q, %v", about, err)
	}
	if to, err := os.Readlink(filepath.Join(in.Path, "bin")); err != nil || to != "/usr/bin" {
		t.Errorf("its programs: got %s, %v", to, err)
	}
	all, err := s.List("valkey")
	if err != nil || len(all) != 2 {
		t.Errorf("staged are %v, %v; want both", all, err)
	}
	for _, turn := range []install.Installed{archive, in, archive, in} {
		must(t, s.Switch(t.Context(), "valkey", turn.Version, turn.SHA256))
		if cur, err := s.Current("valkey"); err != nil || cur.Path != turn.Path {
			t.Errorf("current: got %+v, %v; want %s", cur, err, turn.Path)
		}
	}
	if host.installed["valkey"] != "8" {
		t.Errorf("the host has %v", host.installed)
	}
	// A database's unit, which may run no other program, reads the same.
	if cur, err := open(t, dir, install.Options{}).Current("valkey"); err != nil || cur.Path != in.Path {
		t.Errorf("current for the database's unit: got %+v, %v", cur, err)
	}
}

// What the host has counts, whatever was done.
func TestAPackageIsWhatTheHostHas(t *testing.T) {
	t.Parallel()
	host := newInstaller()
	s := open(t, base(t), install.Options{Packages: host})
	in, err := s.Stage(t.Context(), "valkey", "8.0", packaged("8"))
	must(t, err)
	must(t, s.Switch(t.Context(), "valkey", "8.0", in.SHA256))
	host.installed["valkey"] = "9" // by a person
	if _, err := s.Current("valkey"); err == nil || !strings.Contains(err.Error(), "the host has 9 of package valkey, and 8 is selected") {
		t.Errorf("current: got %v, want that the host has another", err)
	}
	must(t, s.Switch(t.Context(), "valkey", "8.0", in.SHA256))
	if host.installed["valkey"] != "8" {
		t.Errorf("switched: the host has %v", host.installed)
	}
	n := len(host.asked)
	must(t, s.Switch(t.Context(), "valkey", "8.0", in.SHA256))
	if len(host.asked) != n {
		t.Errorf("root was asked for what is there: %q", host.asked)
	}
	delete(host.kept, *in.Package) // it is installed, and can be started all the same
	if !s.Staged("valkey", "8.0", in.SHA256) {
		t.Error("what is installed does not count as staged")
	}
	host.installed["valkey"] = "9"
	if s.Staged("valkey", "8.0", in.SHA256) {
		t.Error("what is neither kept nor installed counts as staged")
	}
	if err := s.Switch(t.Context(), "valkey", "8.0", in.SHA256); !errors.Is(err, install.ErrNotStaged) {
		t.Errorf("got %v, want ErrNotStaged", err)
	}
	must(t, first(s.Stage(t.Context(), "valkey", "8.0", packaged("8"))))
	must(t, s.Switch(t.Context(), "valkey", "8.0", in.SHA256))
}

func first(_ install.Installed, err error) error { return err }

func TestPackagesAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change  func(*installer)
		release ferryman.Release
		want    string
	}{
		"root refuses": {func(i *installer) { i.err = errors.New("not on the list") }, packaged("8"), "stage valkey 8.0, package valkey 8: not on the list"},
		"an option":    {func(*installer) {}, packaged("-o"), "not the version of a package"},
		"nothing kept": {func(i *installer) { i.idle = true }, packaged("8"), "is not there"},
	} {
		host := newInstaller()
		tt.change(host)
		dir := base(t)
		s := open(t, dir, install.Options{Packages: host})
		if err := first(s.Stage(t.Context(), "valkey", "8.0", tt.release)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
		if left := leftovers(t, dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
	host := newInstaller()
	s := open(t, base(t), install.Options{Packages: host})
	in, err := s.Stage(t.Context(), "valkey", "8.0", packaged("8"))
	must(t, err)
	host.idle = true
	if err := s.Switch(t.Context(), "valkey", "8.0", in.SHA256); err == nil || !strings.Contains(err.Error(), "the host has 7") {
		t.Errorf("a switch that did nothing: got %v", err)
	}
	if _, err := s.Current("valkey"); !errors.Is(err, install.ErrNone) {
		t.Errorf("current after a switch that did nothing: got %v, want ErrNone", err)
	}
}

// What tests of the agent use takes packages as the real one does.
func TestTheFakeTakesPackages(t *testing.T) {
	t.Parallel()
	var f fake.Store
	in, err := f.Stage(t.Context(), "valkey", "8.0", packaged("8"))
	must(t, err)
	must(t, f.Switch(t.Context(), "valkey", "8.0", install.Digest(packaged("8"))))
	cur, err := f.Current("valkey")
	if err != nil || cur.Path != in.Path || cur.Release().Digest() != "package:valkey=8" {
		t.Errorf("current: got %+v, %v", cur, err)
	}
}
