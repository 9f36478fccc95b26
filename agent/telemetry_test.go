package agent

import (
	"context"
	"errors"
	"testing"
	"time"
)

// moody is a guard that answers with what it is told to.
type moody struct {
	unguarded
	err error
}

func (m *moody) Check(context.Context) error                      { return m.err }
func (m *moody) Arm(context.Context, uint64, time.Duration) error { return m.err }

func TestTheGuardsLastAnswerIsRemembered(t *testing.T) {
	t.Parallel()
	m := &moody{}
	g := &watchedGuard{Guard: m}
	if got := g.fails(); got != "" {
		t.Errorf("before it was asked: got %q, want nothing", got)
	}
	for _, ask := range []func() error{
		func() error { return g.Check(t.Context()) },
		func() error { return g.Arm(t.Context(), 1, time.Second) },
	} {
		m.err = errors.New("no guard runs")
		if err := ask(); !errors.Is(err, m.err) || g.fails() != "no guard runs" {
			t.Errorf("it does not answer: got %v and %q", err, g.fails())
		}
		m.err = nil
		if err := ask(); err != nil || g.fails() != "" {
			t.Errorf("it answers again: got %v and %q", err, g.fails())
		}
	}
}
