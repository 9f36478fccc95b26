package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

var (
	// dnfAnswers are what dnf is told in the place of a person. What this package holds is not hidden from it.
	dnfAnswers = []string{"-y", "-q", "--color=never", "--disableplugin=versionlock", "--disableexcludes=main", "--setopt=install_weak_deps=False",
		"--setopt=exit_on_lock=True"}
	dnfCaches = []string{"/var/cache/dnf/*/packages", "/var/cache/libdnf5/*/packages"}
	// managers are where systemd can be asked to start something.
	managers = []string{"/run/systemd/private", "/run/dbus/system_bus_socket"}
)

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

func (d Dnf) places() (locks []string, database string) {
	return []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid", "/var/lib/dnf/rpmdb_lock.pid", "/var/lib/rpm/.rpm.lock"}, "/var/lib/rpm"
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

func (d Dnf) versions(ctx context.Context, name string, anew bool) (versions []string, err error) {
	args := slices.Concat([]string{"repoquery"}, dnfAnswers, []string{"--available", "--qf", "%{name} %{epoch}:%{version}-%{release} %{arch}", name})
	if anew {
		args = append(args, "--refresh")
	}
	out, err := run(ctx, d.Host, "", dnf, args...)
	for _, r := range rpms(out) {
		if r.Name == name && !slices.Contains(versions, r.Version) {
			versions = append(versions, r.Version)
		}
	}
	return versions, err
}

// exact is what rpm calls a need of one version: "redis-tools(x86-64) = 7.0-1". It may be of what is no package's name.
var exact = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9+._-]+)(?:\([a-z0-9]+-(?:32|64)\))? = (\S+-\S+)$`)

func exactly(requires string) (needs []ferryman.Package) {
	for line := range strings.Lines(requires) {
		if m := exact.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			needs = append(needs, ferryman.Package{Name: m[1], Version: strings.TrimPrefix(m[2], "0:")})
		}
	}
	return needs
}

func (d Dnf) needs(ctx context.Context, p ferryman.Package, installed bool) (needs []ferryman.Package, err error) {
	var out string
	if installed {
		out, err = run(ctx, d.Host, "", "rpm", "-q", "--requires", p.Name)
	} else {
		out, err = run(ctx, d.Host, "", dnf, slices.Concat([]string{"repoquery"}, dnfAnswers, []string{"--available", "--requires", nevr(p)})...)
	}
	if err != nil {
		return nil, err
	}
	for _, need := range exactly(out) {
		if err := need.Check(); err != nil {
			return nil, err
		}
		var there []string
		if installed {
			var now string
			now, err = d.Installed(ctx, need.Name)
			there = []string{now}
		} else {
			there, err = d.versions(ctx, need.Name, false)
		}
		if err != nil {
			return nil, err
		}
		if slices.Contains(there, need.Version) {
			needs = append(needs, need)
		}
	}
	return needs, nil
}

// nevr is a version of a package as dnf takes it.
func nevr(p ferryman.Package) string {
	if strings.Contains(p.Version, ":") {
		return p.Name + "-" + p.Version
	}
	return p.Name + "-0:" + p.Version
}

func nevrs(parts []ferryman.Package) (out []string) {
	for _, p := range parts {
		out = append(out, nevr(p))
	}
	return out
}

func (d Dnf) sizes(ctx context.Context, parts []ferryman.Package) (files, unpacked int64) {
	out, err := run(ctx, d.Host, "", dnf, slices.Concat([]string{"repoquery"}, dnfAnswers, []string{"--available", "--qf", "%{downloadsize} %{installsize}"}, nevrs(parts))...)
	if err != nil {
		return 0, 0 // rpm looks as well, before it begins
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 {
			size, _ := strconv.ParseInt(f[0], 10, 64)
			installed, _ := strconv.ParseInt(f[1], 10, 64)
			files, unpacked = files+size, unpacked+installed
		}
	}
	return files, unpacked
}

// gather has dnf find out what it takes: what it downloads is what it would install.
func (d Dnf) gather(ctx context.Context, dir string, parts []ferryman.Package) ([]KeptFile, error) {
	if err := d.download(ctx, dir, "install", parts); err != nil {
		return nil, fmt.Errorf("it cannot be installed as a whole: %w", err)
	}
	files, err := d.read(ctx, dir)
	if err != nil {
		return nil, err
	}
	// dnf brings nothing that is there already.
	missing := slices.DeleteFunc(slices.Clone(parts), func(p ferryman.Package) bool {
		return slices.ContainsFunc(files, func(f KeptFile) bool { return f.Package == p })
	})
	if len(missing) > 0 {
		if files, err = d.regather(ctx, dir, missing); err != nil {
			return nil, err
		}
	}
	var touches []string
	for i := range files {
		f := &files[i]
		if slices.Contains(parts, f.Package) {
			continue
		}
		now, err := d.installed(ctx, f.Name)
		if err != nil {
			return nil, err
		}
		f.Extra = len(now) == 0
		if f.Extra {
			continue
		}
		// What needs the package in exactly one version goes with it too.
		out, err := run(ctx, d.Host, dir, "rpm", "-qp", "--requires", filepath.Join(dir, f.File))
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(exactly(out), func(need ferryman.Package) bool { return slices.Contains(parts, need) }) {
			touches = append(touches, fmt.Sprintf("%s %s → %s", f.Name, now[0].Version, f.Version))
		}
	}
	if len(touches) > 0 {
		return nil, fmt.Errorf("it would also change %s, which is none of it: bring these to that version on every host first", strings.Join(touches, ", "))
	}
	return files, nil
}

// regather takes dnf's caches first, where a person can put what no source has any more.
func (d Dnf) regather(ctx context.Context, dir string, parts []ferryman.Package) ([]KeptFile, error) {
	var missing []ferryman.Package
	for _, p := range parts {
		_, version, ok := strings.Cut(p.Version, ":")
		if !ok {
			version = p.Version
		}
		var found []string
		for _, cache := range dnfCaches {
			more, err := d.Host.Glob(filepath.Join(cache, p.Name+"-"+version+".*.rpm"))
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		if len(found) == 0 {
			missing = append(missing, p)
			continue
		}
		if _, err := run(ctx, d.Host, dir, "cp", "--", found[0], filepath.Join(dir, filepath.Base(found[0]))); err != nil {
			return nil, err
		}
	}
	if len(missing) > 0 {
		if err := d.download(ctx, dir, "reinstall", missing); err != nil {
			return nil, fmt.Errorf("%w; nor is it in dnf's caches %s: add the source that has it, or put its file into one of these", err, strings.Join(dnfCaches, ", "))
		}
	}
	files, err := d.read(ctx, dir)
	for _, p := range parts {
		if err == nil && !slices.ContainsFunc(files, func(f KeptFile) bool { return f.Package == p }) {
			err = fmt.Errorf("no package source of this host offers %s %s any more, nor is it in dnf's caches %s: add the source that has it, or put its file into one of these",
				p.Name, p.Version, strings.Join(dnfCaches, ", "))
		}
	}
	return files, err
}

func (d Dnf) download(ctx context.Context, dir, verb string, parts []ferryman.Package) error {
	_, err := run(ctx, d.Host, dir, dnf, slices.Concat([]string{verb, "--downloadonly", "--downloaddir=" + dir}, dnfAnswers, nevrs(parts))...)
	return err
}

// read reads the rpms in a directory, which a key has to have signed that rpm knows: dnf verifies only what it installs itself. It gives them plain names.
func (d Dnf) read(ctx context.Context, dir string) (files []KeptFile, err error) {
	paths, err := d.Host.Glob(filepath.Join(dir, "*.rpm"))
	if err != nil {
		return nil, err
	}
	seen := map[string]string{}
	for _, path := range paths {
		out, err := run(ctx, d.Host, dir, "rpmkeys", "--define", signed, "--checksig", path)
		if err == nil && !strings.Contains(out, "signatures OK") { // an rpm that does not know of levels
			err = errors.New(strings.TrimSpace(out))
		}
		if err != nil {
			return nil, fmt.Errorf("no key that rpm knows signed it: %w\nimport the key of its source on every node (rpm --import), or have the package signed", err)
		}
		if out, err = run(ctx, d.Host, dir, "rpm", "-qp", "--qf", header, path); err != nil {
			return nil, err
		}
		all := rpms(out)
		if len(all) != 1 {
			return nil, fmt.Errorf("%s is no package: rpm says %.200q", path, out)
		}
		r := all[0]
		if err := r.Check(); err != nil {
			return nil, err
		}
		if other := seen[r.Name]; other != "" {
			return nil, fmt.Errorf("%s would be installed more than once, as %s and %s: remove what the host has of one of these first", r.Name, other, r.arch)
		}
		seen[r.Name] = r.arch
		now, err := d.installed(ctx, r.Name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(now, func(o rpm) bool { return o.arch != r.arch && o.arch != "noarch" && r.arch != "noarch" }) {
			return nil, fmt.Errorf("%s is installed for %s, and would be for %s: remove that first", r.Name, now[0].arch, r.arch)
		}
		f := KeptFile{Package: r.Package, File: r.Name + "-" + escaped(r.Version) + "." + r.arch + ".rpm"}
		if err := os.Rename(path, filepath.Join(dir, f.File)); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
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
	mark := d.mark(p.Name)
	if err := errors.Join(os.WriteFile(mark, []byte(p.Version+"\n"), 0o644), syncDir(mark), syncDir(string(d.Keep))); err != nil {
		return err
	}
	if _, err := d.Host.Run(ctx, "", "env", append([]string{"SYSTEMD_OFFLINE=1", "rpm"}, args...)...); err != nil {
		return fmt.Errorf("rpm %s: %w", args[0], err)
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
	raw, err := os.ReadFile(d.Config)
	if err != nil {
		return err
	}
	next := holding(string(raw), own)
	if next == string(raw) {
		return nil
	}
	return replace(d.Config, []byte(next))
}
