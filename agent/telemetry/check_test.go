package telemetry_test

import (
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/telemetry"
)

// reasons are the checks that failed, as name: reason.
func reasons(checks []telemetry.Check) string {
	var all []string
	for _, c := range checks {
		if c.Reason != "" {
			all = append(all, c.Name+": "+c.Reason)
		}
	}
	return strings.Join(all, "; ")
}

func TestReady(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*telemetry.Facts)
		want   string
	}{
		{"a follower", func(*telemetry.Facts) {}, ""},
		{"the leader", func(f *telemetry.Facts) { *f = facts() }, ""},
		{"a witness", func(f *telemetry.Facts) { f.Status.Services = nil }, ""},
		{"no cluster", func(f *telemetry.Facts) { f.State = ferryman.State{}; f.Status.Leader = "" },
			"member: this node is in no cluster yet; caught-up: no leader is known"},
		{"no member", func(f *telemetry.Facts) {
			f.State.Members = map[ferryman.NodeID]ferryman.Member{"a2": {}}
			f.Status.Leader = "a2"
		},
			"member: this node is no member of its cluster"},
		{"leaving", func(f *telemetry.Facts) {
			f.State.Members = map[ferryman.NodeID]ferryman.Member{"a1": {Want: ferryman.WantLeaving, Why: "asked by kim"}}
		}, "member: this node leaves: asked by kim"},
		{"no leader", func(f *telemetry.Facts) { f.Status.Leader = "" }, "caught-up: no leader is known"},
		{"never in touch", func(f *telemetry.Facts) { f.Raft.LastContact = time.Time{} }, "caught-up: the leader was not heard for more than 5s"},
		{"out of touch", func(f *telemetry.Facts) { f.Raft.LastContact = before(6 * time.Second) }, "caught-up: the leader was not heard for more than 5s"},
		{"behind", func(f *telemetry.Facts) { f.Raft.Held = 100 }, "caught-up: entry 41 of the log is applied, and it holds 100"},
		{"an old state", func(f *telemetry.Facts) { f.Status.Leader = "e5" }, "caught-up: this node's state is older than its leader"},
		{"stopped", func(f *telemetry.Facts) { f.Status.Services[0].Unit.Active = false }, "database: db is not running"},
		{"ill", func(f *telemetry.Facts) {
			f.Status.Services[0].Instance.Healthy, f.Status.Services[0].Instance.Reason = false, "does not stream"
		}, "database: db: does not stream"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := follower()
			test.change(&f)
			if got := reasons(telemetry.Ready(f, "a1")); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	stuck := facts()
	stuck.Report.Time = before(time.Minute)
	tests := []struct {
		name  string
		facts telemetry.Facts
		now   time.Time
		want  string
	}{
		{"well", follower(), now.Add(time.Second), ""},
		{"leads", facts(), now.Add(time.Second), ""},
		{"new", telemetry.Facts{}, now, "agent: the agent has not looked at itself yet"},
		{"hangs", follower(), now.Add(time.Minute), "agent: the agent does not get round to looking at itself since 1m0s; restart it, and keep `ferryman debug bundle`"},
		{"the loop hangs", stuck, now.Add(time.Second), "agent: the leader's loop has not turned for 1m0s"},
	}
	for _, test := range tests {
		if got := reasons(telemetry.Live(test.facts, test.now)); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
