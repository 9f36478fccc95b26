package dbhooks_test

import (
	"errors"
	"testing"

	"ferryman/dbhooks"
)

// A lease can end before its primary was promoted. What its guard leaves is a
// fence at the primary's own epoch, which is lifted and then promoted at.
func TestAnEpochThatWasFencedFirstIsPromotedLater(t *testing.T) {
	t.Parallel()
	fenceAndFree := func(m dbhooks.Marker, epoch uint64) dbhooks.Marker {
		m, err := m.Fence(epoch)
		if err == nil {
			m, err = m.Unfence(epoch)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	replica := dbhooks.Marker{Epoch: 3, From: "127.0.0.1:1"}
	for _, tt := range []struct {
		name string
		in   dbhooks.Marker
		want error
	}{
		{"a replica, fenced at the epoch that is to be its own", fenceAndFree(replica, 4), nil},
		{"a primary of before", fenceAndFree(dbhooks.Marker{Epoch: 3, Primary: true}, 4), nil},
		{"a new one", fenceAndFree(dbhooks.Marker{}, 4), nil},
		{"a replica under the epoch, which has another primary", fenceAndFree(dbhooks.Marker{Epoch: 4, From: "127.0.0.1:1"}, 4), dbhooks.ErrEpoch},
	} {
		if m, err := tt.in.Promote(4); !errors.Is(err, tt.want) || err == nil && (!m.Primary || m.Epoch != 4) {
			t.Errorf("%s: got %+v, %v; want %v", tt.name, m, err, tt.want)
		}
	}
}
