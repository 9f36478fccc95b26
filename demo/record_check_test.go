package demo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// script reads a hand-made record: "A 10-20" is a write that A took between
// these milliseconds, "A 10-20 refused" one that it did not, and "A@1 5" says
// that epoch 1 is A's from 5 on.
func script(t *testing.T, lines ...string) (writes []attempt, reigns []reign) {
	t.Helper()
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	kinds := map[string]outcome{"": acknowledged, "accepted": accepted, "refused": refused, "unknown": unknown}
	for i, l := range lines {
		var instance, kind string
		var epoch uint64
		var from, to int
		if name, rest, ok := strings.Cut(l, "@"); ok {
			if _, err := fmt.Sscanf(rest, "%d %d", &epoch, &from); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			reigns = append(reigns, reign{epoch, name, at(from)})
			continue
		}
		if n, err := fmt.Sscanf(l, "%s %d-%d %s", &instance, &from, &to, &kind); n < 3 {
			t.Fatalf("%q: %v", l, err)
		}
		writes = append(writes, attempt{instance, fmt.Sprint("key-", i), at(from), at(to), kinds[kind]})
	}
	return writes, reigns
}

func TestTheCheckerFindsASecondPrimary(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		record []string
		want   int // problems
	}{
		{"one primary", []string{"A@1 0", "A 10-20", "A 20-30", "A 25-40"}, 0},
		{"a failover", []string{"A@1 0", "B@2 100", "A 10-20", "A 80-95", "B 90-130", "B 130-140"}, 0},
		{"sent before the end of an epoch and answered long after", []string{"A@1 0", "B@2 100", "A 90-200", "B 120-130"}, 0},
		{"a second one while the first goes on", []string{"A@1 0", "A 10-20", "B 30-40", "A 50-60"}, 1},
		{"the old one takes a write after the new epoch", []string{"A@1 0", "B@2 100", "A 10-20", "A 101-120"}, 1},
		{"the old one takes a write before the new epoch, and after its successor did", []string{"A@1 0", "B@2 100", "B 90-100", "A 99-101", "A 100-101"}, 0},
		{"the new one takes a write before its epoch", []string{"A@1 0", "B@2 100", "B 80-99", "B 110-120"}, 1},
		{"there and back", []string{"A@1 0", "B@2 100", "A@3 200", "A 10-20", "B 110-120", "A 210-220"}, 0},
		{"the old one in the middle of there and back", []string{"A@1 0", "B@2 100", "A@3 200", "A 10-20", "B 110-120", "A 130-140", "B 150-160", "A 210-220"}, 1},
		{"the old one at the very end, when it is about to come back", []string{"A@1 0", "B@2 100", "A@3 200", "A 190-201", "B 195-200"}, 0},
		{"a write of the new epoch, and after it one of the epoch before", []string{"A@1 0", "B@2 100", "A@3 200", "A 190-201", "B 202-203"}, 1},
		{"two at a time in one epoch, each in between the other's", []string{"A@1 0", "A 10-11", "B 12-13", "A 14-15", "B 16-17", "A 18-19"}, 2},
		{"no member at all", []string{"A@1 0", "C 10-20"}, 1},
		{"refused is not taken", []string{"A@1 0", "A 10-20", "B 30-40 refused", "B 30-40 unknown", "A 50-60"}, 0},
		{"taken without a promise is taken", []string{"A@1 0", "A 10-20", "B 30-40 accepted", "A 50-60"}, 1},
		{"an epoch of which nothing is known", []string{"A@1 0", "B@3 100", "A 10-20", "B 110-120"}, 1},
		{"nothing is committed", []string{"A 10-20"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			writes, reigns := script(t, c.record...)
			if _, got := unlawful(writes, reigns); len(got) != c.want {
				t.Errorf("got %d problems, want %d: %q", len(got), c.want, got)
			}
			slices.Reverse(writes) // in whichever order the clients wrote it down
			if _, got := unlawful(writes, reigns); len(got) != c.want {
				t.Errorf("in another order: got %d problems, want %d: %q", len(got), c.want, got)
			}
		})
	}
}

func TestTheCheckerFindsLostWrites(t *testing.T) {
	t.Parallel()
	writes, reigns := script(t, "A@1 0", "B@2 100", "A 10-20", "A 30-40", "A 50-60 unknown", "A 60-70 refused", "B 110-120", "B 130-140 accepted")
	held := map[string]string{}
	for _, w := range writes {
		held[w.key] = valueOf(w.key)
	}
	if lost := missing(writes, acknowledged, held); len(lost) > 0 {
		t.Errorf("of what is all there %v is missing", lost)
	}
	delete(held, "key-2")
	delete(held, "key-4")           // nobody knows
	delete(held, "key-5")           // was refused
	held["key-6"] = "another value" // as bad as none
	delete(held, "key-7")
	keys := func(all []attempt) (out []string) {
		for _, w := range all {
			out = append(out, w.key)
		}
		return out
	}
	lost := missing(writes, acknowledged, held)
	if got, want := keys(lost), []string{"key-2", "key-6"}; !slices.Equal(got, want) {
		t.Errorf("acknowledged and missing: got %q, want %q", got, want)
	}
	if got, want := keys(missing(writes, accepted, held)), []string{"key-7"}; !slices.Equal(got, want) {
		t.Errorf("accepted and missing: got %q, want %q", got, want)
	}
	found, _ := unlawful(writes, reigns)
	one := len("*3\r\n$3\r\nset\r\n$5\r\nkey-2\r\n$14\r\nvalue of key-2\r\n")
	if got := lostBytes(writes, found, reigns, lost); len(got) != 2 || got[1] != one || got[2] != one {
		t.Errorf("lost bytes by epoch: got %v, want %d in epochs 1 and 2", got, one)
	}
}

func TestGapsAreBetweenAcknowledgements(t *testing.T) {
	t.Parallel()
	writes, _ := script(t, "A 0-10", "A 10-20", "B 20-30 refused", "B 40-50 accepted", "B 110-120", "B 120-125")
	zero := writes[0].sent
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		least    outcome
		from, to int
		want     int
	}{
		{acknowledged, 0, 130, 100}, {accepted, 0, 130, 70}, {acknowledged, 0, 15, 10}, {acknowledged, 122, 200, 75}, {acknowledged, 200, 300, 100},
	} {
		if got, want := gap(writes, c.least, at(c.from), at(c.to)), time.Duration(c.want)*time.Millisecond; got != want {
			t.Errorf("between %d and %d: got %v, want %v", c.from, c.to, got, want)
		}
	}
}
