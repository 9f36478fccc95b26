package cluster

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"ferryman"
)

type echo struct{ got []string }

func (e *echo) Apply(_ uint64, data []byte) any { e.got = append(e.got, string(data)); return nil }
func (e *echo) Snapshot() ([]byte, error)       { return []byte("line\nline"), nil }
func (e *echo) Restore(data []byte) error {
	if string(data) != "line\nline" {
		return errors.New("a state of another format")
	}
	return nil
}

// What a leader decided in one term and raft appended in a later one reaches no
// machine.
func TestEntryOfAnotherTermIsRefused(t *testing.T) {
	t.Parallel()
	e := &echo{}
	r := &replica{machine: e, halt: func(err error) { t.Errorf("halt: %v", err) }}
	tests := []struct {
		entry []byte
		want  error
	}{
		{encodeEntry(4, []byte("same")), nil},
		{encodeEntry(3, []byte("older")), ferryman.ErrNotLeader},
		{encodeEntry(3, nil), ferryman.ErrNotLeader},
		{encodeEntry(4, nil), nil},
		{encodeEntry(0, nil), nil},
		{encodeEntry(0, []byte("any")), ferryman.ErrNotLeader},
	}
	for i, test := range tests {
		index := uint64(i + 1)
		a := r.Apply(&raft.Log{Index: index, Term: 4, Data: test.entry}).(answer)
		if !errors.Is(a.err, test.want) || a.term != 4 {
			t.Errorf("entry %d: %+v, want error %v", index, a, test.want)
		}
		if r.at() != index {
			t.Errorf("entry %d: applied is %d", index, r.at())
		}
	}
	if got := strings.Join(e.got, " "); got != "same" {
		t.Errorf("the machine got %q", got)
	}
}

func TestEntryThatIsNoneStopsTheReplica(t *testing.T) {
	t.Parallel()
	var halted error
	r := &replica{machine: &echo{}, halt: func(err error) { halted = err }}
	r.Apply(&raft.Log{Index: 1, Term: 1, Data: []byte("short")})
	if halted == nil || r.at() != 0 {
		t.Errorf("halted %v, applied %d", halted, r.at())
	}
	if _, err := r.Snapshot(); err == nil {
		t.Error("a replica that stopped takes a snapshot, and its log would go")
	}
}

func TestSnapshotCarriesWhatTheReplicaKnows(t *testing.T) {
	t.Parallel()
	r := &replica{machine: &echo{}, halt: func(err error) { t.Errorf("halt: %v", err) }}
	r.StoreConfiguration(7, raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: "n1", Address: "n1:1"}}})
	r.Apply(&raft.Log{Index: 9, Term: 2, Data: encodeEntry(2, []byte("x"))})
	s, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again := &replica{machine: &echo{}, halt: func(err error) { t.Errorf("halt: %v", err) }}
	if err := again.Restore(io.NopCloser(strings.NewReader(string(s.(snapshot))))); err != nil {
		t.Fatal(err)
	}
	if conf := again.committed(); again.at() != 9 || conf.Index != 7 || len(conf.Servers) != 1 || conf.Servers[0] != (Server{"n1", "n1:1", Voter}) {
		t.Errorf("restored: applied %d, configuration %+v", again.at(), conf)
	}

	for _, bad := range []string{"", "no header", "{}\nof another format"} {
		var halted error
		r := &replica{machine: &echo{}, halt: func(err error) { halted = err }}
		if err := r.Restore(io.NopCloser(strings.NewReader(bad))); err == nil || halted == nil {
			t.Errorf("restore %q: %v, halted: %v", bad, err, halted)
		}
	}
}
