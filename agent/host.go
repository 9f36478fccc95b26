package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/installer"
	"ferryman/agent/runner"
	"ferryman/dbhooks"
	"ferryman/dbhooks/demodb"
	"ferryman/dbhooks/exec"
	"ferryman/dbhooks/redis"
	"ferryman/systemd"
	"ferryman/upgrade/install"
)

// host is what the runner works with on a real machine.
type host struct {
	services []runner.Service
	units    units
	releases *install.Store
	engine   dbhooks.Engine
	guard    Guard
}

type units interface {
	runner.Units
	Restart(ctx context.Context, u systemd.Unit) error
	Target(ctx context.Context, name string) (systemd.Target, error)
	Close() error
}

// openHost makes the service manager, the installed releases and the engine
// that the configuration names. A witness has no service. Envelope is what the
// document in force came in.
func openHost(ctx context.Context, cfg config.Config, version string, envelope func() []byte, log *slog.Logger) (h *host, err error) {
	h = &host{}
	defer func() {
		if err != nil {
			_ = h.close()
		}
	}()
	db := cfg.Database
	options := install.Options{Log: log, Check: checkAgent}
	if db.Supervisor == config.SupervisorSystemd {
		bus, err := systemd.NewBus(log)
		if err != nil {
			return h, err
		}
		h.units = bus
		options.Packages = installer.Client{Run: installer.RunDir, State: installer.StateDir, Envelope: envelope, Once: bus.Once,
			Look: installedVersion}
	} else if h.units, err = systemd.NewSupervisor(filepath.Join(cfg.DataDir, "units"), log); err != nil {
		return h, err
	}
	if h.releases, err = install.Open(storeDir(cfg), options); err != nil {
		return h, err
	}
	if err := h.releases.Clean(ctx); err != nil {
		log.Warn("what earlier downloads left could not be removed", "error", err)
	}
	if db.Engine == "" {
		return h, nil
	}
	if h.engine, err = newEngine(ctx, db); err != nil {
		return h, err
	}
	s := runner.Service{
		Service: ferryman.Service{Slot: db.Slot, Engine: db.Engine, Address: db.Address},
		Engine:  h.engine,
		Unit:    cmp.Or(db.Unit, "ferryman-"+db.Slot),
	}
	if db.Unit == "" {
		s.LogFile = filepath.Join(cfg.DataDir, db.Slot+".log")
		s.Log = func() string { return runner.LogTail(s.LogFile) }
	}
	if db.Supervisor == config.SupervisorSystemd {
		s.Unfit = func(st systemd.UnitStatus) string { return unfit(s.Unit, st) }
	}
	s.Mark = func(epoch uint64) error { return dbhooks.FenceMarker(db.DataDir, epoch) }
	h.services = []runner.Service{s}
	k := newKeeper(cfg, version, s, h.units)
	k.release = runningRelease(h.releases) != ""
	if db.Supervisor == config.SupervisorSystemd {
		if err = k.useUnit(ctx, log); err != nil {
			return h, err
		}
	}
	h.guard = k
	return h, nil
}

// installedVersion asks the host's package manager.
func installedVersion(ctx context.Context, name string) (string, error) {
	tool, err := install.ToolOf(install.OnHost{}, install.Keep(installer.KeepDir(installer.StateDir)))
	if err != nil {
		return "", err
	}
	return tool.Installed(ctx, name)
}

// storeDir is where the releases of this host are.
func storeDir(cfg config.Config) string {
	return cmp.Or(cfg.Database.Home, filepath.Join(cfg.DataDir, "releases"))
}

// unfit says why a unit may start the database with writes: its next start, or
// systemd by itself, would not ask `ferryman database`, as `ferryman setup` has
// it. Then neither a guard nor a lease keeps it from a second life.
func unfit(unit string, st systemd.UnitStatus) string {
	why := ""
	command := strings.Fields(st.Command)
	switch {
	case len(command) < 2 || filepath.Base(command[0]) != "ferryman" || command[1] != "database" || strings.Contains(st.Command, "; "):
		why = fmt.Sprintf("starts %q and not `ferryman database`: it may come up with writes that nobody gave it", st.Command)
	case st.Restart != "no":
		why = fmt.Sprintf("has Restart=%s: systemd may start again what a fence has ended", st.Restart)
	default:
		return ""
	}
	return fmt.Sprintf("unit %s %s, so this node holds no lease of a primary, and becomes none while failover is automatic; on this host: sudo ferryman setup", unit, why)
}

// DatabaseCommand is how the database of this node is run, for the unit that
// runs it: without writes, from the release that is current. It prepares what
// the start needs.
func DatabaseCommand(ctx context.Context, cfg config.Config, log *slog.Logger) (dbhooks.Command, error) {
	db := cfg.Database
	if db.Engine == "" {
		return dbhooks.Command{}, fmt.Errorf("%w: this node runs no database: database.engine is not set", ferryman.ErrInvalid)
	}
	home, err := currentHome(db, log)
	if err != nil {
		return dbhooks.Command{}, err
	}
	engine, err := newEngine(ctx, db)
	if err != nil {
		return dbhooks.Command{}, err
	}
	return engine.Command(ctx, home)
}

// currentHome is the directory of the release that is current; empty where none
// is managed. It makes nothing: a database's unit may write next to nowhere.
func currentHome(db config.Database, log *slog.Logger) (string, error) {
	if _, err := os.Stat(db.Home); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	releases, err := install.Open(db.Home, install.Options{Log: log})
	if err != nil {
		return "", err
	}
	current, err := releases.Current(db.Engine)
	if errors.Is(err, install.ErrNone) {
		return "", nil
	}
	return current.Path, err
}

func newEngine(ctx context.Context, db config.Database) (dbhooks.Engine, error) {
	return NewEngine(ctx, db.Engine, engineConfig(db), db.PasswordFile, db.Exec)
}

// engineConfig is without the password.
func engineConfig(db config.Database) dbhooks.Config {
	return dbhooks.Config{Address: db.Address, Listen: db.Listen, Dir: db.DataDir, Program: db.Program, Username: db.Username,
		Extra: map[string]string{"sync_replicas": fmt.Sprint(db.SyncReplicas)}}
}

// NewEngine makes the engine of that name, as database.engine has it. The
// password is read from its file, if there is one; hook is the program of the
// engine exec.
func NewEngine(ctx context.Context, name string, c dbhooks.Config, passwordFile, hook string) (dbhooks.Engine, error) {
	if passwordFile != "" {
		var err error
		if c.Password, err = readPassword(passwordFile); err != nil {
			return nil, err
		}
	}
	switch name {
	case config.EngineDemodb:
		return demodb.New(c), nil
	case config.EngineRedis:
		return redis.New(c), nil
	case config.EngineExec:
		return exec.New(ctx, c, hook)
	}
	return nil, fmt.Errorf("database.engine %s: %w", name, ferryman.ErrUnsupported)
}

// close gives up what is held. The services go on running.
func (h *host) close() error {
	var errs []error
	if c, ok := h.engine.(interface{ Close() error }); ok {
		errs = append(errs, c.Close())
	}
	if h.units != nil {
		errs = append(errs, h.units.Close())
	}
	return errors.Join(errs...)
}
