package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"ferryman/dbhooks"
)

// The requests. Each is one line of JSON on the socket, and so is its reply; a connection carries any number of them, one after another.
const (
	opCheck   = "check"
	opArm     = "arm"
	opDisarm  = "disarm"
	opRelease = "release"
	opReplace = "replace"
	opQuit    = "quit"
)

type request struct {
	Op       string        `json:"op"`
	Epoch    uint64        `json:"epoch,omitempty"`
	Deadline time.Duration `json:"deadline,omitempty"` // arm: nanoseconds of Boottime
	Program  string        `json:"program,omitempty"`  // replace
	Args     []string      `json:"args,omitempty"`
	Standby  int           `json:"standby,omitempty"` // check: the standby's own pid, when it is one that asks
}

// Status is what a guard says of itself in every reply.
type Status struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Spec    string `json:"spec"` // tells one Spec from another
	// Epoch is the newest that it heard of. When Armed, that is fenced at the Deadline, in nanoseconds of Boottime.
	Epoch    uint64        `json:"epoch"`
	Armed    bool          `json:"armed"`
	Deadline time.Duration `json:"deadline"`
	// Fenced is the epoch that it fenced last, until Disarm takes note of it.
	Fenced uint64 `json:"fenced"`
	// Standby tells that another process looked after it within the last second.
	Standby bool `json:"standby"`
}

type reply struct {
	Status
	Error  string `json:"error,omitempty"`
	Kind   string `json:"kind,omitempty"`   // of the error: a key of kinds
	Retire bool   `json:"retire,omitempty"` // to a standby: another one has its place
}

// kinds are the errors that go over the wire as themselves.
var kinds = map[string]error{"epoch": dbhooks.ErrEpoch, "fenced": dbhooks.ErrFenced, "armed": ErrArmed, "fencing": ErrFencing}

func (r *reply) refuse(err error) {
	r.Error = err.Error()
	for kind, target := range kinds {
		if errors.Is(err, target) {
			r.Kind = kind
		}
	}
}

// err is the refusal, which is the kind's error and says what the guard said.
func (r *reply) err() error {
	if r.Error == "" {
		return nil
	}
	return &refusal{r.Error, kinds[r.Kind]}
}

type refusal struct {
	text string
	kind error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

// line is a connection to the active guard.
type line struct {
	conn  net.Conn
	lines *bufio.Reader
}

func dial(ctx context.Context, socket string) (*line, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	return &line{conn, bufio.NewReader(conn)}, nil
}

// ask has one request answered before ctx ends. An error means that the answer did not come: the connection is of no use any more.
func (l *line) ask(ctx context.Context, req request) (reply, error) {
	defer context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })()
	var rep reply
	raw, err := json.Marshal(req)
	if err == nil {
		_, err = l.conn.Write(append(raw, '\n'))
	}
	if err == nil {
		raw, err = l.lines.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(raw, &rep)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return rep, fmt.Errorf("guard: no answer to %q: %w", req.Op, err)
	}
	return rep, nil
}

func (l *line) close() { _ = l.conn.Close() }
