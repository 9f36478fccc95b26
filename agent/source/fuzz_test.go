package source_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ferryman"
	"ferryman/agent/source"
)

// What Parse accepts is valid, and means the same when it is written again;
// what it refuses is told in few words. It never panics.
func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("../../configs/desired/*.yaml")
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, seed := range []string{
		`{"NumberReplicas": 3}`, "", "nodes: 010", "nodes: *a", "a: &a [*a]", "nodes: 3\n---\nnodes: 4", "{\"nodes\": 3, \"x\": \"\\ud83d\"}",
		"nodes: 3\nrollout: {maxUnavailable: 0, windows: [\"Sun 02:00-05:00 UTC\"]}", "? [a]\n: b", "nodes: !!str 3", "%YAML 1.1\n---\n",
		"nodes: 3\nexpires: 0000-01-01T00:00:00+24:00", "nodes: 3\ndatabase: {roles: {a: {count: 1}}, failover: {leaseTTL: 5s, maxLagBytes: 1GiB}}",
		"nodes: 3\nreleases: {a/1: {archive: {url: file:///x, size: 1, sha256: \"" + hex64 + "\"}}}", "<<: {nodes: 3}", "nodes: |\n  3\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, err := source.Parse(raw, "fuzz")
		if err != nil {
			if !errors.Is(err, ferryman.ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			if len(err.Error()) > 16<<10 {
				t.Fatalf("the error is %d bytes long", len(err.Error()))
			}
			return
		}
		if err := source.Validate(doc); err != nil {
			t.Fatalf("accepted, but not valid: %v", err)
		}
		written, err := json.Marshal(doc)
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		if len(written) > source.MaxDocument {
			return
		}
		again, err := source.Parse(written, "again")
		if err != nil {
			t.Fatalf("accepted, but not as it is written: %v\n%s", err, written)
		}
		if got, want := source.Digest(again), source.Digest(doc); got != want {
			t.Fatalf("written and read again: got %s, want %s\n%s", got, want, written)
		}
	})
}
