package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/rpc"
)

// answerTime is how long one question may take unless --timeout says otherwise.
const answerTime = 10 * time.Second

// console is how a verb talks to the agent of this host.
type console struct {
	socket  string
	config  string
	timeout time.Duration
}

// flags are those of every verb that asks the agent.
func (k *console) flags(c *cobra.Command) {
	c.Flags().StringVar(&k.socket, "socket", "", "the agent's control socket (default: $"+socketEnv+", or control_socket of the configuration)")
	configFlag(c, &k.config)
	c.Flags().DurationVar(&k.timeout, "timeout", answerTime, "how long to wait for an answer")
}

// path is where the agent is asked.
func (k *console) path(c *cobra.Command) (string, error) {
	switch {
	case k.timeout <= 0:
		return "", usage("--timeout %s: must be more than 0", k.timeout)
	case k.socket != "":
		return k.socket, nil
	case os.Getenv(socketEnv) != "":
		return os.Getenv(socketEnv), nil
	}
	cfg, err := loadConfig(k.config)
	if err == nil {
		return cfg.ControlSocket, nil
	}
	if c.Flags().Changed("config") {
		return "", err
	}
	// A configuration that is broken or for other eyes is no reason not to ask
	// an agent that runs.
	return config.Default().ControlSocket, nil
}

// with calls f with a connection to the agent. Errors of f are turned into what
// a person can do about them.
func (k *console) with(c *cobra.Command, f func(*rpc.ControlClient) error) error {
	path, err := k.path(c)
	if err != nil {
		return err
	}
	client, err := rpc.DialControl(path)
	if err != nil {
		return err
	}
	defer client.Close()
	return k.explain(c, path, f(client))
}

// call is with for one question, bounded by --timeout.
func (k *console) call(c *cobra.Command, f func(context.Context, *rpc.ControlClient) error) error {
	return k.with(c, func(client *rpc.ControlClient) error {
		ctx, cancel := context.WithTimeout(c.Context(), k.timeout)
		defer cancel()
		return f(ctx, client)
	})
}

// explain names the next command to try.
func (k *console) explain(c *cobra.Command, path string, err error) error {
	var status exitStatus
	switch {
	case err == nil || errors.As(err, &status):
		return err
	case absent(err):
		return exitStatus{exitUnreachable, fmt.Errorf("%w on %s: is it running? try `systemctl status ferryman`, or --socket with the control_socket of its configuration", errAbsent, path)}
	case errors.Is(err, fs.ErrPermission):
		return exitStatus{exitUnreachable, fmt.Errorf("user %d may not speak to the agent on %s: be root, the agent's user, or in the socket's group", os.Geteuid(), path)}
	case errors.Is(err, context.Canceled) && c.Context().Err() != nil:
		return exitStatus{exitFailed, errors.New("interrupted")}
	case errors.Is(err, context.DeadlineExceeded):
		return exitStatus{exitUnreachable, fmt.Errorf("no answer within %s; `ferryman status` shows what this node knows, --timeout waits longer: %w", k.timeout, err)}
	case errors.Is(err, ferryman.ErrRefused):
		// It says by itself what to do; the way that the answer took does not matter.
		if _, why, ok := strings.Cut(err.Error(), ": refused: "); ok {
			return fmt.Errorf("%w: %s", ferryman.ErrRefused, why)
		}
		return err
	case errors.Is(err, ferryman.ErrNotLeader):
		return exitStatus{exitUnreachable, fmt.Errorf("the cluster has no leader that answers; `ferryman status` shows what this node knows: %w", err)}
	case errors.Is(err, ferryman.ErrUnavailable):
		return exitStatus{exitUnreachable, fmt.Errorf("this agent, or the cluster's leader, does not answer; `ferryman status` shows what this node knows: %w", err)}
	}
	return err
}

// errAbsent means that nobody listens on the socket.
var errAbsent = errors.New("no agent answers")

// absent tells whether nobody listens on the socket.
func absent(err error) bool {
	return errors.Is(err, errAbsent) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTSOCK)
}
