// Package state is the replicated state machine: commands, how they apply,
// and how they are encoded. Apply is a pure function; what it refuses cannot
// happen, whatever a leader believed when it proposed it.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ferryman"
)

// Format is the newest format of commands and records that this build
// understands. It rises with whatever an agent before it could not read, or would
// apply otherwise; what came with a format is used only in a state of that format
// (ferryman.State.Format), to which the plan raises it once all agents understand.
const Format uint32 = 1

// Command is one log entry. All of it applies, or none.
type Command struct {
	// At is the proposing leader's clock; Apply reads no other.
	At        time.Time             `json:"at"`
	Bootstrap *Bootstrap            `json:"bootstrap,omitempty"`
	Outcomes  []ferryman.Outcome    `json:"outcomes,omitempty"`
	Moves     []ferryman.Transition `json:"moves,omitempty"`
	Steps     []ferryman.Step       `json:"steps,omitempty"`
	Accept    *ferryman.Accepted    `json:"accept,omitempty"`
	Refuse    *ferryman.Refusal     `json:"refuse,omitempty"`
	Join      *ferryman.Member      `json:"join,omitempty"`
	Request   *ferryman.Request     `json:"request,omitempty"`
}

// Bootstrap makes the cluster, with its first member, in that member's Format.
type Bootstrap struct {
	Cluster string          `json:"cluster"`
	Format  uint32          `json:"format"`
	Member  ferryman.Member `json:"member"`
}

// Empty tells whether the command would change nothing.
func (c Command) Empty() bool {
	return c.Bootstrap == nil && len(c.Outcomes) == 0 && len(c.Moves) == 0 && len(c.Steps) == 0 &&
		c.Accept == nil && c.Refuse == nil && c.Join == nil && c.Request == nil
}

// Encode writes a command as a log entry: one byte of format, then JSON. The
// format is that of the state, which older agents may understand as well, or what
// the command makes it: an agent that does not understand that must not go on.
func Encode(s ferryman.State, c Command) ([]byte, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	format := s.Format
	if c.Bootstrap != nil {
		format = c.Bootstrap.Format
	}
	for _, m := range c.Moves {
		format = max(format, m.Format)
	}
	return append([]byte{byte(format)}, data...), nil
}

// ErrUnknownCommand means that a log entry or a snapshot was written by a newer
// agent. The node must stop: to guess would make its state differ from the others'.
var ErrUnknownCommand = errors.New("this agent does not understand the replicated state; install the version that the other agents run")

func tooNew(format uint32) error {
	return fmt.Errorf("%w (it has format %d, and this agent knows %d)", ErrUnknownCommand, format, Format)
}

// Decode reads a log entry.
func Decode(data []byte) (Command, error) {
	if len(data) == 0 {
		return Command{}, fmt.Errorf("%w (it is empty)", ErrUnknownCommand)
	}
	if uint32(data[0]) > Format {
		return Command{}, tooNew(uint32(data[0]))
	}
	var c Command
	dec := json.NewDecoder(bytes.NewReader(data[1:]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Command{}, fmt.Errorf("%w (%v)", ErrUnknownCommand, err)
	}
	return c, nil
}
