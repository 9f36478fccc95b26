package state_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"ferryman"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	doc := func(generation uint64, change func(*ferryman.Document)) command {
		d := document(generation, "1")
		change(&d)
		return accept(d)
	}
	var (
		run      = running(t)
		same     = func(*ferryman.Document) {}
		minimal  = apply(t, born(t), accept(ferryman.Document{Nodes: 3}))
		restarts = apply(t, run, doc(2, func(d *ferryman.Document) { d.Database.RestartGeneration, d.Agent.RestartGeneration = 5, 6 }))
		back     = func() ferryman.State {
			s := upgrading(t)
			s = apply(t, s, moves(begin(s, "n2", ferryman.PartDatabase)))
			return apply(t, s, moves(part(ferryman.PartDatabase, ferryman.PartReverting)))
		}()
		other = func(d *ferryman.Document) { d.Releases["demodb/1"] = release("other") }
		// All agents run a version 9 of theirs, and the database has one, too.
		agents = func() ferryman.State {
			s := apply(t, run, doc(2, func(d *ferryman.Document) { d.Agent.Version, d.Releases["ferryman/9"] = "9", release("agent") }))
			return apply(t, s, moves(part(ferryman.PartAgents, ferryman.PartComplete)), moves(part(ferryman.PartDatabase, ferryman.PartComplete)))
		}()
	)
	try(t, []row{
		{"a newer generation", run, doc(2, same), ""},
		{"one that skips some", run, doc(9, same), ""},
		{"the same content", run, doc(1, same), "in force already"},
		{"the same generation, other content", run, doc(1, func(d *ferryman.Document) { d.Nodes = 4 }), "with other content"},
		{"an older generation", apply(t, run, doc(5, same)), doc(4, same), "older than 5"},
		{"no generation after one", run, doc(0, same), "has no generation"},
		{"no generation at first", born(t), accept(ferryman.Document{Nodes: 3}), ""},
		{"no generation again", minimal, accept(ferryman.Document{Nodes: 4}), ""},
		{"a generation after none", minimal, doc(1, same), ""},
		{"for this cluster by name", run, doc(2, func(d *ferryman.Document) { d.Cluster = "orders" }), ""},
		{"for this cluster by id", run, doc(2, func(d *ferryman.Document) { d.Cluster = "orders-1a2b" }), ""},
		{"for another cluster", run, doc(2, func(d *ferryman.Document) { d.Cluster = "billing" }), "meant for cluster billing"},
		{"expired", run, doc(2, func(d *ferryman.Document) { d.Expires = t0.Add(time.Hour) }), "expired"},
		{"not expired yet", run, doc(2, func(d *ferryman.Document) { d.Expires = t0.Add(time.Hour + 1) }), ""},
		{"another engine", run, doc(2, func(d *ferryman.Document) { d.Database.Engine = "redis" }), "a cluster keeps its engine"},
		{"no version any more", run, doc(2, func(d *ferryman.Document) { d.Database.Version = "" }), "database.version is missing"},
		{"a restart of the database undone", restarts, doc(3, func(d *ferryman.Document) { d.Database.RestartGeneration, d.Agent.RestartGeneration = 4, 6 }), "from 5 back to 4"},
		{"a restart of agents undone", restarts, doc(3, func(d *ferryman.Document) { d.Database.RestartGeneration, d.Agent.RestartGeneration = 5, 5 }), "from 6 back to 5"},
		{"less than half", run, doc(2, func(d *ferryman.Document) { d.Nodes = 1 }), "add confirmShrink: 1"},
		{"less than half, confirmed", run, doc(2, func(d *ferryman.Document) { d.Nodes, d.ConfirmShrink = 1, 1 }), ""},
		{"less than half, confirmed for another number", run, doc(2, func(d *ferryman.Document) { d.Nodes, d.ConfirmShrink = 1, 2 }), "add confirmShrink: 1"},
		{"just over half", run, doc(2, func(d *ferryman.Document) { d.Nodes = 2 }), ""},
		{"another digest of a release", run, doc(2, other), "digest never changes"},
		{"another digest of what is complete, not named in between",
			apply(t, run, doc(2, func(d *ferryman.Document) { d.Releases = nil })), doc(3, other), "digest never changes"},
		{"a version of the database called like one of the agents", agents, doc(3, func(d *ferryman.Document) { d.Releases["demodb/9"] = release("db") }), ""},
		{"another digest of the agents' release", agents, doc(3, func(d *ferryman.Document) { d.Releases["ferryman/9"] = release("other") }), "release ferryman/9 has another digest"},
		{"signed, without the agents' release to go back to", agents, signed(document(3, "1"), "a"), "does not list releases[ferryman/9]"},
		{"the same content, signed", run, signed(document(1, "1"), "a"), ""},
		{"the same content, signed as it is", apply(t, run, signed(document(1, "1"), "a")), signed(document(1, "1"), "a"), "in force already"},
		{"the same content, not signed any more", apply(t, run, signed(document(1, "1"), "a")), doc(1, same), "in force already"},
		{"signed, without the release to go back to", run, signed(func() ferryman.Document { d := document(2, "2"); delete(d.Releases, "demodb/1"); return d }(), "a"), "does not list releases[demodb/1]"},
		{"signed, with it", run, signed(document(2, "1"), "a"), ""},
		{"while a rollout goes back", back, accept(document(3, "3")), ""},
		{"before there is a cluster", ferryman.State{}, doc(1, same), "no cluster yet"},
	})

	t.Run("the minimal form counts its changes", func(t *testing.T) {
		s := apply(t, minimal, accept(ferryman.Document{Nodes: 4}), accept(ferryman.Document{Nodes: 5}))
		if got := s.Accepted.Document.Generation; got != 3 || !s.Accepted.Implicit {
			t.Errorf("generation %d (implicit %v), want 3 by counting", got, s.Accepted.Implicit)
		}
	})
	t.Run("other signatures change nothing else", func(t *testing.T) {
		s := apply(t, run, signed(document(1, "1"), "a"))
		got, want := *s.Accepted, *run.Accepted
		if string(got.Envelope) != `"a"` || run.Accepted.Envelope != nil {
			t.Errorf("envelope %s, and %s in the state before", got.Envelope, run.Accepted.Envelope)
		}
		got.Envelope = nil
		if !reflect.DeepEqual(got, want) || s.Rollout == nil || s.Rollout.Generation != run.Rollout.Generation {
			t.Errorf("accepted %+v, want %+v", got, want)
		}
	})
	t.Run("a refused document is remembered once", func(t *testing.T) {
		c := command{Refuse: &ferryman.Refusal{Digest: "d", Reason: "unknown key"}}
		s := apply(t, run, c)
		twice := apply(t, s, c)
		if s.Refused == nil || twice.LastEvent != s.LastEvent || s.LastEvent != run.LastEvent+1 {
			t.Errorf("refused %v with %d and then %d events, want one event", s.Refused, s.LastEvent-run.LastEvent, twice.LastEvent-run.LastEvent)
		}
		if s := apply(t, twice, accept(document(2, "1"))); s.Refused != nil {
			t.Errorf("after a good document %v is still refused", s.Refused)
		}
	})
	t.Run("what the way back carries is finished first", func(t *testing.T) {
		s := apply(t, back, accept(document(3, "3")))
		if s.Rollout.Generation != 2 || s.Accepted.Document.Generation != 3 {
			t.Errorf("generation %d is carried and %d accepted, want 2 and 3", s.Rollout.Generation, s.Accepted.Document.Generation)
		}
	})
}

func signed(d ferryman.Document, by string) command {
	c := accept(d)
	c.Accept.Envelope = json.RawMessage(`"` + by + `"`)
	return c
}
