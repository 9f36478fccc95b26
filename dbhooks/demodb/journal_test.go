package demodb

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func someEntries() []entry {
	return []entry{
		{kind: kindHistory, position: 1, epoch: 1, history: "1-a"},
		{kind: kindPut, position: 2, key: "a", value: "1"},
		{kind: kindPut, position: 3, key: "b", value: "2"},
		{kind: kindHistory, position: 4, epoch: 2, history: "2-b"},
		{kind: kindPut, position: 5, key: "c", value: ""},
	}
}

func writeJournal(t *testing.T, entries []entry) (dir string, size int64) {
	t.Helper()
	dir = t.TempDir()
	j, err := openJournal(dir, func(entry) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.write(entries); err != nil {
		t.Fatal(err)
	}
	j.noteAll(entries)
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	return dir, j.size
}

func reopen(t *testing.T, dir string) ([]entry, *journal, error) {
	t.Helper()
	var got []entry
	j, err := openJournal(dir, func(e entry) { got = append(got, e) })
	if err == nil {
		t.Cleanup(func() { j.close() })
	}
	return got, j, err
}

func TestJournalKeepsEntries(t *testing.T) {
	t.Parallel()
	want := someEntries()
	dir, size := writeJournal(t, want)
	got, j, err := reopen(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || j.size != size || j.current().id != "2-b" {
		t.Fatalf("got %d entries in %d bytes, history %q; want %d in %d, 2-b", len(got), j.size, j.current().id, len(want), size)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
	for _, test := range []struct {
		history  string
		position uint64
		want     bool
	}{{"1-a", 1, true}, {"1-a", 3, true}, {"1-a", 4, false}, {"2-b", 4, true}, {"2-b", 3, false}, {"2-b", 6, false}, {"3-c", 1, false}, {"", 0, false}} {
		if got := j.contains(test.history, test.position); got != test.want {
			t.Errorf("contains(%q, %d): got %t, want %t", test.history, test.position, got, test.want)
		}
	}
}

// A crash may cut the log anywhere: what was whole is kept, and the rest is gone from the file too.
func TestJournalCutsATornEnd(t *testing.T) {
	t.Parallel()
	want := someEntries()
	dir, size := writeJournal(t, want)
	whole, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range size {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, "log"), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		got, j, err := reopen(t, torn)
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, size, err)
		}
		if len(got) >= len(want) {
			t.Fatalf("cut at %d of %d: got all %d entries", cut, size, len(got))
		}
		next := entry{kind: kindPut, position: j.last() + 1, key: "new", value: "x"}
		if err := j.write([]entry{next}); err != nil {
			t.Fatal(err)
		}
		again, _, err := reopen(t, torn)
		if err != nil || len(again) != len(got)+1 || again[len(got)] != next {
			t.Fatalf("cut at %d, written again: got %d entries, %v; want %d", cut, len(again), err, len(got)+1)
		}
	}
}

// Damage before the end must never be taken for a torn end: acknowledged writes are behind it.
func TestJournalRefusesDamage(t *testing.T) {
	t.Parallel()
	dir, _ := writeJournal(t, someEntries())
	path := filepath.Join(dir, "log")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[frameHeader+2] ^= 1 // in the first entry's payload
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := reopen(t, dir); err == nil {
		t.Error("a log with damage at its beginning was opened")
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(after, damaged) {
		t.Errorf("a refused log was changed (%v)", err)
	}
}

func FuzzReadEntry(f *testing.F) {
	for _, e := range append(someEntries(), entry{kind: kindBeat, position: 9, bytes: 300}) {
		f.Add(e.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, n, err := readEntry(bytes.NewReader(b))
		if err != nil {
			return
		}
		if n > len(b) {
			t.Fatalf("took %d of %d bytes", n, len(b))
		}
		again, _, err := readEntry(bytes.NewReader(e.appendTo(nil)))
		if err != nil || again != e {
			t.Errorf("got %+v, %v after a round trip; want %+v", again, err, e)
		}
		if got := len(e.appendTo(nil)); got != e.size() {
			t.Errorf("size: got %d, want %d", e.size(), got)
		}
	})
}
