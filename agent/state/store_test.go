package state_test

import (
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"ferryman"
	"ferryman/agent/state"
)

func encode(t testing.TB, c command) []byte {
	t.Helper()
	data, err := state.Encode(ferryman.State{Format: state.Format}, c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newStore(t testing.TB) (*state.Store, *error) {
	t.Helper()
	var failed error
	return state.NewStore(slog.New(slog.NewTextHandler(io.Discard, nil)), func(err error) { failed = err }), &failed
}

func TestDecode(t *testing.T) {
	t.Parallel()
	good := encode(t, ask(ferryman.RequestPause, nil))
	if c, err := state.Decode(good); err != nil || text(t, c) != text(t, ask(ferryman.RequestPause, nil)) {
		t.Errorf("what was encoded decodes to %s (%v)", text(t, c), err)
	}
	for name, data := range map[string][]byte{
		"nothing":           {},
		"a newer format":    append([]byte{byte(state.Format) + 1}, good[1:]...),
		"an unknown field":  append([]byte{byte(state.Format)}, `{"at":"2026-01-01T00:00:00Z","teleport":{}}`...),
		"one further in":    append([]byte{byte(state.Format)}, `{"at":"2026-01-01T00:00:00Z","steps":[{"id":1,"warp":9}]}`...),
		"cut off":           good[:len(good)/2],
		"no JSON":           {byte(state.Format), 'x'},
		"a time of its own": append([]byte{byte(state.Format)}, `{"at":"noon"}`...),
	} {
		if _, err := state.Decode(data); !errors.Is(err, state.ErrUnknownCommand) {
			t.Errorf("%s: got %v, want it refused as unknown", name, err)
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	s, failed := newStore(t)
	changed := s.Changed()
	m := node("n1")
	if a := s.Apply(3, encode(t, command{At: t0, Bootstrap: &state.Bootstrap{Cluster: "orders-1", Format: state.Format, Member: m}})).(state.Applied); a.Err != nil || len(a.Events) == 0 {
		t.Fatalf("bootstrap came to %+v", a)
	}
	select {
	case <-changed:
	default:
		t.Error("who waits for a change was not told")
	}
	before, _ := s.State()
	if a := s.Apply(4, encode(t, command{At: t0, Bootstrap: &state.Bootstrap{Cluster: "other", Format: state.Format, Member: m}})).(state.Applied); !errors.Is(a.Err, ferryman.ErrRefused) {
		t.Errorf("a second bootstrap came to %v, want it refused", a.Err)
	}
	if after, index := s.State(); index != 4 || text(t, after) != text(t, before) {
		t.Errorf("after a refusal the index is %d, want 4 and the same state", index)
	}
	if *failed != nil {
		t.Errorf("a refusal stops the node: %v", *failed)
	}
	if a := s.Apply(5, []byte{99}).(state.Applied); !errors.Is(a.Err, state.ErrUnknownCommand) || *failed == nil || !strings.Contains((*failed).Error(), "log entry 5") {
		t.Errorf("a log entry of a newer agent came to %v and %v, want the node to stop and say which", a.Err, *failed)
	}
}

// TestSnapshot shows that a node that begins with a snapshot comes to the same
// as one that saw every log entry, wherever the snapshot was taken.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		all, _ := newStore(t)
		late, failed := newStore(t)
		var log [][]byte
		next := running(t)
		data := encode(t, command{At: t0, Bootstrap: &state.Bootstrap{Cluster: "c-1", Format: state.Format, Member: node("n1")}})
		all.Apply(1, data)
		for range 80 {
			current, _ := all.State()
			c := anything(rng, next)
			if current.Accepted == nil {
				c.Accept = accept(document(1, "1")).Accept
			}
			data := encode(t, c)
			log = append(log, data)
			if a := all.Apply(uint64(len(log)+1), data).(state.Applied); a.Err == nil {
				next, _ = all.State()
			}
			if len(log) == 40 {
				snap, err := all.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				if err := late.Restore(snap); err != nil {
					t.Fatal(err)
				}
			} else if len(log) > 40 {
				late.Apply(uint64(len(log)+1), data)
			}
		}
		a, i := all.State()
		b, j := late.State()
		if text(t, a) != text(t, b) || i != j || *failed != nil {
			t.Errorf("seed %d: from the snapshot the state at %d differs from the one at %d of the whole log (%v)", seed, j, i, *failed)
		}
	}

	s, failed := newStore(t)
	changed := s.Changed()
	if err := s.Restore([]byte("{")); err == nil || *failed != nil {
		t.Errorf("half a snapshot came to %v, %v; want an error that raft sees", err, *failed)
	}
	if err := s.Restore([]byte(`{"format":2,"index":9,"state":{"cluster":"c"}}`)); !errors.Is(err, state.ErrUnknownCommand) || *failed == nil {
		t.Errorf("a newer snapshot came to %v, want the node to stop", err)
	}
	if got, index := s.State(); got.Cluster != "" || index != 0 {
		t.Errorf("what was refused is in force: %s at %d", got.Cluster, index)
	}
	select {
	case <-changed:
		t.Error("a refused snapshot woke who waits for a change")
	default:
	}
}

// FuzzDecode shows that no log entry makes a node panic, and that what decodes
// applies or is refused, without changing what was there.
func FuzzDecode(f *testing.F) {
	d := document(2, "2")
	n4 := node("n4")
	for _, c := range []command{
		{}, accept(d), {Join: &n4}, ask(ferryman.RequestUndo, nil), ask(ferryman.RequestRestart, nil), steps(step(ferryman.OpStop, "n2")),
		moves(change{Kind: ferryman.MoveBeginSwitchover, Node: "id-n2"}), moves(commit), moves(part(ferryman.PartDatabase, ferryman.PartReverting)),
		{Bootstrap: &state.Bootstrap{Cluster: "c", Format: state.Format, Member: n4}}, {Outcomes: []ferryman.Outcome{done(1, ferryman.Result{})}}, {Refuse: &ferryman.Refusal{}},
	} {
		f.Add(encode(f, c))
	}
	f.Add([]byte{})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := state.Decode(data)
		if err != nil {
			return
		}
		for _, s := range []ferryman.State{{}, born(t), running(t), upgrading(t), proven(t)} {
			before := text(t, s)
			next, _, err := state.Apply(s, c)
			if text(t, s) != before {
				t.Error("Apply changed the state that it was given")
			}
			if err != nil && (!errors.Is(err, ferryman.ErrRefused) || text(t, next) != before) {
				t.Errorf("got %v, want it refused, and nothing changed", err)
			}
		}
	})
}
