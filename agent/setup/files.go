package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"ferryman/agent/config"
)

// The names of what is written. The package's postrm knows them too.
const (
	unitsDir   = "/etc/systemd/system"
	dropIn     = "60-ferryman.conf"
	polkitRule = "/etc/polkit-1/rules.d/60-ferryman.rules"
	restarts   = "/etc/needrestart/conf.d/60-ferryman.conf"

	ownUser = "ferryman"
	group   = "ferryman"
)

// file is one that is written, or would be.
type file struct{ path, content string }

func dropInOf(unit string) string { return filepath.Join(unitsDir, unit+".d", dropIn) }

const header = "# Written by `ferryman setup` from the agent's configuration: changes are lost, `ferryman setup --remove` removes it.\n"

var unitName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9@_.:-]{0,199}\.service$`)

// database is the unit of the database as it is now, without what setup wrote.
type database struct {
	unit    string // its whole name
	user    string // who runs it
	own     bool   // the unit says so itself
	enabled bool   // it is started at boot
}

// files are what a host needs for this configuration. Db is nil where systemd does not run the database.
func files(cfg config.Config, configPath string, db *database) []file {
	own := []string{"/var/lib/ferryman", "/run/ferryman"} // the units give them
	var writes []string
	add := func(paths ...string) {
		for _, p := range paths {
			within := func(dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
			if p != "" && !slices.ContainsFunc(own, within) && !slices.ContainsFunc(writes, within) {
				writes = append(writes, p)
			}
		}
	}
	add(cfg.DataDir, cfg.Database.DataDir, cfg.Database.Home, cfg.TLS.Dir, filepath.Dir(cfg.ControlSocket))
	if db == nil {
		if len(writes) == 0 {
			return nil
		}
		return []file{{dropInOf(config.AgentUnit), header + "[Service]\n" + writable(writes)}}
	}
	first := fmt.Sprintf("[Unit]\n# When the host shuts down, the agent hands the primary over before its database is stopped.\nAfter=%s\n", db.unit)
	who := fmt.Sprintf("[Service]\n# The database's user: to the agent and the guard belong its data, and its end.\nUser=%s\n", db.user)
	return []file{
		{dropInOf(db.unit), databaseDropIn(cfg, configPath, db)},
		{dropInOf(config.AgentUnit), header + first + who + writable(writes)},
		{dropInOf(config.GuardUnit), header + who + writable([]string{cfg.Database.DataDir})},
		{polkitRule, rule(db)},
		{restarts, header + fmt.Sprintf("$nrconf{override_rc}{qr(^%s$)} = 0;\n", regexp.QuoteMeta(db.unit))},
	}
}

func writable(paths []string) string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "ReadWritePaths=-%s\n", escape(p))
	}
	return b.String()
}

// escape keeps systemd from reading more into a path than it says.
func escape(path string) string {
	return strings.NewReplacer("%", "%%", `\`, `\\`, " ", `\x20`, `"`, `\x22`, "'", `\x27`).Replace(path)
}

// databaseDropIn has the unit run the engine's command in the place of its own: without writes, or not at all.
func databaseDropIn(cfg config.Config, configPath string, db *database) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(header)
	line("[Unit]")
	line("# How often it is started is the cluster's to decide.")
	line("StartLimitIntervalSec=0")
	if db.enabled {
		line("%s=yes", enabledBefore)
	}
	line("[Service]")
	line("# However it is started, it comes up without writes, which only the agent gives it, under a lease. Nothing starts it again but the agent.")
	line("Type=exec")
	line("Restart=no")
	line("PIDFile=")
	for _, key := range []string{"ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"} {
		line("%s=", key)
	}
	line("EnvironmentFile=-/etc/default/ferryman")
	command := "/usr/bin/ferryman database"
	if configPath != DefaultConfig {
		command += " --config " + escape(configPath)
	}
	line("ExecStart=%s", command)
	if !db.own {
		line("User=%s", db.user)
	}
	line("ReadWritePaths=-%s", escape(cfg.Database.DataDir))
	line("# For a unit with NoExecPaths.")
	line("ExecPaths=-/usr/bin/ferryman -%s", escape(cfg.Database.Home))
	return b.String()
}

// enabledBefore is a key that systemd passes over. It says that the unit was started at boot, for whoever removes what was written.
const enabledBefore = "X-Ferryman-EnabledBefore"

// rule allows the agent's user the verbs that the agent and its fence use, on the units that it is there for; and to ask the installer, which judges by
// itself.
func rule(db *database) string {
	quote := func(s string) string { raw, _ := json.Marshal(s); return string(raw) }
	return strings.ReplaceAll(header, "#", "//") + fmt.Sprintf(`polkit.addRule(function (action, subject) {
	if (action.id != "org.freedesktop.systemd1.manage-units" || subject.user != %s) {
		return;
	}
	var unit = action.lookup("unit"), verb = action.lookup("verb");
	if (unit == %s && ["start", "stop", "restart", "kill"].indexOf(verb) >= 0 ||
		unit == %s && ["start", "stop", "restart"].indexOf(verb) >= 0 ||
		/^ferryman-install@(stage|switch)-[0-9a-f]{64}\.service$/.test(unit) && verb == "start") {
		return polkit.Result.YES;
	}
});
`, quote(db.user), quote(db.unit), quote(config.GuardUnit))
}

// written are the files that are there now, of any configuration.
func written(root string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(root, unitsDir, "*.d", dropIn))
	if err != nil {
		return nil, err
	}
	for _, path := range []string{polkitRule, restarts} {
		if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
			found = append(found, filepath.Join(root, path))
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return found, nil
}
