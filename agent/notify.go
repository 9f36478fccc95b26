package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ferryman"
	"ferryman/agent/telemetry"
	"ferryman/systemd"
)

// notify tells the service manager, if one started this agent, what it does and
// that it lives.
func (n *node) notify(ctx context.Context) {
	var watched group
	watched.open()
	defer watched.close()
	watched.start(func(context.Context) {
		if err := systemd.Watchdog(ctx, n.lives); err != nil {
			n.log.Warn("the service manager is not told any more that the agent lives", "error", err)
		}
	})
	said := ""
	for {
		status, changed := n.board.look()
		s, _ := n.store.State()
		if text := headline(status, s); text != said {
			n.say("%s", text)
			said = text
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// say tells the service manager what this agent does.
func (n *node) say(format string, args ...any) {
	if err := systemd.Say(fmt.Sprintf(format, args...)); err != nil {
		n.log.Debug("the service manager was not told what the agent does", "error", err)
	}
}

// patience asks the service manager for time for a step of the shutdown.
func (n *node) patience(by time.Duration) {
	if err := systemd.Extend(by); err != nil {
		n.log.Debug("the service manager was not asked for more time", "error", err)
	}
}

// lives says what of this agent hangs, as /livez does. To look takes every lock
// that it works with.
func (n *node) lives(context.Context) error {
	for _, c := range telemetry.Live(n.facts(n.raft.Status()), time.Now()) {
		if c.Reason != "" {
			return errors.New(c.Reason)
		}
	}
	return nil
}

// headline is what this node is and does, in one line.
func headline(status ferryman.NodeStatus, s ferryman.State) string {
	self, member := s.Members[status.ID]
	text := "looks for a leader"
	switch {
	case !member:
		text = "is not in a cluster yet"
	case status.Leader == status.ID:
		text = "leads"
	case status.Leader != "":
		text = "follows " + s.Members[status.Leader].Name
	}
	if m := self.Maintenance; m != nil {
		text += ", in maintenance"
	}
	for _, svc := range status.Services {
		in := svc.Instance
		what := "does not run"
		switch {
		case in.Running && !in.Healthy && in.Reason != "":
			what = "is not well: " + ferryman.Brief(in.Reason)
		case in.Running && in.Role != "":
			what = "is " + string(in.Role)
		case in.Running:
			what = "runs"
		}
		text += fmt.Sprintf("; %s %s", svc.Slot, what)
	}
	for _, id := range status.Running {
		if st, ok := s.Step(id); ok {
			text += fmt.Sprintf("; step %d: %s %s", id, st.Op, st.Service)
		}
	}
	if len(status.Problems) > 0 {
		text += "; " + ferryman.Brief(status.Problems[0])
	}
	return text
}
