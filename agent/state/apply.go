package state

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"ferryman"
)

// Bounds of what the state remembers.
const (
	keepClosedSteps = 1024
	keepEvents      = 256
	keepRollouts    = 16
	keepDeparted    = 255
)

// Apply returns the state after c and the events that it caused. It never
// changes s. A refusal wraps ferryman.ErrRefused, and then nothing of c holds.
func Apply(s ferryman.State, c Command) (ferryman.State, []ferryman.Event, error) {
	a := &applier{s: clone(s), at: c.At}
	if err := a.command(c); err != nil {
		return s, nil, err
	}
	a.trim()
	return a.s, a.events, nil
}

// applier holds a private copy of the state while one command applies.
type applier struct {
	s      ferryman.State
	at     time.Time
	events []ferryman.Event
}

func (a *applier) command(c Command) error {
	if c.Bootstrap != nil {
		if err := a.bootstrap(*c.Bootstrap); err != nil {
			return err
		}
	}
	if a.s.Cluster == "" {
		return refuse("there is no cluster yet")
	}
	for _, o := range c.Outcomes {
		if err := a.outcome(o); err != nil {
			return err
		}
	}
	for _, m := range c.Moves {
		if err := a.move(m); err != nil {
			return fmt.Errorf("%s: %w", m.Kind, err)
		}
	}
	for _, st := range c.Steps {
		if err := a.step(st); err != nil {
			return fmt.Errorf("%s on %s: %w", st.Op, st.Node, err)
		}
	}
	if c.Join != nil {
		if err := a.join(*c.Join); err != nil {
			return err
		}
	}
	if c.Accept != nil {
		if err := a.accept(*c.Accept); err != nil {
			return err
		}
	}
	if c.Refuse != nil {
		a.refused(*c.Refuse)
	}
	if c.Request != nil {
		if err := a.request(*c.Request); err != nil {
			return fmt.Errorf("%s: %w", c.Request.Kind, err)
		}
	}
	return nil
}

func (a *applier) bootstrap(b Bootstrap) error {
	if a.s.Cluster != "" {
		return refuse("the cluster %s exists already", a.s.Cluster)
	}
	if b.Cluster == "" {
		return refuse("a cluster needs an id")
	}
	a.s.Cluster, a.s.Format = b.Cluster, b.Format // a later build applies this entry as well
	a.s.Members = map[ferryman.NodeID]ferryman.Member{}
	a.event("cluster", "", 0, false, "cluster %s was made by %s", b.Cluster, b.Member.Name)
	return a.join(b.Member)
}

// refuse makes an error that wraps ferryman.ErrRefused.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ferryman.ErrRefused, fmt.Sprintf(format, args...))
}

func (a *applier) event(kind string, node ferryman.NodeID, step uint64, bad bool, format string, args ...any) {
	a.s.LastEvent++
	e := ferryman.Event{Seq: a.s.LastEvent, Time: a.at, Kind: kind, Node: node, Step: step, Bad: bad, Text: fmt.Sprintf(format, args...)}
	a.s.Events = append(a.s.Events, e)
	a.events = append(a.events, e)
}

// name is how a node is called in events: by its name while it has one.
func (a *applier) name(id ferryman.NodeID) string {
	if m, ok := a.s.Members[id]; ok {
		return m.Name
	}
	return string(id)
}

// clone copies what Apply may change in place; the records themselves are
// values that it replaces whole.
func clone(s ferryman.State) ferryman.State {
	s.Complete = maps.Clone(s.Complete)
	s.Previous = maps.Clone(s.Previous)
	s.Members = maps.Clone(s.Members)
	s.Quarantined = maps.Clone(s.Quarantined)
	s.Tokens = maps.Clone(s.Tokens)
	s.Ledger = slices.Clone(s.Ledger)
	s.Events = slices.Clone(s.Events)
	s.History = slices.Clone(s.History)
	if s.Rollout != nil {
		r := *s.Rollout
		r.Parts = maps.Clone(r.Parts)
		r.Passages = maps.Clone(r.Passages)
		s.Rollout = &r
	}
	if s.Switchover != nil {
		sw := *s.Switchover
		s.Switchover = &sw
	}
	if s.Failover != nil {
		f := *s.Failover
		s.Failover = &f
	}
	return s
}

// trim keeps the state small: open steps stay, of the closed ones the newest.
func (a *applier) trim() {
	if n := len(a.s.Events) - keepEvents; n > 0 {
		a.s.Events = slices.Clone(a.s.Events[n:])
	}
	if n := len(a.s.History) - keepRollouts; n > 0 {
		a.s.History = slices.Clone(a.s.History[n:])
	}
	if n := len(a.s.Ledger) - keepClosedSteps; n > 0 {
		dropped := 0
		a.s.Ledger = slices.DeleteFunc(a.s.Ledger, func(st ferryman.Step) bool {
			if dropped == n || st.Open() {
				return false
			}
			dropped++
			return true
		})
	}
}
