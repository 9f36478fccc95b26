package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/config"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want int
	}{
		{errors.New("disk full"), exitFailed},
		{fmt.Errorf("resume: %w: nothing is paused", ferryman.ErrRefused), exitRefused},
		{fmt.Errorf("x: %w", ferryman.ErrConflict), exitRefused},
		{fmt.Errorf("x: %w", ferryman.ErrNotLeader), exitUnreachable},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), exitUnreachable},
		{config.Problems{{Text: "x"}}, exitUsage},
		{fmt.Errorf("x: %w", ferryman.ErrInvalid), exitUsage},
	}
	for _, test := range tests {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("%v: got %d, want %d", test.err, got, test.want)
		}
	}
}

// TestExitStatusesAreExplained holds the table and the codes together.
func TestExitStatusesAreExplained(t *testing.T) {
	t.Parallel()
	topic := exitCodesTopic().Long
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitUnreachable, exitRefused, exitRestart, exitStay} {
		if !strings.Contains(topic, fmt.Sprintf("\n  %2d  ", code)) {
			t.Errorf("%d is not explained in\n%s", code, topic)
		}
	}
}

func TestWatchedRollout(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	rollout := func(generation uint64, status ferryman.PartStatus) *ferryman.Rollout {
		r := &ferryman.Rollout{Generation: generation, Opened: at.Add(time.Duration(generation) * time.Hour),
			Parts: map[ferryman.Part]ferryman.PartProgress{ferryman.PartAgents: {Status: ferryman.PartComplete}, ferryman.PartDatabase: {Status: status, Reason: "because"}}}
		if status.Done() {
			r.Ended = r.Opened.Add(time.Minute)
		}
		return r
	}
	state := func(now *ferryman.Rollout, history ...*ferryman.Rollout) ferryman.State {
		s := ferryman.State{Rollout: now}
		for _, h := range history {
			s.History = append(s.History, *h)
		}
		return s
	}
	about := func(s ferryman.State, generation uint64) ferryman.State {
		s.Accepted = &ferryman.Accepted{Document: ferryman.Document{Generation: generation}}
		return s
	}
	const open, complete, reverted, reverting, halted, superseded = ferryman.PartOpen, ferryman.PartComplete, ferryman.PartReverted, ferryman.PartReverting, ferryman.PartHalted, ferryman.PartSuperseded
	tests := []struct {
		name string
		seen []ferryman.State
		over int    // which of seen ends the watch; len(seen) if none
		want string // of the error
	}{
		{"none yet", []ferryman.State{state(nil)}, 1, ""},
		{"complete before", []ferryman.State{state(rollout(1, complete))}, 0, ""},
		{"reverted before", []ferryman.State{state(rollout(1, reverted))}, 0, "database reverted: because"},
		{"becomes complete", []ferryman.State{state(rollout(1, open)), state(rollout(1, complete))}, 1, ""},
		{"goes back", []ferryman.State{state(rollout(1, open)), state(rollout(1, reverting)), state(rollout(1, reverted))}, 2, "generation 1 is not complete: database reverted"},
		{"stands still", []ferryman.State{state(rollout(1, open)), state(rollout(1, halted))}, 1, "`ferryman rollout continue`"},
		{"superseded", []ferryman.State{state(rollout(1, open)), state(rollout(2, open), rollout(1, superseded))}, 1, "generation 1 is not complete: database superseded"},
		{"complete, and another begins", []ferryman.State{state(rollout(1, open)), state(rollout(2, open), rollout(1, complete))}, 1, ""},
		{"forgotten", []ferryman.State{state(rollout(1, open)), state(rollout(9, open))}, 1, "superseded"},
		{"the next is about to begin", []ferryman.State{about(state(rollout(1, complete)), 2), about(state(rollout(2, open), rollout(1, complete)), 2), about(state(rollout(2, complete)), 2)}, 2, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var w watched
			for i, s := range test.seen {
				over, err := w.done(ferryman.Report{State: s})
				if over != (i == test.over) {
					t.Fatalf("report %d: over is %v (%v)", i, over, err)
				}
				if !over {
					continue
				}
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("got error %v, want %q", err, test.want)
				}
				return
			}
		})
	}
}

func TestSuccessor(t *testing.T) {
	t.Parallel()
	r := ferryman.Report{
		State: ferryman.State{Primary: ferryman.Primary{Node: "a", Slot: "db", Epoch: 1}, Members: map[ferryman.NodeID]ferryman.Member{}},
		View:  ferryman.View{Self: "a", Nodes: map[ferryman.NodeID]ferryman.NodeView{}},
	}
	add := func(id ferryman.NodeID, name string, change func(*ferryman.NodeView)) {
		r.State.Members[id] = ferryman.Member{ID: id, Name: name, Want: ferryman.WantActive, Services: []ferryman.Service{{Slot: "db"}}}
		v := ferryman.NodeView{Known: true, Reachable: true, Status: ferryman.NodeStatus{Services: []ferryman.ServiceStatus{{
			Service: ferryman.Service{Slot: "db"}, Unit: ferryman.UnitState{Active: true},
			Instance: ferryman.Instance{Running: true, Healthy: true, Role: ferryman.RoleReplica, Streaming: true, Epoch: 1, Position: 1 << 20}}}}}
		change(&v)
		r.View.Nodes[id] = v
	}
	add("a", "n1", func(*ferryman.NodeView) {})
	add("b", "n2", func(v *ferryman.NodeView) { v.Status.Services[0].Instance.Streaming = false })
	add("c", "n3", func(v *ferryman.NodeView) { v.Reachable = false })
	add("d", "n4", func(v *ferryman.NodeView) { v.Status.Services[0].Instance.Healthy = false })
	add("e", "n5", func(*ferryman.NodeView) {})
	tests := []struct {
		named string
		want  string
		why   string
	}{
		{"", "n5", ""},
		{"n5", "n5", ""},
		{"e", "n5", ""},
		{"n1", "", "n1 is the primary already"},
		{"n2", "", "does not stream"},
		{"n3", "", "does not answer"},
		{"n4", "", "n4 cannot become the primary now"},
		{"n9", "", "there is no node"},
	}
	for _, test := range tests {
		var named []string
		if test.named != "" {
			named = []string{test.named}
		}
		got, err := successor(r, named)
		if got != test.want || test.why != "" && (!errors.Is(err, ferryman.ErrRefused) || !strings.Contains(err.Error(), test.why)) || test.why == "" && err != nil {
			t.Errorf("switchover %s: got %q, %v; want %q, %q", test.named, got, err, test.want, test.why)
		}
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	s := ferryman.State{
		LastStep: 1<<63 + 1,
		Tokens:   map[string]ferryman.Token{"0123": {Hash: "beef"}},
		Accepted: &ferryman.Accepted{Document: ferryman.Document{
			Database: ferryman.Database{Version: "7.0.15", Parameters: map[string]string{"requirepass": "sesame", "masterauth": "sesame", "maxmemory": "1gb"}},
			Releases: map[string]ferryman.Release{"redis/7.0.15": {Archive: &ferryman.Archive{URL: "https://kim:sesame@files.example.com/r.tar.gz?sign=sesame", SHA256: "aa"}}},
		}},
		Events: []ferryman.Event{{Text: `fetch "https://kim:sesame@files.example.com/r.tar.gz?sign=sesame": refused`}},
	}
	got, err := redacted(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"sesame", "beef"} {
		if strings.Contains(string(got), secret) {
			t.Errorf("%s is shown:\n%s", secret, got)
		}
	}
	for _, kept := range []string{"7.0.15", "1gb", "9223372036854775809", "files.example.com/r.tar.gz", "refused", `"sha256": "aa"`} {
		if !strings.Contains(string(got), kept) {
			t.Errorf("%s is missing:\n%s", kept, got)
		}
	}
	if !json.Valid(got) {
		t.Errorf("not JSON:\n%s", got)
	}
}

func TestMayFailOver(t *testing.T) {
	t.Parallel()
	report := func(reachable, writable bool, waits ...ferryman.Wait) ferryman.Report {
		var r ferryman.Report
		r.State.Members = map[ferryman.NodeID]ferryman.Member{"1": {ID: "1", Name: "n1"}, "2": {ID: "2", Name: "n2"}}
		r.State.Primary = ferryman.Primary{Node: "1", Slot: "db", Epoch: 1}
		v := ferryman.NodeView{Reachable: reachable, Status: ferryman.NodeStatus{Services: []ferryman.ServiceStatus{{
			Service: ferryman.Service{Slot: "db"}, Instance: ferryman.Instance{Writable: writable}}}}}
		r.View.Nodes = map[ferryman.NodeID]ferryman.NodeView{"1": v}
		r.Decision.Waits = waits
		return r
	}
	flapping := ferryman.Wait{Rule: ferryman.RulePrimary, Code: "flapping"}
	dead, to := ferryman.Request{Dead: true}, ferryman.Request{Node: "n2"}
	for _, tt := range []struct {
		name string
		r    ferryman.Report
		req  ferryman.Request
		want string // in the refusal
	}{
		{"of a lost primary", report(false, true), ferryman.Request{}, ""},
		{"of one that accepts no writes", report(true, false), dead, ""},
		{"of one that is well", report(true, true), ferryman.Request{}, "ferryman switchover"},
		{"which is said to be dead", report(true, true), dead, "ferryman switchover"},
		{"or to be replaced by another", report(true, true), to, "ferryman switchover"},
		{"of one that ends again and again", report(true, true, flapping), ferryman.Request{}, ""},
		{"to nobody", report(false, false), ferryman.Request{Node: "n9"}, "ferryman nodes"},
		{"before there is a primary", ferryman.Report{}, dead, "no primary yet"},
	} {
		err := mayFailOver(tt.r, tt.req)
		if refused := errors.Is(err, ferryman.ErrRefused); refused != (tt.want != "") || refused && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in a refusal", tt.name, err, tt.want)
		}
	}
}
