package dbhooks

import (
	"context"
	"errors"
	"time"

	"ferryman"
)

// Engine drives one service: one database process on this node. Its methods may be called at the same time; two operations at once are the caller's
// mistake, which an engine may refuse.
type Engine interface {
	// Traits are what the engine is like. They do not change while the agent runs.
	Traits() ferryman.Traits

	// Status observes the instance, and changes nothing. It takes no longer than ctx, a hung database included: a process that does not listen
	// is Running false, without an error; one that does not answer is Running, not Healthy, with the reason. An error means that the engine
	// itself cannot work, such as a marker that cannot be read.
	Status(ctx context.Context) (ferryman.Instance, error)

	// Do carries out one operation and returns on its observed effect. It is idempotent. An operation that is not among the Traits' is
	// ferryman.ErrUnsupported.
	//
	// An operation concerns the process that it found. It talks to it over one connection, reads what it knows of epochs and fences only once that
	// stands, and fails when it breaks: it never goes on with another process. Whoever carries it out may be stopped at any point and go on much
	// later, when the process was killed, the instance fenced, and another process started; that one must not become writable by an old decision.
	Do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error)

	// Command says how the service's process is run, and prepares what it needs to be: directories, a generated configuration. Home is the
	// directory of the installed release; empty means that none is managed, and the program that the agent's configuration names is run. A host
	// whose unit exists already uses the unit's own command, and calls this for the preparation only.
	Command(ctx context.Context, home string) (Command, error)
}

// Command is how a process is run: in the foreground, ending on SIGTERM.
type Command struct {
	Exec []string `json:"exec"`          // the program, by its path, and its arguments
	Env  []string `json:"env,omitempty"` // the whole environment, KEY=value
	Dir  string   `json:"dir,omitempty"` // where it runs
}

// Config is what this host knows of its service, from the agent's own configuration. It is never in the desired state.
type Config struct {
	Address  string            // host:port under which clients and other instances reach it
	Listen   string            // host:port that it binds; Address when empty
	Dir      string            // its data directory
	Program  string            // what runs where no release is managed: a path, or a name in PATH; each engine has its own default
	Username string            // how the engine itself logs in, where the database asks
	Password string            // never in arguments or logs
	Extra    map[string]string // what only one engine understands
}

// Bind is the address to listen on.
func (c Config) Bind() string {
	if c.Listen != "" {
		return c.Listen
	}
	return c.Address
}

// ErrDiverged says that an instance has data that its source does not have, so that it cannot follow. Clone it: what it has is set aside.
var ErrDiverged = errors.New("diverged")

// poll is how often Poll looks: often enough for a switchover of milliseconds.
const poll = 2 * time.Millisecond

// Poll calls done until it says true or fails, or ctx ends; then the error is that of ctx, with what done said last. It is for databases that cannot
// be waited upon.
func Poll(ctx context.Context, done func(context.Context) (ok bool, why string, err error)) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		ok, why, err := done(ctx)
		if err != nil || ok {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return &WaitError{Why: why, Err: ctx.Err()}
		}
	}
}

// WaitError says what was still missing when the time was up.
type WaitError struct {
	Why string
	Err error
}

func (e *WaitError) Error() string { return e.Why + ": " + e.Err.Error() }

// Unwrap is the error of the context.
func (e *WaitError) Unwrap() error { return e.Err }
