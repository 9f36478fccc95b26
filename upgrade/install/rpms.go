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

var (
	// dnfAnswers are what dnf is told in the place of a person. What this package holds is not hidden from it.
	dnfAnswers = []string{"-y", "-q", "--color=never", "--disableplugin=versionlock", "--disableexcludes=main", "--setopt=install_weak_deps=False",
		"--setopt=exit_on_lock=True"}
	dnfCaches = []string{"/var/cache/dnf/*/packages", "/var/cache/libdnf5/*/packages"}
)

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
		now, err := d.installed(ctx, p.Name)
		if err != nil {
			return nil, err
		}
		arches := []string{"*"}
		if len(now) > 0 { // no other can take its place
			arches = []string{now[0].arch, "noarch"}
		}
		var found []string
		for _, cache := range dnfCaches {
			for _, arch := range arches {
				more, err := d.Host.Glob(filepath.Join(cache, p.Name+"-"+version+"."+arch+".rpm"))
				if err != nil {
					return nil, err
				}
				found = append(found, more...)
			}
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

// download has dnf judge no file: told -y, it would import the key that a source names. Read judges. --nogpgcheck is not it, as it takes the check of the
// sources' own lists away too.
func (d Dnf) download(ctx context.Context, dir, verb string, parts []ferryman.Package) error {
	_, err := run(ctx, d.Host, dir, dnf, slices.Concat([]string{verb, "--downloadonly", "--downloaddir=" + dir, "--setopt=*.gpgcheck=0"}, dnfAnswers, nevrs(parts))...)
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
