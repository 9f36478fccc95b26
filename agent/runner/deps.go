package runner

import (
	"context"
	"log/slog"
	"time"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/systemd"
	"ferryman/upgrade/install"
)

// Units is what the runner uses of systemd.Units.
type Units interface {
	Start(ctx context.Context, u systemd.Unit) error
	Stop(ctx context.Context, name string) error
	Kill(ctx context.Context, name string) error
	Status(ctx context.Context, name string) (systemd.UnitStatus, error)
	Changed() <-chan struct{}
}

// Store is what the runner uses of install.Store, where its methods are described.
type Store interface {
	Stage(ctx context.Context, engine, version string, r ferryman.Release) (install.Installed, error)
	List(engine string) ([]install.Installed, error)
	Current(engine string) (install.Installed, error)
	Switch(ctx context.Context, engine, version, digest string) error
	Try(ctx context.Context, engine, version, digest string, step uint64, limit time.Duration) error
	Trial(engine string) (install.Trial, error)
	Arrive(engine string) error
	Confirm(engine string) error
	EndStart(engine string) error
	Prune(ctx context.Context, engine string, keep int, inUse ...string) ([]string, error)
}

// Service is one service of this node, and how it is run.
type Service struct {
	ferryman.Service
	Engine dbhooks.Engine
	// Unit is the name of the service's unit; the command comes from the engine.
	Unit string
	// LogFile takes what the process writes; see systemd.Unit.
	LogFile string
	// StopTimeout is from the signal to stop to the kill; zero means systemd.DefaultStopTimeout.
	StopTimeout time.Duration
	// Unfit says why the unit, as the service manager would start it, may come up with writes, and what to do; empty where it cannot. Nil where the
	// command is the agent's own.
	Unfit func(systemd.UnitStatus) string
	// Mark makes the durable marker say that no promotion under an epoch up to this one may give the instance its writes; nil where nothing marks it.
	Mark func(epoch uint64) error
	// Log returns the last lines that the process wrote, LogTail(LogFile) for example; nil when nobody here can read them.
	Log func() string
}

// Deps are what a Runner is made of. Services may be empty: a witness runs none.
type Deps struct {
	Services []Service
	Units    Units
	Store    Store
	// Release is the digest of the agent's release that this process runs from; empty when it is the installed one.
	Release string
	Journal File
	// Exit asks the composition root to end the agent, in good order, and must return at once. The step's outcome is durable before it is called.
	Exit func(reason string)
	// Hold returns a context that ends with the primary's lease of the epoch, once that is held and the guard is armed; ctx itself where no lease is
	// needed. What may make a database writable runs in it.
	Hold func(ctx context.Context, epoch uint64) (context.Context, context.CancelFunc, error)
	// Leased tells that a primary has or gets a lease: then no unit is started that may come up with writes by itself. Nil means never.
	Leased func() bool
	// Poll is how often a service is looked at, and Busy how often while a step runs on it.
	Poll, Busy time.Duration
	// Answer is how long a database may take to say how it is before it counts as hung.
	Answer time.Duration
	Log    *slog.Logger
}

// The defaults of Deps.
const (
	DefaultPoll   = 500 * time.Millisecond
	DefaultBusy   = 100 * time.Millisecond
	DefaultAnswer = 2 * time.Second
)

func (d Deps) withDefaults() Deps {
	if d.Hold == nil {
		d.Hold = func(ctx context.Context, _ uint64) (context.Context, context.CancelFunc, error) {
			return ctx, func() {}, nil
		}
	}
	if d.Leased == nil {
		d.Leased = func() bool { return false }
	}
	if d.Poll <= 0 {
		d.Poll = DefaultPoll
	}
	if d.Busy <= 0 {
		d.Busy = DefaultBusy
	}
	if d.Answer <= 0 {
		d.Answer = DefaultAnswer
	}
	return d
}
