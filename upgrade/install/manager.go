package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ferryman"
)

// Manager installs packages, as root: only what concerns the package, what belongs to the very same version of it, and what the host has nothing of yet.
// Nothing that runs is touched by it: packaging/systemd/ferryman-install@.service says how.
type Manager struct {
	Keep Keep
	Host Host
	// Patience is how long it waits for another that uses the package manager.
	Patience time.Duration
	Tool     Tool
}

// Tool is what apt and dnf do each in its own way. Nothing of it changes the host but install, mend and hold.
type Tool interface {
	// Installed is described at Packages.
	Installed(ctx context.Context, name string) (string, error)
	// places are the files that are locked while others change what is installed, and while they only ask sources, and the directory in which it remembers
	// what is installed.
	places() (changing, asking []string, database string)
	// broken is what was left by what was cut off, and how a person mends it; empty when all is well.
	broken(ctx context.Context) (string, error)
	// versions are those that the sources have of a package; these are asked anew first, or not.
	versions(ctx context.Context, name string, anew bool) ([]string, error)
	// needs are the packages that one needs in exactly one version each: of the one that is installed, or offered.
	needs(ctx context.Context, p ferryman.Package, installed bool) ([]ferryman.Package, error)
	// sizes are those of what sources offer: of the files, and once they are installed.
	sizes(ctx context.Context, parts []ferryman.Package) (files, unpacked int64)
	// gather brings the files of parts into dir, with what the host lacks for them. It refuses what reaches further.
	gather(ctx context.Context, dir string, parts []ferryman.Package) ([]KeptFile, error)
	// regather brings the files of what is installed into dir.
	regather(ctx context.Context, dir string, parts []ferryman.Package) ([]KeptFile, error)
	// quiet tells that scripts of packages start, restart and stop nothing now.
	quiet(ctx context.Context) error
	// mend ends what was cut off in the middle, as long as it belongs to p.
	mend(ctx context.Context, p ferryman.Package, keep Keep) error
	// install installs the files that are kept for p, or only looks whether it would. Of what is installed only own may change.
	install(ctx context.Context, p ferryman.Package, paths []string, own []ferryman.Package, only bool) error
	// hold keeps everybody else from changing packages.
	hold(ctx context.Context, own []ferryman.Package) error
}

// Host is what a Tool does to a host, and asks of it.
type Host interface {
	// Run runs a program in a directory, and returns what it prints. An error ends with what it printed last.
	Run(ctx context.Context, dir, program string, args ...string) (string, error)
	// Locked names the process that holds the lock at path, or that wrote its number there where that is how it is locked; empty when none does.
	Locked(path string) (string, error)
	// Answers tells whether anybody listens at a socket.
	Answers(path string) bool
	// Room is how many bytes may still be written to the file system of path.
	Room(path string) (int64, error)
	// Glob finds files.
	Glob(pattern string) ([]string, error)
}

// ToolOf is how packages are installed on a host. Where dpkg has installed something, that is apt.
func ToolOf(h Host, keep Keep) (Tool, error) {
	there := func(pattern string) bool {
		found, err := h.Glob(pattern)
		return err == nil && len(found) > 0
	}
	switch {
	case there("/usr/bin/apt-get") && there("/var/lib/dpkg/info/*.list"):
		return Apt{h}, nil
	case there("/usr/bin/" + dnf):
		return Dnf{h, keep, dnfConfig}, nil
	case there("/usr/bin/dnf5"):
		return nil, errors.New("this host has dnf 5 alone, with which nothing was tried yet: install dnf 4 beside it (/usr/bin/dnf-3), or offer the release as an archive")
	}
	return nil, errors.New("this host has neither apt-get nor dnf, and packages of another package manager are not supported by this build: offer the release as an archive")
}

// sparePart is how much more than the packages themselves there has to be room for.
const sparePart = 64 << 20

// Stage is described at Packages. Count is how many versions stay kept.
func (m Manager) Stage(ctx context.Context, p ferryman.Package, count int) error {
	if err := m.sound(ctx); err != nil {
		return err
	}
	now, err := m.Tool.Installed(ctx, p.Name)
	if err != nil {
		return err
	}
	if now != p.Version {
		if err := m.offered(ctx, p); err != nil {
			return err
		}
	}
	parts, err := m.together(ctx, p, now == p.Version)
	if err != nil {
		return err
	}
	if err := m.room(ctx, parts); err != nil {
		return err
	}
	kept, missing := m.Keep.Read(p)
	if missing == nil {
		err = m.wayBack(ctx, p.Name, now, m.Keep.dir(p), kept.Files)
	} else {
		err = m.Keep.put(p, func(dir string) ([]KeptFile, error) {
			if now == p.Version {
				return m.Tool.regather(ctx, dir, parts)
			}
			files, err := m.Tool.gather(ctx, dir, parts)
			if err != nil {
				return nil, err
			}
			var all []ferryman.Package
			for _, f := range files {
				all = append(all, f.Package)
			}
			if len(all) > len(parts) {
				if err := m.room(ctx, all); err != nil {
					return nil, err
				}
			}
			return files, m.wayBack(ctx, p.Name, now, dir, files)
		})
	}
	if err != nil {
		return err
	}
	if now != p.Version {
		if _, err := m.install(ctx, p, true); err != nil {
			err = fmt.Errorf("out of what is kept %w", err)
			if missing != nil {
				err = errors.Join(err, os.RemoveAll(m.Keep.dir(p))) // what is kept counts as good
			}
			return err
		}
	}
	return m.Keep.prune(p.Name, max(count, 2), p.Version, now)
}

// Switch is described at Packages.
func (m Manager) Switch(ctx context.Context, p ferryman.Package) error {
	if err := m.Tool.quiet(ctx); err != nil {
		return err
	}
	// The database is stopped: it does not wait for who only asks sources.
	changing, _, _ := m.Tool.places()
	if err := m.unlocked(ctx, changing); err != nil {
		return err
	}
	if err := m.Tool.mend(ctx, p, m.Keep); err != nil {
		return err
	}
	own, err := m.install(ctx, p, false)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // it is done, and little is left to do
	now, err := m.Tool.Installed(ctx, p.Name)
	if err == nil && now != p.Version {
		err = fmt.Errorf("the package manager ended well, and %s is at %q, not at %s", p.Name, now, p.Version)
	}
	if err != nil {
		return err
	}
	return m.Tool.hold(ctx, own)
}

// install installs what is kept, or looks whether it would. It returns what holds the package together.
func (m Manager) install(ctx context.Context, p ferryman.Package, only bool) (own []ferryman.Package, err error) {
	kept, err := m.Keep.Read(p)
	if err != nil {
		// It is the one that is installed, perhaps; then nothing of it is needed.
		if now, nowErr := m.Tool.Installed(ctx, p.Name); nowErr != nil || now != p.Version {
			return nil, errors.Join(err, nowErr)
		}
		return []ferryman.Package{p}, nil
	}
	whole, err := m.Tool.Installed(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	var files []KeptFile // that are needed
	there := true
	for _, f := range kept.Files {
		now, err := m.Tool.Installed(ctx, f.Name)
		if err != nil {
			return nil, err
		}
		// If a switch was cut off, what came with it may not be whole either.
		if f.Extra && now != "" && (whole != "" || now != f.Version) {
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
	paths, err := m.Keep.verify(p, files)
	if err != nil {
		return nil, err
	}
	return own, m.Tool.install(ctx, p, paths, own, only)
}

// sound refuses to begin where a package manager is at work, or was cut off.
func (m Manager) sound(ctx context.Context) error {
	changing, asking, _ := m.Tool.places()
	if err := m.unlocked(ctx, slices.Concat(changing, asking)); err != nil {
		return err
	}
	return unbroken(ctx, m.Tool)
}

func unbroken(ctx context.Context, t Tool) error {
	broken, err := t.broken(ctx)
	if err == nil && broken != "" {
		err = fmt.Errorf("the package manager is broken: %s", broken)
	}
	return err
}

func (m Manager) unlocked(ctx context.Context, locks []string) error {
	end := time.Now().Add(m.Patience)
	for {
		who := ""
		for _, path := range locks {
			by, err := m.Host.Locked(path)
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
			return fmt.Errorf("the package manager is locked: %s for more than %s; it is tried again, and goes on once that has ended", who, m.Patience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(m.Patience, time.Second)):
		}
	}
}

// offered refuses a version that no source of this host has, after it has asked them anew.
func (m Manager) offered(ctx context.Context, p ferryman.Package) error {
	versions, err := m.Tool.versions(ctx, p.Name, false)
	if err == nil && slices.Contains(versions, p.Version) {
		return nil
	}
	anew, failed := m.Tool.versions(ctx, p.Name, true)
	if slices.Contains(anew, p.Version) {
		return nil
	}
	if failed == nil {
		versions = anew
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

// together are a package and those that it needs in exactly one version each, such as Debian's redis-server and redis-tools: apt would not find the
// older one of them by itself.
func (m Manager) together(ctx context.Context, p ferryman.Package, installed bool) ([]ferryman.Package, error) {
	all := []ferryman.Package{p}
	for i := 0; i < len(all) && i < 32; i++ {
		needs, err := m.Tool.needs(ctx, all[i], installed)
		if err != nil {
			return nil, err
		}
		for _, part := range needs {
			if slices.ContainsFunc(all, func(o ferryman.Package) bool { return o.Name == part.Name }) {
				continue
			}
			if err := part.Check(); err != nil {
				return nil, fmt.Errorf("what %s %s depends on: %w", all[i].Name, all[i].Version, err)
			}
			all = append(all, part)
		}
	}
	return all, nil
}

// room refuses when the packages do not fit.
func (m Manager) room(ctx context.Context, parts []ferryman.Package) error {
	files, unpacked := m.Tool.sizes(ctx, parts)
	if err := os.MkdirAll(string(m.Keep), 0o755); err != nil {
		return err
	}
	_, _, database := m.Tool.places()
	for _, need := range []struct {
		path  string
		bytes int64
	}{{string(m.Keep), 2*files + sparePart}, {"/usr", unpacked + sparePart}, {database, sparePart}} {
		room, err := m.Host.Room(need.path)
		if err != nil {
			return err
		}
		if room < need.bytes {
			return fmt.Errorf("no room: the file system of %s has %d MiB left, and it takes %d MiB; make room", need.path, room>>20, need.bytes>>20)
		}
	}
	return nil
}

// wayBack keeps the version that is installed, with what belongs to it and what files in dir are going to replace. It refuses those that would stay and
// bar it.
func (m Manager) wayBack(ctx context.Context, name, now, dir string, files []KeptFile) error {
	p := ferryman.Package{Name: name, Version: now}
	if now == "" || slices.ContainsFunc(files, func(f KeptFile) bool { return f.Package == p }) {
		return nil
	}
	parts, err := m.together(ctx, p, true)
	var stay []string
	for _, f := range files {
		if err != nil || slices.ContainsFunc(parts, func(o ferryman.Package) bool { return o.Name == f.Name }) {
			continue
		}
		var v string
		switch v, err = m.Tool.Installed(ctx, f.Name); {
		case err != nil:
		case v == "":
			stay = append(stay, filepath.Join(dir, f.File))
		case !f.Extra:
			parts = append(parts, ferryman.Package{Name: f.Name, Version: v})
		}
	}
	if err == nil {
		err = m.keep(ctx, p, parts)
	}
	if err != nil {
		return fmt.Errorf("there would be no way back, as %s %s, which is installed, cannot be kept: %w", name, now, err)
	}
	if len(stay) == 0 {
		return nil
	}
	// The host has the old version now: what would not fit beside it bars the way back to it.
	if err := m.Tool.install(ctx, p, stay, nil, true); err != nil {
		return fmt.Errorf("there would be no way back to %s %s, as what comes along with the new version stays: %w", name, now, err)
	}
	return nil
}

// keep keeps all parts of a version that is installed. What is kept of it already may lack some: they were installed later, or nothing of it names them.
func (m Manager) keep(ctx context.Context, p ferryman.Package, parts []ferryman.Package) error {
	kept, _ := m.Keep.Read(p)
	lacks := func(files []KeptFile) []ferryman.Package {
		return slices.DeleteFunc(slices.Clone(parts), func(part ferryman.Package) bool {
			// What is extra would only be installed where there is nothing of it.
			return slices.ContainsFunc(files, func(f KeptFile) bool { return f.Package == part && !f.Extra })
		})
	}
	if len(lacks(kept.Files)) == 0 {
		return nil
	}
	return m.Keep.put(p, func(dir string) (files []KeptFile, err error) {
		// What is kept no source may have any more.
		for _, f := range kept.Files {
			if slices.ContainsFunc(parts, func(part ferryman.Package) bool { return part.Name == f.Name && part.Version != f.Version }) {
				continue
			}
			paths, err := m.Keep.verify(p, []KeptFile{f})
			if err == nil {
				err = os.Link(paths[0], filepath.Join(dir, f.File))
			}
			if err != nil {
				return nil, err
			}
			f.Extra = f.Extra && !slices.Contains(parts, f.Package)
			files = append(files, f)
		}
		missing := lacks(files)
		if len(missing) == 0 {
			return files, nil
		}
		more, err := m.Tool.regather(ctx, dir, missing)
		for _, f := range more {
			if slices.Contains(missing, f.Package) { // and not one that was there
				files = append(files, f)
			}
		}
		return files, err
	})
}
