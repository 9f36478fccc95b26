package reconcile

import (
	"errors"
	"maps"
	"net"
	"slices"
	"time"

	"ferryman"
)

// publish makes what the leader knows readable by others.
func (t *term) publish(s ferryman.State, now time.Time) {
	v := t.view
	v.Nodes, v.Source = maps.Clone(v.Nodes), t.seenSource()
	old := t.loop.report.Swap(&ferryman.Report{Time: now, State: s, View: v, Decision: t.decision})
	if old == nil || news(*old, s, v, t.decision) {
		select {
		case t.reports <- struct{}{}:
		default:
		}
	}
}

// news tells whether a report says more than that time went by.
func news(old ferryman.Report, s ferryman.State, v ferryman.View, d ferryman.Decision) bool {
	if old.State.LastEvent != s.LastEvent || old.State.LastStep != s.LastStep || !slices.Equal(old.Decision.Waits, d.Waits) {
		return true
	}
	return !maps.EqualFunc(old.View.Nodes, v.Nodes, func(a, b ferryman.NodeView) bool {
		return a.Reachable == b.Reachable && a.Status.Seq == b.Status.Seq && a.Status.BootID == b.Status.BootID
	})
}

// push sends reports to the api-server: on news, at most every reportEvery, and
// now and then without.
func (t *term) push() {
	for {
		select {
		case <-t.reports:
		case <-time.After(reportIdle):
		case <-t.ctx.Done():
			return
		}
		if r, ok := t.loop.Report(); ok {
			err := t.Hosts.Report(t.ctx, r)
			if errors.Is(err, ferryman.ErrUnsupported) {
				return // it is not asked again by this leader
			}
			if err != nil && t.ctx.Err() == nil {
				t.log.Debug("the report did not reach the api-server", "error", err)
			}
		}
		select {
		case <-time.After(reportEvery):
		case <-t.ctx.Done():
			return
		}
	}
}

// pollHosts keeps what the api-server says of its hosts.
func (t *term) pollHosts() {
	for {
		names, minimal, err := t.Hosts.Current(t.ctx)
		if t.ctx.Err() != nil || !t.tell(func(t *term) { t.hosts(names, minimal, err, time.Now()) }) {
			return
		}
		select {
		case <-time.After(hostsEvery):
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *term) hosts(names []string, minimal bool, err error, at time.Time) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != t.hostsErr {
		t.hostsErr, t.changed = text, true
	}
	if err != nil {
		h := &t.view.Hosts
		h.Unmade = time.Time{} // it may come back with a provisioner
		return                 // what it said last is still the best there is
	}
	names = slices.Clone(names)
	for i, n := range names {
		if host, _, err := net.SplitHostPort(n); err == nil {
			names[i] = host
		}
	}
	slices.Sort(names)
	h := &t.view.Hosts
	if !h.Known || !slices.Equal(h.Names, names) {
		h.Names, h.Stable, t.changed = names, at, true
	}
	if h.Minimal != minimal {
		h.Minimal, t.changed = minimal, true
	}
	h.Known = true
}
