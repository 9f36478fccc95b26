// Package agent is the composition root: it makes one agent out of its parts,
// runs it, and ends it in order. Nothing below main exits the process, and
// every goroutine ends with Run.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"ferryman/agent/config"
)

// Why Run returned, where that is neither a failure nor a stop.
var (
	// ErrRestart means that a step asked for this agent to be started anew,
	// perhaps as another version.
	ErrRestart = errors.New("the agent is to be started anew")
	// ErrStopped means that a person had this agent stop, who starts it again.
	ErrStopped = errors.New("the agent was told to stop")
	// ErrDeparted means that this node left its cluster for good: it must not
	// be started again on this data directory.
	ErrDeparted = errors.New("this node left its cluster")
)

// Agent is one agent, not started yet.
type Agent struct {
	cfg  config.Config
	deps Deps
}

// New checks what can be checked without touching the host.
func New(cfg config.Config, deps Deps) (*Agent, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	var missing []error
	for _, need := range []struct{ value, key string }{
		{cfg.Node.Name, "node.name"}, {cfg.Node.Address, "node.address"}, {cfg.DataDir, "data_dir"}, {cfg.TLS.Dir, "tls.dir"},
	} {
		if need.value == "" {
			missing = append(missing, fmt.Errorf("%s is not set", need.key))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return nil, fmt.Errorf("agent configuration: %w", err)
	}
	return &Agent{cfg: cfg, deps: deps}, nil
}

// Run runs the agent until ctx ends, which is a stop (SIGTERM), or until it
// ends by itself. It returns nil after a stop, ErrStopped after one that came
// by the control socket, ErrRestart after a step that asked for it, ErrDeparted
// after the node left, and otherwise what made it impossible to go on. The database keeps running, except after a departure.
func (a *Agent) Run(ctx context.Context) error {
	n, err := open(ctx, a.cfg, a.deps)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // stopped before it had begun
		}
		return err
	}
	defer n.close()
	return n.run(ctx)
}
