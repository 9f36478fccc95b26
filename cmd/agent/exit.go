package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/rpc"
)

// The exit statuses, for scripts; exitStatuses says what each means.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitRestart     = ferryman.ExitRestart
	exitStay        = ferryman.ExitStay
)

// meaning is an exit status in words.
type meaning struct {
	code int
	text string
}

// exitStatuses is the one table of them; the help topic prints it.
func exitStatuses() []meaning {
	return []meaning{
		{exitOK, "it was done; for `rollout status --watch`: the rollout is complete"},
		{exitFailed, "it was tried and failed; for `rollout status --watch`: the rollout was reverted, halted or superseded, or the time was over"},
		{exitUsage, "the command line, a configuration or a document cannot be meant; nothing was done"},
		{exitUnreachable, "the agent, or the cluster's leader, does not answer"},
		{exitRefused, "the cluster refused it, and says why; nothing was changed"},
		{exitRestart, "`ferryman agent` only: whoever started the agent is to start it again"},
		{exitStay, "`ferryman agent` only: it is to stay down, as its node left the cluster, or a person said `ferryman stop`"},
	}
}

// exitCodesTopic is `ferryman help exit-codes`.
func exitCodesTopic() *cobra.Command {
	var text strings.Builder
	text.WriteString("Exit codes of ferryman, for scripts:\n\n")
	for _, m := range exitStatuses() {
		fmt.Fprintf(&text, "  %2d  %s\n", m.code, m.text)
	}
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimRight(text.String(), "\n")}
}

// exitStatus is an error that says its exit status; err may be nil where all
// was said already.
type exitStatus struct {
	code int
	err  error
}

func (e exitStatus) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exitStatus) Unwrap() error { return e.err }

// usage is an error of the command line.
func usage(format string, args ...any) error {
	return exitStatus{exitUsage, fmt.Errorf(format, args...)}
}

// exitCode is the status for an error that says none by itself.
func exitCode(err error) int {
	var problems config.Problems
	switch {
	case errors.Is(err, ferryman.ErrRefused), errors.Is(err, ferryman.ErrConflict), errors.Is(err, rpc.ErrUnauthenticated),
		errors.Is(err, ferryman.ErrNotMember), errors.Is(err, ferryman.ErrWrongCluster):
		return exitRefused
	case errors.Is(err, ferryman.ErrUnavailable), errors.Is(err, ferryman.ErrNotLeader), errors.Is(err, context.DeadlineExceeded):
		return exitUnreachable
	case errors.Is(err, ferryman.ErrInvalid), errors.As(err, &problems):
		return exitUsage
	}
	return exitFailed
}

// complain writes an error for a person; one that has several lines, such as a
// list of problems, keeps them apart.
func complain(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "ferryman:", line)
	}
}
