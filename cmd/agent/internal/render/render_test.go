package render_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"ferryman"
	"ferryman/cmd/agent/internal/render"
)

var update = flag.Bool("update", false, "write the golden files anew; then read the difference")

// TestGolden compares pages with files that were read by a person.
func TestGolden(t *testing.T) {
	t.Parallel()
	type draw func(io.Writer, ferryman.Report, render.Options) error
	tests := []struct {
		name   string
		draw   draw
		report ferryman.Report
		look   render.Options
	}{
		{name: "status-forming", draw: render.Status, report: forming()},
		{name: "status-rollout", draw: render.Status, report: midRollout()},
		{name: "status-waiting", draw: render.Status, report: waiting()},
		{name: "status-reverted", draw: render.Status, report: reverted()},
		{name: "status-colour", draw: render.Status, report: waiting(), look: render.Options{Color: true}},
		{name: "nodes-waiting", draw: render.Nodes, report: waiting()},
		{name: "nodes-none", draw: render.Nodes},
		{name: "plan-rollout", draw: render.Plan, report: midRollout()},
		{name: "plan-none", draw: render.Plan, report: reverted()},
		{name: "rollout-rollout", draw: render.Rollout, report: midRollout()},
		{name: "rollout-none", draw: render.Rollout, report: forming()},
		{name: "history", draw: render.History, report: reverted()},
		{name: "history-none", draw: render.History, report: forming()},
		{name: "events", draw: render.Events, report: reverted()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := test.draw(&got, test.report, test.look); err != nil {
				t.Fatal(err)
			}
			compare(t, test.name, got.Bytes())
		})
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	whole := waiting()
	self := whole.View.Nodes["b2"].Status
	alone := whole.State
	alone.Members = map[ferryman.NodeID]ferryman.Member{"b2": whole.State.Members["b2"]}
	tests := []struct {
		name string
		view render.LocalView
	}{
		{"local-leaderless", render.LocalView{Time: now, Status: self, State: whole.State}},
		{"local-leader-silent", render.LocalView{Time: now, Status: self, State: whole.State, Leader: "n1"}},
		{"local-newcomer", render.LocalView{Time: now, Status: ferryman.NodeStatus{ID: "e5", Name: "n5"}}},
		{"local-only", render.LocalView{Time: now, Status: self, State: alone}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := render.Local(&got, test.view, render.Options{}); err != nil {
				t.Fatal(err)
			}
			compare(t, test.name, got.Bytes())
		})
	}
}

// TestWriteFails shows that a full disk or a closed pipe does not pass for success.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	if err := render.Status(broken{}, midRollout(), render.Options{}); err != io.ErrClosedPipe {
		t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
