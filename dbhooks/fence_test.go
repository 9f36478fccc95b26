package dbhooks_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"ferryman/dbhooks"
)

func TestFenceMarker(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, before, want string }{
		{"none yet", "", `{"epoch":5,"primary":false,"fenced":true}`},
		{"the primary of the epoch", `{"epoch":5,"primary":true,"fenced":false}`, `{"epoch":5,"primary":true,"fenced":true}`},
		{"an older epoch", `{"epoch":3,"primary":true,"fenced":false}`, `{"epoch":5,"primary":true,"fenced":true}`},
		{"a replica, with its source", `{"epoch":5,"primary":false,"fenced":false,"from":"a:1"}`, `{"epoch":5,"primary":false,"fenced":true,"from":"a:1"}`},
		{"fenced already", `{"epoch":5,"primary":true,"fenced":true}`, `{"epoch":5,"primary":true,"fenced":true}`},
		{"a newer epoch", `{"epoch":6,"primary":true,"fenced":false}`, `{"epoch":6,"primary":true,"fenced":false}`},
		{
			"with what an engine keeps beside", `{"epoch":5,"primary":true,"fenced":false,"runID":"a","n":12345678901234567890,"more":{"x":[1]}}`,
			`{"epoch":5,"primary":true,"fenced":true,"runID":"a","n":12345678901234567890,"more":{"x":[1]}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			file := filepath.Join(dir, "ferryman-marker.json")
			if tt.before != "" {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(tt.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := dbhooks.FenceMarker(dir, 5); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := parse(t, string(raw)), parse(t, tt.want); !reflect.DeepEqual(got, want) {
				t.Errorf("the marker: got %s, want %s", raw, tt.want)
			}
		})
	}
}

// parse keeps numbers as they are written.
func parse(t *testing.T, text string) map[string]string {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	all := map[string]string{}
	for k, v := range fields {
		all[k] = string(v)
	}
	return all
}

func TestFenceMarkerThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "ferryman-marker.json")
	if err := os.WriteFile(file, []byte(`{"epoch":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dbhooks.FenceMarker(dir, 5); err == nil {
		t.Error("fence a torn marker: got nil, want an error")
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != `{"epoch":` {
		t.Errorf("the torn marker: got %q, %v; want it untouched", raw, err)
	}
}
