package demo

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSweepEndsOnlyWhatLostItsProcess looks at directories alone; who is killed
// with its processes is for strike.
func TestSweepEndsOnlyWhatLostItsProcess(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	stageIn := func(name string) *stage {
		s := reopen(filepath.Join(root, "ferryman-demo-"+name))
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.own(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	playing, kept, killed, foreign := stageIn("playing"), stageIn("kept"), stageIn("killed"), stageIn("foreign")
	defer playing.owner.Close()
	if err := kept.disown(); err != nil {
		t.Fatal(err)
	}
	killed.owner.Close() // as the kernel does
	foreign.owner.Close()
	if err := os.Chmod(foreign.dir, 0o777); err != nil { // others may have written its records
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := sweep(root, &said); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*stage]bool{playing: true, kept: true, killed: false, foreign: true} {
		_, err := os.Stat(s.dir)
		if got := err == nil; got != want {
			t.Errorf("%s is there: %v, want %v", s.dir, got, want)
		}
	}
	if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, killed.dir) {
		t.Errorf("said %q, want one line about %s", got, killed.dir)
	}
}
