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

// keeper is the agent's end of its guard. The guard is started with the first
// call that needs it, and by a newer agent in the place of an older one's.
type keeper struct {
	version string
	spec    guard.Spec
	target  func(context.Context) (systemd.Target, error)

	mu     sync.Mutex
	client *guard.Client
}

// newKeeper describes the guard of one service.
func newKeeper(cfg config.Config, version string, s runner.Service, units units) *keeper {
	db := cfg.Database
	k := &keeper{version: version, target: func(ctx context.Context) (systemd.Target, error) { return units.Target(ctx, s.Unit) }}
	k.spec = guard.Spec{Dir: guardDir(cfg), Marker: db.DataDir, Listen: db.HealthListen}
	if db.HealthListen != "" {
		k.spec.Engine, k.spec.Database, k.spec.Exec, k.spec.PasswordFile = db.Engine, engineConfig(db), db.Exec, db.PasswordFile
	}
	return k
}

func guardDir(cfg config.Config) string { return filepath.Join(cfg.DataDir, "guard") }

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

// Check implements lease.Guard.
func (k *keeper) Check(ctx context.Context) error {
	client, err := k.open(ctx)
	if err == nil {
		_, err = client.Check(ctx)
	}
	return err
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
		err = client.Quit(ctx)
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
		err = client.Quit(ctx)
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
