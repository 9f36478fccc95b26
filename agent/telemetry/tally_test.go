package telemetry_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ferryman"
	"ferryman/agent/telemetry"
)

// counted is what a tally says, by name and labels other than who speaks; of a
// histogram, how often and how long.
func counted(t *testing.T, tally *telemetry.Tally) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(tally)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() != "cluster" && l.GetName() != "node" {
					key += " " + l.GetValue()
				}
			}
			if h := m.GetHistogram(); h != nil {
				got[key+" n"], got[key+" s"] = float64(h.GetSampleCount()), h.GetSampleSum()
			} else if v := m.GetCounter().GetValue(); v > 0 {
				got[key] = v
			}
		}
	}
	return got
}

func TestTally(t *testing.T) {
	t.Parallel()
	step := func(id uint64, node ferryman.NodeID, ended time.Time, status ferryman.OutcomeStatus) ferryman.Step {
		return ferryman.Step{ID: id, Node: node, Op: ferryman.OpStage, Since: ended.Add(-3 * time.Second),
			Outcome: &ferryman.Outcome{Status: status, Began: ended.Add(-2 * time.Second), Ended: ended}}
	}
	unbegun := step(4, "a1", now.Add(time.Second), ferryman.StatusCancelled)
	unbegun.Outcome.Began = time.Time{}
	event := func(seq uint64, at time.Time, kind string, bad bool) ferryman.Event {
		return ferryman.Event{Seq: seq, Time: at, Kind: kind, Bad: bad}
	}
	turned := func(opened, at time.Time, status ferryman.PartStatus) *ferryman.Rollout {
		return &ferryman.Rollout{Opened: opened, Parts: map[ferryman.Part]ferryman.PartProgress{ferryman.PartDatabase: {Status: status, Progress: at}}}
	}
	later := now.Add(time.Second)
	tests := []struct {
		name   string
		states []ferryman.State
		want   map[string]float64
	}{
		{"a log that is replayed", []ferryman.State{{
			Events: []ferryman.Event{event(1, before(time.Hour), "rollout", true)}, LastEvent: 1,
			Ledger:  []ferryman.Step{step(1, "a1", before(time.Hour), ferryman.StatusDone)},
			Rollout: turned(before(2*time.Hour), before(time.Hour), ferryman.PartReverting),
		}}, map[string]float64{}},
		{"events once", []ferryman.State{
			{Events: []ferryman.Event{event(1, before(time.Hour), "member", false), event(2, later, "member", false)}},
			{Events: []ferryman.Event{event(2, later, "member", false), event(3, later, "primary", false), event(4, later, "member", true)}},
		}, map[string]float64{"ferryman_events_total member": 2, "ferryman_events_total primary": 1}},
		{"the node's own steps once", []ferryman.State{
			{Ledger: []ferryman.Step{step(1, "a1", later, ferryman.StatusDone), {ID: 2, Node: "a1"}, step(3, "b2", later, ferryman.StatusDone), unbegun}},
			{Ledger: []ferryman.Step{step(1, "a1", later, ferryman.StatusDone), step(2, "a1", later, ferryman.StatusTimedOut), unbegun}},
			{Ledger: []ferryman.Step{step(2, "a1", later, ferryman.StatusTimedOut), step(5, "a1", later, ferryman.StatusDone)}},
		}, map[string]float64{
			"ferryman_step_duration_seconds stage done n": 2, "ferryman_step_duration_seconds stage done s": 4,
			"ferryman_step_duration_seconds stage timed out n": 1, "ferryman_step_duration_seconds stage timed out s": 2,
			"ferryman_step_duration_seconds stage cancelled n": 1, "ferryman_step_duration_seconds stage cancelled s": 3,
		}},
		{"a failure turns a rollout back once", []ferryman.State{
			{Rollout: turned(now, later, ferryman.PartOpen)},
			{Rollout: turned(now, later, ferryman.PartReverting), Events: []ferryman.Event{event(1, later, "rollout", true)}},
			{Rollout: turned(now, later, ferryman.PartReverting)},
			{Rollout: turned(now, later, ferryman.PartReverted)},
		}, map[string]float64{"ferryman_events_total rollout": 1, "ferryman_rollbacks_total database failed": 1}},
		{"a person turns two back", []ferryman.State{
			{Rollout: turned(now, later, ferryman.PartReverting), Events: []ferryman.Event{event(1, later, "request", false)}},
			{Rollout: turned(later, later, ferryman.PartReverting)},
		}, map[string]float64{"ferryman_events_total request": 1, "ferryman_rollbacks_total database asked": 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tally := telemetry.NewTally(self, now)
			for _, s := range test.states {
				tally.Observe(s)
			}
			got := counted(t, tally)
			for key := range test.want {
				if got[key] != test.want[key] {
					t.Errorf("%s: got %v, want %v", key, got[key], test.want[key])
				}
			}
			for key, v := range got {
				if _, ok := test.want[key]; !ok {
					t.Errorf("%s: got %v, want it not to be there", key, v)
				}
			}
		})
	}
}
