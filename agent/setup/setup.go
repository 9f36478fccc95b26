package setup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"ferryman/agent/config"
)

// DefaultConfig is where an agent's configuration is.
const DefaultConfig = "/etc/ferryman/agent.yaml"

// Host is where it is written.
type Host struct {
	Root string // empty, or the directory of a host that does not run, such as an image's
	Out  io.Writer
}

// Apply writes what cfg needs, and removes what another configuration needed.
func (h Host) Apply(cfg config.Config, configPath string) error {
	var db *database
	if cfg.Database.Supervisor == config.SupervisorSystemd && cfg.Database.Engine != "" {
		var err error
		if db, err = h.look(cfg); err != nil {
			return err
		}
	}
	want := files(cfg, configPath, db)
	stale, err := written(h.Root)
	if err != nil {
		return err
	}
	changed := false
	for _, f := range want {
		path := filepath.Join(h.Root, f.path)
		stale = slices.DeleteFunc(stale, func(p string) bool { return p == path })
		wrote, err := h.write(path, f.content)
		if err != nil {
			return err
		}
		changed = changed || wrote
	}
	for _, path := range stale {
		if err := h.drop(path); err != nil {
			return err
		}
		changed = true
	}
	if db != nil {
		if err := h.join(db.user); err != nil {
			return err
		}
		if err := h.give(db.user, cfg.Database.DataDir, false); err != nil {
			return err
		}
		if h.active(config.AgentUnit) {
			h.say("%s runs: its next start is as user %s", config.AgentUnit, db.user)
		} else if err := h.give(db.user, cfg.DataDir, true); err != nil {
			return err
		}
		if db.enabled {
			if err := h.systemctl("disable", db.unit); err != nil {
				return err
			}
			h.say("%s is not started at boot any more: the agent starts it", db.unit)
		}
	}
	if changed {
		err = h.reload()
	} else {
		h.say("nothing was to be changed")
	}
	if db != nil && h.Root == "" {
		h.hints(db)
	}
	return err
}

// Remove removes all that Apply wrote, and has the database started at boot where it was before.
func (h Host) Remove() error {
	paths, err := written(h.Root)
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		h.say("nothing is there to be removed")
		return nil
	}
	enable, left := "", ""
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		unit := strings.TrimSuffix(filepath.Base(filepath.Dir(path)), ".d")
		if strings.Contains(string(raw), enabledBefore+"=yes\n") {
			enable = unit
		}
		if _, rest, ok := strings.Cut(string(raw), "\nUser="); ok && unit == config.AgentUnit {
			left, _, _ = strings.Cut(rest, "\n")
		}
		if err := h.drop(path); err != nil {
			return err
		}
	}
	if left != "" {
		if _, err := h.run("gpasswd", append(h.chroot("-Q"), "-d", left, group)...); err == nil {
			h.say("user %s is no member of group %s any more", left, group)
		}
	}
	if enable != "" {
		if err := h.systemctl("enable", enable); err != nil {
			return err
		}
		h.say("%s is started at boot again", enable)
	}
	h.say("the database's unit is as its own package made it: with its next start it may come up with writes, whoever is the primary")
	return h.reload()
}

// look finds the database's unit, and whom it runs as.
func (h Host) look(cfg config.Config) (*database, error) {
	unit, path, err := findUnit(h.Root, cfg.Database.Unit)
	if err != nil {
		return nil, fmt.Errorf("database.unit: %w", err)
	}
	db := &database{unit: unit}
	if db.user, err = setting(h.Root, unit, path, "User"); err != nil {
		return nil, err
	}
	db.own = db.user != ""
	if !db.own {
		if db.user, err = h.owner(cfg.Database.DataDir); err != nil {
			return nil, fmt.Errorf("unit %s names no user, so it is the owner of database.data_dir: %w", unit, err)
		}
	}
	if db.user == "root" || db.user == "0" {
		return nil, fmt.Errorf("unit %s: user %s: the agent runs as the database's user, and never as root; give the database a user of its own", unit, db.user)
	}
	if strings.ContainsAny(db.user, "%$ ") {
		return nil, fmt.Errorf("unit %s: user %q: only a plain name can be the agent's too", unit, db.user)
	}
	// What was written before says so of the time before; systemd is asked only then.
	before, err := os.ReadFile(filepath.Join(h.Root, dropInOf(unit)))
	switch {
	case err == nil:
		db.enabled = strings.Contains(string(before), enabledBefore+"=yes\n")
	case errors.Is(err, fs.ErrNotExist):
		db.enabled = h.enabled(unit)
	default:
		return nil, err
	}
	return db, nil
}

// hints are what a person should know of the database as it is at this moment.
func (h Host) hints(db *database) {
	if h.active(db.unit) {
		h.say("%s runs, as it was started before: restart it, or let the agent do so, for it to be without writes until the agent gives them", db.unit)
	}
	if by, _ := h.run("systemctl", "show", "--property=WantedBy,RequiredBy", "--value", db.unit); strings.TrimSpace(by) != "" {
		h.say("%s is still started at boot, by %s: that is safe, as it comes up without writes", db.unit, strings.Join(strings.Fields(by), ", "))
	}
}

func (h Host) say(format string, args ...any) { fmt.Fprintf(h.Out, format+"\n", args...) }

// write says whether the file was not as it is now.
func (h Host) write(path, content string) (bool, error) {
	old, err := os.ReadFile(path)
	if err == nil && string(old) == content {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	next := path + ".new"
	if err := os.WriteFile(next, []byte(content), 0o644); err != nil {
		return false, err
	}
	if err := os.Rename(next, path); err != nil {
		return false, err
	}
	h.say("wrote %s", path)
	return true, nil
}

// drop removes a file, and its directory if that is a unit's and empty now.
func (h Host) drop(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	if filepath.Base(path) == dropIn {
		_ = os.Remove(filepath.Dir(path))
	}
	h.say("removed %s", path)
	return nil
}

// join makes the user a member of the group that may read the configuration.
func (h Host) join(name string) error {
	raw, err := os.ReadFile(filepath.Join(h.Root, "/etc/group"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 4 && f[0] == group && slices.Contains(strings.Split(f[3], ","), name) {
			return nil
		}
	}
	if _, err := h.run("usermod", append(h.chroot("-R"), "-a", "-G", group, name)...); err != nil {
		return err
	}
	h.say("user %s is a member of group %s now, which may read the configuration", name, group)
	return nil
}

// give makes a directory the user's, if it is another's.
func (h Host) give(name, dir string, all bool) error {
	if h.Root != "" {
		return nil // its users are not those of this host; the units do it at their first start
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if int(info.Sys().(*syscall.Stat_t).Uid) == uid {
		return nil
	}
	h.say("%s is user %s's now", dir, name)
	if !all {
		return os.Lchown(dir, uid, gid)
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

func (h Host) owner(dir string) (string, error) {
	info, err := os.Stat(filepath.Join(h.Root, dir))
	if err != nil {
		return "", err
	}
	u, err := user.LookupId(strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid)))
	if err != nil {
		return "", err
	}
	return u.Username, nil
}

func (h Host) chroot(flag string) []string {
	if h.Root == "" {
		return nil
	}
	return []string{flag, h.Root}
}

func (h Host) enabled(unit string) bool {
	out, _ := h.run("systemctl", append(h.offline(), "is-enabled", unit)...)
	return strings.TrimSpace(out) == "enabled"
}

func (h Host) active(unit string) bool {
	if h.Root != "" {
		return false
	}
	_, err := h.run("systemctl", "is-active", unit)
	return err == nil
}

func (h Host) reload() error {
	if h.Root != "" {
		return nil
	}
	return h.systemctl("daemon-reload")
}

func (h Host) systemctl(args ...string) error {
	_, err := h.run("systemctl", append(h.offline(), args...)...)
	return err
}

func (h Host) offline() []string {
	if h.Root == "" {
		return nil
	}
	return []string{"--root=" + h.Root}
}

func (h Host) run(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	var wrong strings.Builder
	cmd.Stderr = &wrong
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(wrong.String()))
	}
	return string(out), err
}
