package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func events(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

const (
	good = `{"Action":"pass","Package":"p","Test":"TestGood"}`
	left = `{"Action":"skip","Package":"p","Test":"TestLeft"}`
	done = `{"Action":"pass","Package":"p","Test":"TestLeft"}`
	bad  = `{"Action":"fail","Package":"p","Test":"TestBad"}`
	end  = `{"Action":"pass","Package":"p"}`
)

func TestStage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		events string
		code   int
		want   []string
	}{
		"good":     {events(good, end), 0, []string{"one: 1 passed, 0 failed, 0 skipped\n"}},
		"no tests": {events(end), 1, []string{"one: 0 passed, 0 failed, 0 skipped\n"}},
		"skipped": {
			events(good, `{"Action":"output","Package":"p","Test":"TestLeft","Output":"    a_test.go:7: no bus\n"}`, left, end), 0,
			[]string{"skipped: p TestLeft: a_test.go:7: no bus\n", "1 passed, 0 failed, 1 skipped\n"},
		},
		"failed": {
			events(good, `{"Action":"output","Package":"p","Test":"TestBad","Output":"got 1\n"}`, bad, `{"Action":"fail","Package":"p"}`), 1,
			[]string{"got 1\n", "1 passed, 1 failed, 0 skipped\n"},
		},
		"does not build": {
			events(good, `{"Action":"build-output","ImportPath":"q","Output":"q.go:1: no\n"}`, `{"Action":"fail","Package":"q"}`), 1,
			[]string{"q.go:1: no\n", "1 passed, 0 failed, 0 skipped\n"},
		},
		"panic": {
			events(good, `{"Action":"output","Package":"p","Test":"TestEnds","Output":"panic: x\n"}`, `{"Action":"fail","Package":"p"}`), 1,
			[]string{"without an end: p TestEnds\npanic: x\n"},
		},
		"closing line": {
			events(good, `{"Action":"output","Package":"p","Output":"ok  \tp\t1s\n"}`, end), 0, []string{"ok  \tp\t1s\n"},
		},
		"not events": {events("go: no module", good), 0, []string{"go: no module\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			code := run([]string{"stage", "one", filepath.Join(t.TempDir(), "record")}, strings.NewReader(tt.events), &out, &out)
			if code != tt.code {
				t.Errorf("got exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %q, want %q in it", out.String(), want)
				}
			}
		})
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		stages []string // events of each
		code   int
		want   []string
	}{
		"good":               {[]string{events(good), events(good)}, 0, []string{"a: 1 passed, 0 failed, 0 skipped\n", "all stages: 2 passed, 0 failed, 0 skipped\n"}},
		"skipped, run later": {[]string{events(good, left), events(done)}, 0, []string{"all stages: 2 passed, 0 failed, 1 skipped\n"}},
		"skipped everywhere": {[]string{events(good, left), events(good, left)}, 1, []string{"skipped, and run by no stage: p TestLeft\n"}},
		"failed once":        {[]string{events(good, bad), events(good)}, 1, []string{"all stages: 2 passed, 1 failed, 0 skipped\n"}},
		"nothing":            {[]string{"\n"}, 1, []string{"all stages: 0 passed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record := filepath.Join(t.TempDir(), "record")
			var out strings.Builder
			for i, e := range tt.stages {
				run([]string{"stage", string(rune('a' + i)), record}, strings.NewReader(e), &out, &out)
			}
			out.Reset()
			if code := run([]string{"sum", record}, nil, &out, &out); code != tt.code {
				t.Errorf("got exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %q, want %q in it", out.String(), want)
				}
			}
		})
	}
}
