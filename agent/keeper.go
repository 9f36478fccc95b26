package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ferryman/agent/config"
	"ferryman/agent/guard"
	"ferryman/agent/runner"
	"ferryman/dbhooks"
	"ferryman/systemd"
)

// unitDir is the guard's own where its unit keeps it (packaging/systemd).
const unitDir = "/run/ferryman/guard"

// keeper is the agent's end of its guard. The guard is started with the first
// call that needs it, and by a newer agent in the place of an older one's.
type keeper struct {
	version string
	spec    guard.Spec
	target  func(context.Context) (systemd.Target, error)
	units   units
	kept    bool // by its unit
	release bool // this agent is not the one that the host has installed, as its unit's guard is

	mu     sync.Mutex
	client *guard.Client
}

// newKeeper describes the guard of one service.
func newKeeper(cfg config.Config, version string, s runner.Service, units units) *keeper {
	db := cfg.Database
	k := &keeper{version: version, units: units, target: func(ctx context.Context) (systemd.Target, error) { return units.Target(ctx, s.Unit) }}
	k.spec = guard.Spec{Dir: guardDir(cfg), Marker: db.DataDir, Listen: db.HealthListen}
	if db.HealthListen != "" {
		k.spec.Engine, k.spec.Database, k.spec.Exec, k.spec.PasswordFile = db.Engine, engineConfig(db), db.Exec, db.PasswordFile
	}
	return k
}

// guardDir is the guard's own where the agent keeps it.
func guardDir(cfg config.Config) string { return filepath.Join(cfg.DataDir, "guard") }

// GuardDir is where the guard of this host keeps its state and its log: its
// unit's, if that was used.
func GuardDir(cfg config.Config) string {
	if _, err := os.Stat(unitDir); err == nil && cfg.Database.Supervisor == config.SupervisorSystemd {
		return unitDir
	}
	return guardDir(cfg)
}

// useUnit has the guard's unit keep it, if the host has one.
func (k *keeper) useUnit(ctx context.Context, log *slog.Logger) error {
	_, err := k.units.Status(ctx, config.GuardUnit)
	if errors.Is(err, systemd.ErrNoUnit) {
		log.Warn("the guard is a child of the agent, as its unit is not installed", "unit", config.GuardUnit)
		return nil
	}
	if err == nil {
		k.kept, k.spec.Dir = true, unitDir
	}
	return err
}

// open starts the guard if need be.
func (k *keeper) open(ctx context.Context) (*guard.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	target, err := k.target(ctx)
	if err != nil {
		return nil, fmt.Errorf("what the guard would end: %w", err)
	}
	spec := k.spec
	spec.Target = target
	if k.kept {
		client, err := k.openUnit(ctx, spec)
		if err == nil {
			k.client = client
		}
		return client, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	client, err := guard.Start(ctx, spec, program, "guard")
	if err != nil {
		return nil, err
	}
	st, err := client.Check(ctx)
	if err == nil && st.Version != k.version {
		err = client.Replace(ctx, program, "guard")
	}
	if err != nil {
		return nil, err
	}
	k.client = client
	return client, nil
}

// openUnit starts the guard's unit, and starts it anew where it is for something
// else or of another version. Its state is in a file: it goes on with the same
// deadline.
func (k *keeper) openUnit(ctx context.Context, spec guard.Spec) (*guard.Client, error) {
	client, err := guard.Start(ctx, spec, "")
	if err == nil {
		st, err := client.Check(ctx)
		if err == nil && (st.Version == k.version || k.release) {
			return client, nil
		}
	}
	if err := k.units.Restart(ctx, systemd.Unit{Name: config.GuardUnit}); err != nil {
		return nil, err
	}
	return guard.Start(ctx, spec, "")
}

// Check implements lease.Guard. A guard whose unit was stopped is started again
// by the next call.
func (k *keeper) Check(ctx context.Context) error {
	client, err := k.open(ctx)
	if err == nil {
		_, err = client.Check(ctx)
	}
	if err != nil && k.kept {
		k.forget()
	}
	return err
}

func (k *keeper) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.client = nil
}

// end ends the guard. The next call starts it again.
func (k *keeper) end(ctx context.Context, client *guard.Client) error {
	if !k.kept {
		return client.Quit(ctx)
	}
	k.forget()
	return k.units.Stop(ctx, config.GuardUnit)
}

// Arm implements lease.Guard. A fence of before at the same epoch is taken note
// of: the grant says that this node may have its database again.
func (k *keeper) Arm(ctx context.Context, epoch uint64, deadline time.Duration) error {
	client, err := k.open(ctx)
	if err != nil {
		return err
	}
	_, err = client.Arm(ctx, epoch, deadline)
	if errors.Is(err, dbhooks.ErrFenced) {
		if _, err = client.Disarm(ctx, epoch); err == nil {
			_, err = client.Arm(ctx, epoch, deadline)
		}
	}
	return err
}

// Disarm implements lease.Guard. A guard that was never there has nothing to
// let be.
func (k *keeper) Disarm(ctx context.Context) error {
	if _, err := os.Stat(k.spec.Dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	client, err := k.open(ctx)
	if err != nil {
		return err
	}
	st, err := client.Check(ctx)
	if err == nil && st.Epoch > 0 {
		_, err = client.Disarm(ctx, st.Epoch)
	}
	return err
}

// Dismiss implements lease.Guard: with health endpoints it goes on for them.
func (k *keeper) Dismiss(ctx context.Context) error {
	if _, err := os.Stat(k.spec.Dir); errors.Is(err, os.ErrNotExist) && k.spec.Listen == "" {
		return nil
	}
	client, err := k.open(ctx)
	if err == nil {
		_, err = client.Release(ctx)
	}
	if err == nil && k.spec.Listen == "" {
		err = k.end(ctx, client)
	}
	return err
}

// Quit implements Guard.
func (k *keeper) Quit(ctx context.Context) error {
	if _, err := os.Stat(k.spec.Dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := k.Disarm(ctx); err != nil {
		return err
	}
	client, err := k.open(ctx)
	if err == nil {
		err = k.end(ctx, client)
	}
	return err
}

// RunGuard is the guard's process, with the spec that an agent wrote.
func RunGuard(ctx context.Context, path string, standby bool, version string, log *slog.Logger) error {
	spec, err := guard.ReadSpec(path)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return guard.Run(ctx, guard.Config{
		Spec: spec, Version: version, Program: program, Args: []string{"guard", "--spec", path},
		Standby: standby, Alone: os.Getenv("NOTIFY_SOCKET") != "", Log: log,
		Engine: func(ctx context.Context) (dbhooks.Engine, error) {
			return NewEngine(ctx, spec.Engine, spec.Database, spec.PasswordFile, spec.Exec)
		},
		Watchdog: func(ctx context.Context) error { return systemd.Watchdog(ctx, nil) },
		Ready: func() {
			if err := systemd.Ready(); err != nil {
				log.Warn("systemd was not told that the guard holds", "error", err)
			}
		},
	})
}
