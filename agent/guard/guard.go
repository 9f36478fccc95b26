package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ferryman/dbhooks"
	"ferryman/systemd"
)

// Config is how one guard process runs.
type Config struct {
	Spec    Spec
	Version string
	// Engine makes the engine that the health endpoints ask; used only where the Spec has a Listen. It is called with the first question, and again as long
	// as it fails: nothing about it may keep the guard from its task.
	Engine func(context.Context) (dbhooks.Engine, error)
	// Program and Args start another guard for the same Spec; --standby is added for a standby.
	Program string
	Args    []string
	// Standby tells that an active guard started this one.
	Standby bool
	// Alone tells that a service manager restarts the guard, so that it needs no standby.
	Alone bool
	// Hang is how long an active guard may be silent before its standby kills it, give or take a half; zero means half a second.
	Hang time.Duration
	// Ready, if set, is called when the guard holds its state and listens.
	Ready func()
	// Watchdog, if set, tells the service manager until ctx ends that the guard lives. An active guard that has no standby needs it: nobody else sees it hang.
	Watchdog func(ctx context.Context) error
	Log      *slog.Logger
}

// guard is what the active and the standby one have in common.
type guard struct {
	Config
	boot string
	pid  int
	lock *os.File // its holder is the active one, and is written in it
}

// errRetired says that this process is not needed: another one has its place.
var errRetired = errors.New("another guard has this place")

// Run is a guard until ctx ends, or it is replaced, told to quit, or not needed. A standby that did not get the lock leaves a thread behind that waits for
// it: the process ends with Run.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Spec.Check(); err != nil {
		return err
	}
	if cfg.Hang <= 0 {
		cfg.Hang = 500 * time.Millisecond
	}
	boot, err := systemd.BootID()
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	if err := os.MkdirAll(cfg.Spec.Dir, 0o700); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Spec.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	g := &guard{cfg, boot, os.Getpid(), lock}
	g.Log = g.Log.With("pid", g.pid)
	err = g.acquire(ctx)
	switch {
	case err == nil:
		return g.lead(ctx)
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, errRetired) && !cfg.Alone:
		g.Log.Info("guard: not needed", "because", err)
		return nil
	}
	return err
}

// acquire returns nil with the lock.
func (g *guard) acquire(ctx context.Context) error {
	if g.Standby {
		return g.stand(ctx)
	}
	err := unix.Flock(int(g.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return g.stand(ctx) // it may hang, and have no standby that ends it
	}
	if err != nil {
		return fmt.Errorf("guard: lock %s: %w", g.Spec.Dir, err)
	}
	return nil
}

// sign writes into the lock who holds it.
func (g *guard) sign() error {
	self, err := systemd.FindProcess(g.pid)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(self)
	if err != nil {
		return err
	}
	if err := g.lock.Truncate(0); err != nil {
		return err
	}
	_, err = g.lock.WriteAt(raw, 0)
	return err
}

// holder reads who holds the lock, or who held it last: nobody has his name again before the next boot.
func (g *guard) holder() (systemd.Process, error) {
	var p systemd.Process
	raw, err := os.ReadFile(g.lock.Name())
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	return p, err
}
