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
	"time"

	"ferryman"
)

// Apt installs packages with apt and dpkg, as root: a whole transaction or nothing of it, and only one that concerns the package, what belongs to the
// very same version of it, and what the host has nothing of yet. Nothing that runs is touched by it: packaging/systemd/ferryman-install@.service says how.
type Apt struct {
	Keep Keep
	Host Host
	// Patience is how long it waits for another that uses the package manager.
	Patience time.Duration
}

// Host is what Apt does to a host, and asks of it.
type Host interface {
	// Run runs a program in a directory, and returns what it prints. An error ends with what it printed last.
	Run(ctx context.Context, dir, program string, args ...string) (string, error)
	// Locked names the process that holds the lock at path; empty when none does.
	Locked(path string) (string, error)
	// Room is how many bytes may still be written to the file system of path.
	Room(path string) (int64, error)
	// Glob finds files.
	Glob(pattern string) ([]string, error)
}

var (
	aptLocks = []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"}
	policy   = "/usr/sbin/policy-rc.d"
	aptCache = "/var/cache/apt/archives"
	// aptAnswers are what apt is told in the place of a person: what is configured stays as it is.
	aptAnswers = []string{"-y", "-q", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages",
		"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"}
)

// sparePart is how much more than the packages themselves there has to be room for.
const sparePart = 64 << 20

// Stage is described at Packages. Count is how many versions stay kept.
func (a Apt) Stage(ctx context.Context, p ferryman.Package, count int) error {
	if err := a.sound(ctx); err != nil {
		return err
	}
	now, err := a.Installed(ctx, p.Name)
	if err != nil {
		return err
	}
	var parts []ferryman.Package
	var changes transaction
	if now == p.Version {
		if parts, err = a.together(ctx, p, a.installedFacts); err != nil {
			return err
		}
	} else {
		if err := a.offered(ctx, p); err != nil {
			return err
		}
		if parts, err = a.together(ctx, p, a.offeredFacts); err != nil {
			return err
		}
		if changes, err = a.simulate(ctx, names(parts), parts); err != nil {
			return err
		}
	}
	if err := a.room(ctx, slices.Concat(parts, changes.added)); err != nil {
		return err
	}
	if now != "" && now != p.Version {
		if err := a.keepInstalled(ctx, ferryman.Package{Name: p.Name, Version: now}, changes.replaced); err != nil {
			return fmt.Errorf("there would be no way back, as %s %s, which is installed, cannot be kept: %w", p.Name, now, err)
		}
	}
	if _, err := a.Keep.Read(p); err != nil {
		if err := a.Keep.put(p, parts, changes.added, a.fetcher(ctx)); err != nil {
			return err
		}
	}
	if now != p.Version {
		if _, err := a.install(ctx, p, true); err != nil {
			return fmt.Errorf("out of what is kept %w", err)
		}
	}
	return a.Keep.prune(p.Name, max(count, 2), p.Version, now)
}

// Switch is described at Packages.
func (a Apt) Switch(ctx context.Context, p ferryman.Package) error {
	if err := a.quiet(ctx); err != nil {
		return err
	}
	if err := a.unlocked(ctx); err != nil {
		return err
	}
	if err := a.mend(ctx, p); err != nil {
		return err
	}
	own, err := a.install(ctx, p, false)
	if err != nil {
		return err
	}
	now, err := a.Installed(ctx, p.Name)
	if err == nil && now != p.Version {
		err = fmt.Errorf("apt-get ended well, and %s is at %q, not at %s", p.Name, now, p.Version)
	}
	if err != nil {
		return err
	}
	return a.hold(ctx, own)
}

// install installs what is kept, or asks apt whether it would. It returns what holds the package together.
func (a Apt) install(ctx context.Context, p ferryman.Package, only bool) (own []ferryman.Package, err error) {
	kept, err := a.Keep.Read(p)
	if err != nil {
		// It is the one that is installed, perhaps; then nothing of it is needed.
		if now, nowErr := a.Installed(ctx, p.Name); nowErr != nil || now != p.Version {
			return nil, errors.Join(err, nowErr)
		}
		return []ferryman.Package{p}, nil
	}
	var files []KeptFile // that are needed
	there := true
	for _, f := range kept.Files {
		now, err := a.Installed(ctx, f.Name)
		if err != nil {
			return nil, err
		}
		if f.Extra && now != "" {
			continue
		}
		files, there = append(files, f), there && now == f.Version
		if !f.Extra {
			own = append(own, f.Package)
		}
	}
	if there {
		return own, nil
	}
	paths, err := a.Keep.verify(p, files)
	if err != nil {
		return nil, err
	}
	if _, err := a.simulate(ctx, paths, own); err != nil || only {
		return own, err
	}
	_, err = a.run(ctx, "", "apt-get", slices.Concat([]string{"install", "--no-remove"}, aptAnswers, paths)...)
	return own, err
}

// hold keeps everybody else from upgrading the packages behind the cluster's back.
func (a Apt) hold(ctx context.Context, own []ferryman.Package) error {
	args := []string{"hold"}
	for _, p := range own {
		args = append(args, p.Name)
	}
	_, err := a.run(ctx, "", "apt-mark", args...)
	return err
}

// Installed is described at Packages.
func (a Apt) Installed(ctx context.Context, name string) (string, error) {
	if err := (ferryman.Package{Name: name, Version: "0"}).Check(); err != nil {
		return "", err
	}
	out, err := a.run(ctx, "", "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}\n", name)
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

// quiet tells that scripts of packages start, restart and stop nothing now: they ask this program whether they may.
func (a Apt) quiet(ctx context.Context) error {
	if _, err := a.Host.Run(ctx, "", policy); err == nil || !strings.Contains(err.Error(), "exit status 101") {
		return fmt.Errorf("the scripts of packages could start and stop what they like: %s does not forbid it here, as it does in ferryman-install@.service, which alone runs this (%v)", policy, err)
	}
	return nil
}

// sound refuses to begin where a package manager is at work, or was cut off.
func (a Apt) sound(ctx context.Context) error {
	if err := a.unlocked(ctx); err != nil {
		return err
	}
	broken, err := a.run(ctx, "", "dpkg", "--audit")
	if err != nil {
		return err
	}
	if broken = strings.TrimSpace(broken); broken != "" {
		return fmt.Errorf("the package manager is broken: dpkg --audit says: %s\nmend it first: dpkg --configure -a, and apt-get -f install", tail(broken))
	}
	return nil
}

// mend ends what was cut off in the middle: an earlier switch, most likely, by a loss of power. What was unpacked is configured, and what was being
// unpacked is put there anew, as long as it belongs to what is switched to.
func (a Apt) mend(ctx context.Context, p ferryman.Package) error {
	broken, err := a.run(ctx, "", "dpkg", "--audit")
	if err != nil || strings.TrimSpace(broken) == "" {
		return err
	}
	_, failed := a.run(ctx, "", "dpkg", "--configure", "-a", "--force-confdef", "--force-confold")
	halves, err := a.halves(ctx)
	if err != nil {
		return err
	}
	if kept, err := a.Keep.Read(p); err == nil && len(halves) > 0 {
		foreign := slices.ContainsFunc(halves, func(name string) bool {
			return !slices.ContainsFunc(kept.Files, func(f KeptFile) bool { return f.Name == name })
		})
		own := slices.DeleteFunc(slices.Clone(kept.Files), func(f KeptFile) bool { return f.Extra && !slices.Contains(halves, f.Name) })
		if !foreign {
			paths, err := a.Keep.verify(p, own)
			if err != nil {
				return err
			}
			_, failed = a.run(ctx, "", "dpkg", slices.Concat([]string{"--install", "--force-confdef", "--force-confold"}, paths)...)
		}
	}
	err = a.sound(ctx)
	if err != nil && failed != nil {
		err = fmt.Errorf("%w; from here it cannot be mended: %w", err, failed)
	}
	return err
}

// halves are the packages that are neither installed nor not.
func (a Apt) halves(ctx context.Context) (names []string, err error) {
	out, err := a.run(ctx, "", "dpkg-query", "-W", "-f", "${Package} ${db:Status-Eflag} ${db:Status-Status}\n")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[1] != "ok" || !slices.Contains([]string{"installed", "config-files", "not-installed"}, f[2])) {
			names = append(names, f[0])
		}
	}
	return names, err
}

func (a Apt) unlocked(ctx context.Context) error {
	end := time.Now().Add(a.Patience)
	for {
		who := ""
		for _, path := range aptLocks {
			by, err := a.Host.Locked(path)
			if err != nil {
				return err
			}
			if by != "" {
				who = fmt.Sprintf("%s holds %s", by, path)
			}
		}
		if who == "" {
			return nil
		}
		if !time.Now().Before(end) {
			return fmt.Errorf("the package manager is locked: %s for more than %s; it is tried again, and goes on once that has ended", who, a.Patience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(a.Patience, time.Second)):
		}
	}
}

// offered refuses a version that no source of this host has, after it has asked them anew.
func (a Apt) offered(ctx context.Context, p ferryman.Package) error {
	look := func() (string, error) { return a.run(ctx, "", "apt-cache", "madison", p.Name) }
	all, err := look()
	if err != nil {
		return err
	}
	if slices.Contains(madison(all), p.Version) {
		return nil
	}
	_, failed := a.run(ctx, "", "apt-get", "-q", "update")
	if all, err = look(); err != nil {
		return err
	}
	versions := madison(all)
	if slices.Contains(versions, p.Version) {
		return nil
	}
	has := "they have " + strings.Join(versions, ", ")
	if len(versions) == 0 {
		has = "they have no version of it"
	}
	err = fmt.Errorf("no package source of this host offers %s %s: %s; correct the version, or add the source that has it", p.Name, p.Version, has)
	if failed != nil {
		err = fmt.Errorf("%w; and they could not be asked anew: %w", err, failed)
	}
	return err
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

// facts are the fields of a package's own metadata.
type facts func(ctx context.Context, p ferryman.Package) (map[string]string, error)

func (a Apt) offeredFacts(ctx context.Context, p ferryman.Package) (map[string]string, error) {
	out, err := a.run(ctx, "", "apt-cache", "show", p.Name+"="+p.Version)
	if err != nil {
		return nil, err
	}
	return control(out), nil
}

func (a Apt) installedFacts(ctx context.Context, p ferryman.Package) (map[string]string, error) {
	out, err := a.run(ctx, "", "dpkg-query", "-W", "-f", "Pre-Depends: ${Pre-Depends}\nDepends: ${Depends}\n", p.Name)
	if err != nil {
		return nil, err
	}
	return control(out), nil
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

var exactly = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+)(?::any)? \(= ([^()]+)\)$`)

// together are a package and those that it needs in exactly one version each, such as Debian's redis-server and redis-tools: apt would not find the
// older one of them by itself.
func (a Apt) together(ctx context.Context, p ferryman.Package, look facts) ([]ferryman.Package, error) {
	all := []ferryman.Package{p}
	for i := 0; i < len(all) && i < 32; i++ {
		fields, err := look(ctx, all[i])
		if err != nil {
			return nil, err
		}
		for _, dep := range strings.Split(fields["Pre-Depends"]+","+fields["Depends"], ",") {
			m := exactly.FindStringSubmatch(strings.TrimSpace(dep))
			if m == nil || slices.ContainsFunc(all, func(o ferryman.Package) bool { return o.Name == m[1] }) {
				continue
			}
			part := ferryman.Package{Name: m[1], Version: m[2]}
			if err := part.Check(); err != nil {
				return nil, fmt.Errorf("what %s %s depends on: %w", all[i].Name, all[i].Version, err)
			}
			all = append(all, part)
		}
	}
	return all, nil
}

// names are what apt-get install takes.
func names(parts []ferryman.Package) (out []string) {
	for _, p := range parts {
		out = append(out, p.Name+"="+p.Version)
	}
	return out
}

// transaction is what apt would do.
type transaction struct {
	added    []ferryman.Package // what the host has nothing of
	replaced []ferryman.Package // as it is now
}

var (
	wouldInstall = regexp.MustCompile(`^Inst (\S+?)(?::\S+)? (?:\[(\S+)\] )?\((\S+)`)
	wouldRemove  = regexp.MustCompile(`^(?:Remv|Purg) (\S+)`)
)

// simulate asks apt what it would do, and refuses what reaches further than the package.
func (a Apt) simulate(ctx context.Context, what []string, parts []ferryman.Package) (t transaction, err error) {
	out, err := a.run(ctx, "", "apt-get", slices.Concat([]string{"install", "-s"}, aptAnswers, what)...)
	if err != nil {
		return t, fmt.Errorf("it cannot be installed as a whole: %w", err)
	}
	var removes, touches, anew []string
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
			return t, err
		}
		part := slices.Contains(parts, next)
		switch {
		case m[2] != "" && !part:
			touches = append(touches, fmt.Sprintf("%s %s → %s", m[1], m[2], m[3]))
		case m[2] != "":
			t.replaced = append(t.replaced, ferryman.Package{Name: m[1], Version: m[2]})
		case part:
			anew = append(anew, next.Name)
		default:
			t.added = append(t.added, next)
		}
	}
	if len(removes)+len(touches)+len(t.added)+len(t.replaced)+len(anew) == 0 {
		return t, fmt.Errorf("apt would do nothing for %s", strings.Join(what, " "))
	}
	if len(removes) > 0 {
		return t, fmt.Errorf("it would remove %s: apt is not let; free the host of what stands in the way first", strings.Join(removes, ", "))
	}
	if len(touches) > 0 {
		return t, fmt.Errorf("it would also change %s, which is none of it: bring these to that version on every host first", strings.Join(touches, ", "))
	}
	return t, nil
}

// room refuses when the packages do not fit.
func (a Apt) room(ctx context.Context, parts []ferryman.Package) error {
	var files, unpacked int64
	for _, part := range parts {
		fields, err := a.offeredFacts(ctx, part)
		if err != nil {
			continue // installed, and offered by nobody any more
		}
		size, _ := strconv.ParseInt(fields["Size"], 10, 64)
		kib, _ := strconv.ParseInt(fields["Installed-Size"], 10, 64)
		files, unpacked = files+size, unpacked+kib<<10
	}
	if err := os.MkdirAll(string(a.Keep), 0o755); err != nil {
		return err
	}
	for _, need := range []struct {
		path  string
		bytes int64
	}{{string(a.Keep), 2*files + sparePart}, {"/usr", unpacked + sparePart}, {"/var/lib/dpkg", sparePart}} {
		room, err := a.Host.Room(need.path)
		if err != nil {
			return err
		}
		if room < need.bytes {
			return fmt.Errorf("no room: the file system of %s has %d MiB left, and it takes %d MiB; make room", need.path, room>>20, need.bytes>>20)
		}
	}
	return nil
}

// keepInstalled keeps the version that is installed, with what belongs to it and what is going to be replaced.
func (a Apt) keepInstalled(ctx context.Context, p ferryman.Package, replaced []ferryman.Package) error {
	if _, err := a.Keep.Read(p); err == nil {
		return nil
	}
	parts, err := a.together(ctx, p, a.installedFacts)
	if err != nil {
		return err
	}
	for _, r := range replaced {
		if !slices.ContainsFunc(parts, func(o ferryman.Package) bool { return o.Name == r.Name }) {
			parts = append(parts, r)
		}
	}
	return a.Keep.put(p, parts, nil, a.fetcher(ctx))
}

// fetcher brings a package's file into a directory: out of apt's cache, from the sources, which apt verifies, or made from what is installed.
func (a Apt) fetcher(ctx context.Context) func(dir string, p ferryman.Package) (string, error) {
	return func(dir string, p ferryman.Package) (string, error) {
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
			_, err = a.run(ctx, dir, "cp", "--", cached, filepath.Join(dir, filepath.Base(cached)))
			return filepath.Base(cached), err
		}
		_, failed := a.run(ctx, dir, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", p.Name+"="+p.Version)
		if failed != nil {
			now, err := a.Installed(ctx, p.Name)
			if strings.Contains(failed.Error(), "Hash Sum mismatch") {
				failed = fmt.Errorf("a source of this host serves another file than its own index says: mend the source; %w", failed)
			}
			if err != nil || now != p.Version {
				return "", failed
			}
			if _, err := a.run(ctx, dir, "dpkg-repack", p.Name); err != nil {
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
}

func (a Apt) run(ctx context.Context, dir, program string, args ...string) (string, error) {
	out, err := a.Host.Run(ctx, dir, program, args...)
	if err != nil {
		err = fmt.Errorf("%s %s: %w", program, args[0], err)
	}
	return out, err
}

// maxTail is how much of what a package manager printed goes into an error, which is committed in Raft.
const maxTail = 1200

// tail is the last whole lines of a text.
func tail(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	if len(text) <= maxTail {
		return text
	}
	text = text[len(text)-maxTail:]
	if _, rest, ok := strings.Cut(text, "\n"); ok {
		return strings.ToValidUTF8(rest, "")
	}
	return strings.ToValidUTF8(text, "")
}
