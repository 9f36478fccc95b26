package main

import (
	"context"
	"errors"

	"ferryman"
	"ferryman/agent/config"
)

// The exit statuses, for scripts.
const (
	exitOK          = 0
	exitFailed      = 1 // it was tried and failed
	exitUsage       = 2 // the command line, a configuration or a document cannot be meant
	exitUnreachable = 3 // the agent, or its leader, does not answer
	exitRefused     = 4 // the cluster refused it; nothing was changed
	exitRestart     = ferryman.ExitRestart
)

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

// exitCode is the status for an error that says none by itself.
func exitCode(err error) int {
	var problems config.Problems
	switch {
	case errors.Is(err, ferryman.ErrRefused):
		return exitRefused
	case errors.Is(err, ferryman.ErrUnavailable), errors.Is(err, ferryman.ErrNotLeader), errors.Is(err, context.DeadlineExceeded):
		return exitUnreachable
	case errors.Is(err, ferryman.ErrInvalid), errors.As(err, &problems):
		return exitUsage
	}
	return exitFailed
}
