package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ferryman"
)

// Dnf is the Tool of dnf 4 and rpm. dnf finds and downloads; rpm alone installs, as it does just what its files say: it looks for nothing, needs no source,
// and removes nothing but what they name as obsolete.
type Dnf struct {
	Host Host
	// Keep has what a loss of power must not take with it: that a switch was begun.
	Keep Keep
	// Config is the file in which packages are held.
	Config string
}

const (
	// dnf is what dnf 4 is called on every distribution, also where dnf is another.
	dnf       = "dnf-3"
	dnfConfig = "/etc/dnf/dnf.conf"
	// signed has rpm take nothing but what a key that it knows signed, whatever is configured.
	signed = "_pkgverify_level all"
	header = `%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} %{ARCH}\n`
)

// managers are where systemd can be asked to start something.
var managers = []string{"/run/systemd/private", "/run/dbus/system_bus_socket"}

// rpm is a package's file, or an installed package.
type rpm struct {
	ferryman.Package
	arch string
}

// rpms reads what a query with header printed.
func rpms(out string) (all []rpm) {
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 {
			all = append(all, rpm{ferryman.Package{Name: f[0], Version: strings.TrimPrefix(f[1], "0:")}, f[2]})
		}
	}
	return all
}

// installed are the instances of a package; a kernel has several, and so has what a switch left that was cut off.
func (d Dnf) installed(ctx context.Context, name string) ([]rpm, error) {
	if err := (ferryman.Package{Name: name, Version: "0"}).Check(); err != nil {
		return nil, err
	}
	out, err := run(ctx, d.Host, "", "rpm", "-q", "--qf", header, name)
	if err != nil && !strings.Contains(err.Error(), "is not installed") {
		return nil, err
	}
	return slices.DeleteFunc(rpms(out), func(r rpm) bool { return r.Name != name }), nil
}

// Installed is described at Packages.
func (d Dnf) Installed(ctx context.Context, name string) (string, error) {
	all, err := d.installed(ctx, name)
	if err != nil || len(all) == 0 || d.begun(name) {
		return "", err
	}
	for _, r := range all {
		if r.Version != all[0].Version {
			return "", nil
		}
	}
	return all[0].Version, nil
}

func (d Dnf) places() (changing, asking []string, database string) {
	return []string{"/var/lib/dnf/rpmdb_lock.pid", "/var/lib/rpm/.rpm.lock"}, []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid"}, "/var/lib/rpm"
}

func (d Dnf) broken(ctx context.Context) (string, error) {
	if _, err := run(ctx, d.Host, "", "rpmdb", "--verifydb"); err != nil {
		return fmt.Sprintf("%v\nmend it first: rpmdb --rebuilddb", err), nil
	}
	cut, err := d.Host.Glob(d.mark("*"))
	if err != nil || len(cut) == 0 {
		return "", err
	}
	return fmt.Sprintf("a switch was cut off, as %s says: the agent's next switch or start of the database ends it; if it is no more, reinstall the package and remove that file", cut[0]), nil
}

// mend leaves rpm's database to a person. A switch that was cut off is ended by doing it again, as its package counts as not installed.
func (d Dnf) mend(ctx context.Context, _ ferryman.Package, _ Keep) error {
	if _, err := run(ctx, d.Host, "", "rpmdb", "--verifydb"); err != nil {
		return fmt.Errorf("the package manager is broken: %w\nmend it first: rpmdb --rebuilddb", err)
	}
	return nil
}

// quiet tries to reach systemd. What knows that it is offline does not even try (SYSTEMD_OFFLINE): that ends well, and what tries does not.
func (d Dnf) quiet(context.Context) error {
	for _, path := range managers {
		if d.Host.Answers(path) {
			return fmt.Errorf("the scripts of packages could start and stop what they like: %s answers here, and does not in ferryman-install@.service as Ferryman's rpm has it, which alone runs this", path)
		}
	}
	return nil
}

func (d Dnf) install(ctx context.Context, p ferryman.Package, paths []string, own []ferryman.Package, only bool) error {
	if err := d.removes(ctx, paths, own); err != nil {
		return err
	}
	args := slices.Concat([]string{"--upgrade", "--oldpackage", "--replacepkgs", "--define", signed}, paths)
	if _, err := run(ctx, d.Host, "", "rpm", append([]string{"--test"}, args...)...); err != nil || only {
		if err != nil {
			err = fmt.Errorf("it cannot be installed as a whole: %w", err)
		}
		return err
	}
	// rpm does not wait for the disk, nor can what it left half done be told: until all is on the disk the package counts as not installed.
	if err := context.Cause(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // from here on it is ended, as with change
	mark := d.mark(p.Name)
	if err := WriteFile(mark, []byte(p.Version+"\n"), 0o644); err != nil {
		return err
	}
	if _, err := d.Host.Run(ctx, "", "env", append([]string{"SYSTEMD_OFFLINE=1", "rpm"}, args...)...); err != nil {
		// Whether it changed anything cannot be told: it may have written files before its database says so.
		return fmt.Errorf("rpm %s: %w\nuntil the next switch ends this %s counts as not installed, as %s says", args[0], err, p.Name, mark)
	}
	if _, err := run(ctx, d.Host, "", "sync"); err != nil {
		return err
	}
	return errors.Join(os.Remove(mark), syncDir(string(d.Keep)))
}

// mark is there while a package is being installed.
func (d Dnf) mark(name string) string { return filepath.Join(string(d.Keep), name+".begun") }

func (d Dnf) begun(name string) bool {
	_, err := os.Lstat(d.mark(name))
	return err == nil
}

// removes refuses files that name as obsolete what the host has, in whatever version.
func (d Dnf) removes(ctx context.Context, paths []string, own []ferryman.Package) error {
	out, err := run(ctx, d.Host, "", "rpm", slices.Concat([]string{"-qp", "--obsoletes"}, paths)...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 || slices.ContainsFunc(own, func(p ferryman.Package) bool { return p.Name == f[0] }) {
			continue
		}
		now, err := d.installed(ctx, f[0])
		if err == nil && len(now) > 0 {
			err = fmt.Errorf("it would remove %s: rpm is not let; free the host of what stands in the way first", f[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d Dnf) hold(_ context.Context, own []ferryman.Package) error {
	path, err := filepath.EvalSymlinks(d.Config)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if next := holding(string(raw), own); err == nil && next != string(raw) {
		err = WriteFile(path, []byte(next), info.Mode().Perm())
	}
	return err
}
