package state_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

type (
	command = state.Command
	change  = ferryman.Transition
	request = ferryman.Request
)

func node(name string) ferryman.Member {
	return ferryman.Member{ID: ferryman.NodeID("id-" + name), Name: name, Address: name + ":7400",
		Services: []ferryman.Service{{Slot: "db", Engine: "demodb", Address: name + ":5000"}}}
}

func document(generation uint64, version string) ferryman.Document {
	return ferryman.Document{Generation: generation, Nodes: 3, Database: ferryman.Database{Engine: "demodb", Version: version},
		Releases: map[string]ferryman.Release{"demodb/" + version: release(version)}}
}

func release(version string) ferryman.Release {
	return ferryman.Release{Archive: &ferryman.Archive{URL: "file:///" + version, SHA256: "s" + version, Size: 1}}
}

func accept(d ferryman.Document) command {
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return command{Accept: &ferryman.Accepted{Document: d, Digest: string(text)}}
}

func ask(kind ferryman.RequestKind, change func(*request)) command {
	r := request{Kind: kind, By: "anna"}
	if change != nil {
		change(&r)
	}
	return command{Request: &r}
}

func moves(m ...change) command { return command{Moves: m} }

func steps(st ...ferryman.Step) command { return command{Steps: st} }

// step is one on the database of a node, or on the node where the op is.
func step(op ferryman.Op, name string) ferryman.Step {
	st := ferryman.Step{Op: op, Node: ferryman.NodeID("id-" + name), Attempt: 1, Deadline: ferryman.Duration(time.Minute), Rule: ferryman.RulePrimary}
	if op.ByEngine() || op == ferryman.OpStop || op == ferryman.OpStart {
		st.Service = "db"
	}
	return st
}

func with(st ferryman.Step, a ferryman.Args) ferryman.Step { st.Args = a; return st }

func done(id uint64, r ferryman.Result) ferryman.Outcome {
	return ferryman.Outcome{Step: id, Status: ferryman.StatusDone, Result: r}
}

// apply applies commands in order, a second apart; each has to be taken.
func apply(t *testing.T, s ferryman.State, commands ...command) ferryman.State {
	t.Helper()
	for i, c := range commands {
		c.At = t0.Add(time.Duration(s.LastEvent) * time.Second)
		next, _, err := state.Apply(s, c)
		if err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
		s = next
	}
	return s
}

// born is a cluster of three nodes that has no document yet.
func born(t *testing.T) ferryman.State {
	n2, n3 := node("n2"), node("n3")
	return apply(t, ferryman.State{}, command{Bootstrap: &state.Bootstrap{Cluster: "orders-1a2b", Format: state.Format, Member: node("n1")}}, command{Join: &n2}, command{Join: &n3})
}

// running is a cluster whose first rollout, of version 1, is complete; n1 is
// the primary of epoch 1.
func running(t *testing.T) ferryman.State {
	s := apply(t, born(t), accept(document(1, "1")), steps(step(ferryman.OpInitialise, "n1")))
	return apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, ferryman.Result{})}},
		moves(change{Kind: ferryman.MovePrimary, Node: "id-n1", Slot: "db", Epoch: 1, Goal: s.Desired(ferryman.PartDatabase)},
			change{Kind: ferryman.MovePart, Part: ferryman.PartAgents, Status: ferryman.PartComplete},
			change{Kind: ferryman.MovePart, Part: ferryman.PartDatabase, Status: ferryman.PartComplete}))
}

// upgrading is a rollout of version 2 that has reached the database.
func upgrading(t *testing.T) ferryman.State {
	return apply(t, running(t), accept(document(2, "2")), moves(part(ferryman.PartAgents, ferryman.PartComplete)))
}

func part(p ferryman.Part, st ferryman.PartStatus) change {
	return change{Kind: ferryman.MovePart, Part: p, Status: st, Reason: "a reason"}
}

func begin(s ferryman.State, name string, p ferryman.Part) change {
	return change{Kind: ferryman.MoveBeginPassage, Node: ferryman.NodeID("id-" + name), Part: p, Goal: s.Rollout.Part(p).Goal()}
}

func end(name string) change {
	return change{Kind: ferryman.MoveEndPassage, Node: ferryman.NodeID("id-" + name)}
}

// switching has a switchover from n1 to n2 under way.
func switching(t *testing.T) ferryman.State {
	return apply(t, running(t), moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n2"}))
}

// proven has everything that the commit point of the switchover asks for.
func proven(t *testing.T) ferryman.State {
	at := ferryman.Args{Position: 7, History: "h"}
	s := apply(t, switching(t), steps(step(ferryman.OpFence, "n1")))
	s = apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, ferryman.Result{Position: 7, History: "h"})}}, steps(with(step(ferryman.OpVerify, "n2"), at)))
	return apply(t, s, command{Outcomes: []ferryman.Outcome{done(s.LastStep, ferryman.Result{})}})
}

var commit = change{Kind: ferryman.MovePrimary, Node: "id-n2", Slot: "db", Epoch: 2}

// row is one line of a table: what a command comes to. A want of "" means that
// it is taken; anything else is a part of the sentence with which it is refused.
type row struct {
	name string
	in   ferryman.State
	do   command
	want string
}

func try(t *testing.T, rows []row) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := text(t, tt.in)
			tt.do.At = t0.Add(time.Hour)
			after, events, err := state.Apply(tt.in, tt.do)
			if text(t, tt.in) != before {
				t.Error("the state that it was applied to changed")
			}
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatalf("it was taken, and should be refused with %q", tt.want)
			}
			if !errors.Is(err, ferryman.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it refused with %q", err, tt.want)
			}
			if text(t, after) != before || len(events) != 0 {
				t.Errorf("a refusal changed the state, or made %d events", len(events))
			}
		})
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
