package dbhooks_test

import (
	"errors"
	"os"
	"testing"

	"ferryman"
	"ferryman/dbhooks"
)

// record is what an engine may keep beside the marker.
type record struct {
	dbhooks.Marker
	Initialised bool `json:"initialised"`
}

func TestReplaceMarkerKeepsWhatOthersSaved(t *testing.T) {
	t.Parallel()
	primary := record{dbhooks.Marker{Epoch: 3, Primary: true}, true}
	fenced := record{dbhooks.Marker{Epoch: 3, Primary: true, Fenced: true}, true}
	next := record{dbhooks.Marker{Epoch: 4, From: "127.0.0.1:1"}, true}
	tests := []struct {
		name       string
		there, old record
		err        error
		want       record
	}{
		{"nothing is there", record{}, record{}, nil, next},
		{"what was read is there", primary, primary, nil, next},
		{"it was fenced meanwhile", fenced, primary, ferryman.ErrConflict, fenced},
		{"it appeared meanwhile", primary, record{}, ferryman.ErrConflict, primary},
	}
	for _, test := range tests {
		dir := t.TempDir()
		if test.there != (record{}) {
			if err := dbhooks.SaveMarker(dir, test.there); err != nil {
				t.Fatal(err)
			}
		}
		if err := dbhooks.ReplaceMarker(dir, test.old, next); !errors.Is(err, test.err) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.err)
		}
		if err := dbhooks.CheckMarker(dir, test.want); err != nil {
			t.Errorf("%s: afterwards: %v", test.name, err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("%s: files: got %v, %v; want the marker alone", test.name, files, err)
		}
	}
}
