package telemetry

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ferryman"
)

// Why a part of a rollout was carried back.
const (
	turnedFailed = "failed" // something failed, and the cluster decided
	turnedAsked  = "asked"  // a person aborted or undid it
)

// Tally counts what happened since the agent started, out of the replicated
// state. What happened before was counted by the agent that ran then: a log that
// is replayed adds nothing.
type Tally struct {
	self  ferryman.NodeID
	since time.Time

	events    *prometheus.CounterVec
	rollbacks *prometheus.CounterVec
	steps     *prometheus.HistogramVec

	mu     sync.Mutex
	last   uint64                      // event that was counted
	closed map[uint64]bool             // steps that were counted
	turned map[ferryman.Part]time.Time // when the rollout opened whose part goes back, and was counted
}

// NewTally counts from then on.
func NewTally(self Self, since time.Time) *Tally {
	labels := prometheus.Labels{"cluster": self.Cluster, "node": self.Node}
	t := &Tally{
		self: self.ID, since: since,
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ferryman_events_total", ConstLabels: labels,
			Help: "Events of the cluster since this agent started, by kind. Every agent counts all: take the greatest, not the sum."}, []string{"kind"}),
		rollbacks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ferryman_rollbacks_total", ConstLabels: labels,
			Help: "Parts of rollouts that were carried back since this agent started, by why: failed, or asked for by a person. Every agent counts all."}, []string{"part", "reason"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ferryman_step_duration_seconds", ConstLabels: labels,
			Help:    "How long the steps on this node took, by operation and outcome.",
			Buckets: []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800}}, []string{"op", "outcome"}),
		closed: map[uint64]bool{}, turned: map[ferryman.Part]time.Time{},
	}
	for _, part := range ferryman.Parts {
		for _, reason := range []string{turnedFailed, turnedAsked} {
			t.rollbacks.WithLabelValues(string(part), reason)
		}
	}
	return t
}

// Describe implements prometheus.Collector.
func (t *Tally) Describe(out chan<- *prometheus.Desc) {
	t.events.Describe(out)
	t.rollbacks.Describe(out)
	t.steps.Describe(out)
}

// Collect implements prometheus.Collector.
func (t *Tally) Collect(out chan<- prometheus.Metric) {
	t.events.Collect(out)
	t.rollbacks.Collect(out)
	t.steps.Collect(out)
}

// Observe counts what is new in a state, which must be no older than the one
// before.
func (t *Tally) Observe(s ferryman.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	reason := turnedAsked
	for _, e := range s.Events {
		if e.Seq <= t.last {
			continue
		}
		t.last = e.Seq
		if e.Time.Before(t.since) {
			continue
		}
		t.events.WithLabelValues(e.Kind).Inc()
		if e.Kind == "rollout" && e.Bad {
			reason = turnedFailed // the cluster tells of its own decision
		}
	}
	t.turns(s.Rollout, reason)
	t.durations(s.Ledger)
}

// turns counts parts that have begun to go back.
func (t *Tally) turns(r *ferryman.Rollout, reason string) {
	for _, part := range ferryman.Parts {
		pp := r.Part(part)
		if pp.Status != ferryman.PartReverting && pp.Status != ferryman.PartReverted {
			delete(t.turned, part)
			continue
		}
		if t.turned[part].Equal(r.Opened) {
			continue
		}
		t.turned[part] = r.Opened
		if !pp.Progress.Before(t.since) {
			t.rollbacks.WithLabelValues(string(part), reason).Inc()
		}
	}
}

// durations counts the steps of this node that have ended.
func (t *Tally) durations(ledger []ferryman.Step) {
	for _, st := range ledger {
		if st.Open() || st.Node != t.self || t.closed[st.ID] {
			continue
		}
		t.closed[st.ID] = true
		began, ended := st.Outcome.Began, st.Outcome.Ended
		if began.IsZero() {
			began = st.Since // it never began
		}
		if !ended.Before(t.since) {
			t.steps.WithLabelValues(string(st.Op), string(st.Outcome.Status)).Observe(max(0, ended.Sub(began).Seconds()))
		}
	}
	if len(ledger) == 0 {
		return
	}
	maps.DeleteFunc(t.closed, func(id uint64, _ bool) bool { return id < ledger[0].ID }) // it is not seen again
}
