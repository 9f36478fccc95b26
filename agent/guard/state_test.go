package guard

import (
	"errors"
	"os"
	"testing"
	"time"

	"ferryman/dbhooks"
)

func TestStateRules(t *testing.T) {
	t.Parallel()
	const now, soon, late = 10 * time.Second, 12 * time.Second, 15 * time.Second
	armed := state{Epoch: 3, Armed: true, Deadline: soon, Enforced: true}
	due := state{Epoch: 3, Armed: true, Deadline: now, Enforced: true}
	fenced := state{Epoch: 3, Fenced: 3, Enforced: true}
	any := errors.New("any error")
	arm := func(epoch uint64, at time.Duration) func(state) (state, error) {
		return func(s state) (state, error) { return s.arm(epoch, at, now) }
	}
	disarm := func(epoch uint64) func(state) (state, error) {
		return func(s state) (state, error) { return s.disarm(epoch, now) }
	}
	tests := []struct {
		name string
		from state
		rule func(state) (state, error)
		want state
		err  error
	}{
		{"arm first", state{}, arm(1, soon), state{Epoch: 1, Armed: true, Deadline: soon, Enforced: true}, nil},
		{"arm without an epoch", state{}, arm(0, soon), state{}, dbhooks.ErrEpoch},
		{"arm for the past", state{}, arm(1, now), state{}, any},
		{"arm on", armed, arm(3, late), state{Epoch: 3, Armed: true, Deadline: late, Enforced: true}, nil},
		{"arm back", state{Epoch: 3, Armed: true, Deadline: late}, arm(3, soon), state{Epoch: 3, Armed: true, Deadline: late, Enforced: true}, nil},
		{"arm a newer epoch, earlier", state{Epoch: 3, Armed: true, Deadline: late}, arm(4, soon), state{Epoch: 4, Armed: true, Deadline: soon, Enforced: true}, nil},
		{"arm an older epoch", armed, arm(2, late), armed, dbhooks.ErrEpoch},
		{"arm too late", due, arm(3, late), due, ErrFencing},
		{"arm a newer epoch too late", due, arm(4, late), due, ErrFencing},
		{"arm after the fence", fenced, arm(3, late), fenced, dbhooks.ErrFenced},
		{"arm a newer epoch after the fence", fenced, arm(4, late), state{Epoch: 4, Armed: true, Deadline: late, Fenced: 3, Enforced: true}, nil},

		{"disarm", armed, disarm(3), state{Epoch: 3, Enforced: true}, nil},
		{"disarm again", state{Epoch: 3}, disarm(3), state{Epoch: 3}, nil},
		{"disarm at a newer epoch", armed, disarm(4), state{Epoch: 4, Enforced: true}, nil},
		{"disarm an older epoch", armed, disarm(2), armed, dbhooks.ErrEpoch},
		{"disarm too late", due, disarm(3), due, ErrFencing},
		{"disarm after the fence", fenced, disarm(3), state{Epoch: 3, Enforced: true}, nil},

		{"release", state{Epoch: 3, Enforced: true}, state.release, state{Epoch: 3}, nil},
		{"release while armed", armed, state.release, armed, ErrArmed},
	}
	for _, tt := range tests {
		got, err := tt.rule(tt.from)
		if got != tt.want || (err == nil) != (tt.err == nil) || tt.err != nil && tt.err != any && !errors.Is(err, tt.err) {
			t.Errorf("%s: got %+v, %v; want %+v, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
	if got, want := due.done(), (state{Epoch: 3, Fenced: 3, Enforced: true}); got != want {
		t.Errorf("done: got %+v, want %+v", got, want)
	}
}

func TestStateFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := state{Boot: "this", Epoch: 3, Armed: true, Deadline: time.Hour, Fenced: 2, Enforced: true}
	if got, err := load(dir, "this"); got != (state{Boot: "this"}) || err != nil {
		t.Errorf("load of nothing: got %+v, %v; want it fresh", got, err)
	}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := load(dir, "this"); got != s || err != nil {
		t.Errorf("load: got %+v, %v; want %+v", got, err, s)
	}
	if got, err := load(dir, "another"); got != (state{Boot: "another"}) || err != nil {
		t.Errorf("load under another boot: got %+v, %v; want it fresh", got, err)
	}
	if err := os.WriteFile(statePath(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := load(dir, "this"); got != (state{Boot: "this"}) || err == nil {
		t.Errorf("load of an empty file: got %+v, %v; want it fresh, and an error", got, err)
	}
}

func TestAlarm(t *testing.T) {
	t.Parallel()
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	for name, at := range map[string]time.Duration{"zero": 0, "past": Boottime() - time.Minute, "soon": Boottime() + 20*time.Millisecond} {
		if err := a.set(at); err != nil {
			t.Fatal(err)
		}
		if err := a.wait(t.Context()); err != nil || Boottime() < at {
			t.Errorf("%s: went off at %v, %v; want at %v or later", name, Boottime(), err, at)
		}
	}
}
