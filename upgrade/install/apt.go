package install

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ferryman"
)

// Apt is the Tool of apt and dpkg: what it installs is a whole transaction or nothing of it.
type Apt struct{ Host Host }

var (
	policy   = "/usr/sbin/policy-rc.d"
	aptCache = "/var/cache/apt/archives"
	// aptAnswers are what apt is told in the place of a person: what is configured stays as it is.
	aptAnswers = []string{"-y", "-q", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages",
		"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"}
)

// Installed is described at Packages.
func (a Apt) Installed(ctx context.Context, name string) (string, error) {
	if err := (ferryman.Package{Name: name, Version: "0"}).Check(); err != nil {
		return "", err
	}
	out, err := run(ctx, a.Host, "", "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}\n", name)
	if err != nil && !strings.Contains(err.Error(), "no packages found") {
		return "", err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "installed" {
			return f[1], nil
		}
	}
	return "", nil
}

func (a Apt) places() (changing, asking []string, database string) {
	return []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"}, nil, "/var/lib/dpkg"
}

func (a Apt) broken(ctx context.Context) (string, error) {
	out, err := run(ctx, a.Host, "", "dpkg", "--audit")
	if out = strings.TrimSpace(out); out != "" {
		out = fmt.Sprintf("dpkg --audit says: %s\nmend it first: dpkg --configure -a, and apt-get -f install", ferryman.LastLines(out, maxTail))
	}
	return out, err
}

// quiet asks the program that scripts ask whether they may start anything.
func (a Apt) quiet(ctx context.Context) error {
	if _, err := a.Host.Run(ctx, "", policy); err == nil || !strings.Contains(err.Error(), "exit status 101") {
		return fmt.Errorf("the scripts of packages could start and stop what they like: %s does not forbid it here, as it does in ferryman-install@.service, which alone runs this (%v)", policy, err)
	}
	return nil
}

// mend has dpkg configure what was unpacked, and unpack anew what was being unpacked, as long as it belongs to what is switched to.
func (a Apt) mend(ctx context.Context, p ferryman.Package, keep Keep) error {
	if broken, err := a.broken(ctx); err != nil || broken == "" {
		return err
	}
	failed := change(ctx, a.Host, "dpkg", "--configure", "-a", "--force-confdef", "--force-confold")
	halves, err := a.halves(ctx)
	if err != nil {
		return err
	}
	if kept, err := keep.Read(p); err == nil && len(halves) > 0 {
		foreign := slices.ContainsFunc(halves, func(name string) bool {
			return !slices.ContainsFunc(kept.Files, func(f KeptFile) bool { return f.Name == name })
		})
		own := slices.DeleteFunc(slices.Clone(kept.Files), func(f KeptFile) bool { return f.Extra && !slices.Contains(halves, f.Name) })
		if !foreign {
			paths, err := keep.verify(p, own)
			if err != nil {
				return err
			}
			failed = change(ctx, a.Host, "dpkg", slices.Concat([]string{"--install", "--force-confdef", "--force-confold"}, paths)...)
		}
	}
	err = unbroken(ctx, a)
	if err != nil && failed != nil {
		err = fmt.Errorf("%w; from here it cannot be mended: %w", err, failed)
	}
	return err
}

// halves are the packages that are neither installed nor not.
func (a Apt) halves(ctx context.Context) (names []string, err error) {
	out, err := run(ctx, a.Host, "", "dpkg-query", "-W", "-f", "${Package} ${db:Status-Eflag} ${db:Status-Status}\n")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[1] != "ok" || !slices.Contains([]string{"installed", "config-files", "not-installed"}, f[2])) {
			names = append(names, f[0])
		}
	}
	return names, err
}

func (a Apt) versions(ctx context.Context, name string, anew bool) ([]string, error) {
	if anew {
		if _, err := run(ctx, a.Host, "", "apt-get", "-q", "update"); err != nil {
			return nil, err
		}
	}
	out, err := run(ctx, a.Host, "", "apt-cache", "madison", name)
	return madison(out), err
}

// madison reads the versions that sources have: "name | version | source".
func madison(text string) (versions []string) {
	for line := range strings.Lines(text) {
		if f := strings.Split(line, "|"); len(f) == 3 && strings.HasSuffix(strings.TrimSpace(f[2]), "Packages") {
			if v := strings.TrimSpace(f[1]); !slices.Contains(versions, v) {
				versions = append(versions, v)
			}
		}
	}
	return versions
}

// offered are the fields of a package's own metadata.
func (a Apt) offered(ctx context.Context, p ferryman.Package) (map[string]string, error) {
	out, err := run(ctx, a.Host, "", "apt-cache", "show", p.Name+"="+p.Version)
	if err != nil {
		return nil, err
	}
	return control(out), nil
}

func (a Apt) needs(ctx context.Context, p ferryman.Package, installed bool) (needs []ferryman.Package, err error) {
	var fields map[string]string
	if installed {
		var out string
		out, err = run(ctx, a.Host, "", "dpkg-query", "-W", "-f", "Pre-Depends: ${Pre-Depends}\nDepends: ${Depends}\n", p.Name)
		fields = control(out)
	} else {
		fields, err = a.offered(ctx, p)
	}
	for _, dep := range strings.Split(fields["Pre-Depends"]+","+fields["Depends"], ",") {
		if m := debExactly.FindStringSubmatch(strings.TrimSpace(dep)); m != nil {
			needs = append(needs, ferryman.Package{Name: m[1], Version: m[2]})
		}
	}
	return needs, err
}

func (a Apt) sizes(ctx context.Context, parts []ferryman.Package) (files, unpacked int64) {
	for _, part := range parts {
		fields, err := a.offered(ctx, part)
		if err != nil {
			continue // installed, and offered by nobody any more
		}
		size, _ := strconv.ParseInt(fields["Size"], 10, 64)
		kib, _ := strconv.ParseInt(fields["Installed-Size"], 10, 64)
		files, unpacked = files+size, unpacked+kib<<10
	}
	return files, unpacked
}

// control reads the first paragraph of what describes a package; lines that go on are not needed.
func control(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			break
		}
		if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields
}

var debExactly = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+)(?::any)? \(= ([^()]+)\)$`)

// names are what apt-get install takes.
func names(parts []ferryman.Package) (out []string) {
	for _, p := range parts {
		out = append(out, p.Name+"="+p.Version)
	}
	return out
}

var (
	wouldInstall = regexp.MustCompile(`^Inst (\S+?)(?::\S+)? (?:\[(\S+)\] )?\((\S+)`)
	wouldRemove  = regexp.MustCompile(`^(?:Remv|Purg) (\S+)`)
)

// simulate asks apt what it would do, and refuses what reaches further than the package. Added is what the host has nothing of.
func (a Apt) simulate(ctx context.Context, what []string, parts []ferryman.Package) (added []ferryman.Package, err error) {
	out, err := run(ctx, a.Host, "", "apt-get", slices.Concat([]string{"install", "-s"}, aptAnswers, what)...)
	if err != nil {
		return nil, fmt.Errorf("it cannot be installed as a whole: %w", err)
	}
	var removes, touches []string
	idle := true
	for line := range strings.Lines(out) {
		if m := wouldRemove.FindStringSubmatch(line); m != nil {
			removes = append(removes, m[1])
		}
		m := wouldInstall.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		next := ferryman.Package{Name: m[1], Version: m[3]}
		if err := next.Check(); err != nil {
			return nil, err
		}
		idle = false
		switch {
		case slices.Contains(parts, next):
		case m[2] != "":
			touches = append(touches, fmt.Sprintf("%s %s → %s", m[1], m[2], m[3]))
		default:
			added = append(added, next)
		}
	}
	if idle && len(removes) == 0 {
		return nil, fmt.Errorf("apt would do nothing for %s", strings.Join(what, " "))
	}
	if len(removes) > 0 {
		return nil, fmt.Errorf("it would remove %s: apt is not let; free the host of what stands in the way first", strings.Join(removes, ", "))
	}
	if len(touches) > 0 {
		return nil, fmt.Errorf("it would also change %s, which is none of it: bring these to that version on every host first", strings.Join(touches, ", "))
	}
	return added, nil
}

func (a Apt) gather(ctx context.Context, dir string, parts []ferryman.Package) ([]KeptFile, error) {
	added, err := a.simulate(ctx, names(parts), parts)
	if err != nil {
		return nil, err
	}
	files, err := a.regather(ctx, dir, slices.Concat(parts, added))
	for i := range files {
		files[i].Extra = i >= len(parts)
	}
	return files, err
}

func (a Apt) regather(ctx context.Context, dir string, parts []ferryman.Package) (files []KeptFile, err error) {
	for _, part := range parts {
		file, err := a.fetch(ctx, dir, part)
		if err != nil {
			return nil, err
		}
		files = append(files, KeptFile{Package: part, File: file})
	}
	return files, nil
}

// fetch brings a package's file into a directory: out of apt's cache, from the sources, which apt verifies, or made from what is installed.
func (a Apt) fetch(ctx context.Context, dir string, p ferryman.Package) (string, error) {
	pattern := p.Name + "_" + escaped(p.Version) + "_*.deb"
	found := func(in string) (string, error) {
		files, err := a.Host.Glob(filepath.Join(in, pattern))
		if err != nil || len(files) != 1 {
			return "", err
		}
		return files[0], nil
	}
	cached, err := found(aptCache)
	if err == nil && cached != "" {
		_, err = run(ctx, a.Host, dir, "cp", "--", cached, filepath.Join(dir, filepath.Base(cached)))
		return filepath.Base(cached), err
	}
	_, failed := run(ctx, a.Host, dir, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", p.Name+"="+p.Version)
	if failed != nil {
		now, err := a.Installed(ctx, p.Name)
		if strings.Contains(failed.Error(), "Hash Sum mismatch") {
			failed = fmt.Errorf("a source of this host serves another file than its own index says: mend the source; %w", failed)
		}
		if err != nil || now != p.Version {
			return "", failed
		}
		if _, err := run(ctx, a.Host, dir, "dpkg-repack", p.Name); err != nil {
			return "", fmt.Errorf("%w; nor is it in apt's cache %s, nor is there dpkg-repack, which makes its file anew (%w): add the source that has it, or install dpkg-repack", failed, aptCache, err)
		}
		pattern = p.Name + "_*.deb" // dpkg-repack leaves the epoch out
	}
	path, err := found(dir)
	if err == nil && path == "" {
		err = fmt.Errorf("package %s %s was fetched, and there is no file %s", p.Name, p.Version, pattern)
	}
	return filepath.Base(path), err
}

func (a Apt) install(ctx context.Context, _ ferryman.Package, paths []string, own []ferryman.Package, only bool) error {
	if _, err := a.simulate(ctx, paths, own); err != nil || only {
		return err
	}
	return change(ctx, a.Host, "apt-get", slices.Concat([]string{"install", "--no-remove"}, aptAnswers, paths)...)
}

func (a Apt) hold(ctx context.Context, own []ferryman.Package) error {
	args := []string{"hold"}
	for _, p := range own {
		args = append(args, p.Name)
	}
	return change(ctx, a.Host, "apt-mark", args...)
}
