package runner_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"ferryman"
)

// A release that is a package is staged, selected and reported by what binds it, and an archive can follow it.
func TestCarriesAServiceToAPackageAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		a := h.run(t)
		id := a.follower(t, 1)
		packaged := &ferryman.Release{Package: &ferryman.Package{Name: "fakedb", Version: "1:2.0-1"}}
		for _, to := range []ferryman.Args{
			{Engine: "fakedb", Version: "2.0", Release: packaged, Keep: 2},
			{Engine: "fakedb", Version: "3.0", Release: release("c"), Keep: 2},
			{Engine: "fakedb", Version: "2.0", Release: packaged, Keep: 2},
		} {
			a.must(t, node(id, ferryman.OpStage, to))
			if got := a.Status().Staged; !slices.Contains(got, to.Release.Digest()) {
				t.Errorf("staged: got %q, want %s among them", got, to.Release.Digest())
			}
			a.must(t, step(id+1, ferryman.OpStop, ferryman.Args{}))
			to.Release = nil // as a passage has it
			a.must(t, step(id+2, ferryman.OpSwitch, to))
			a.must(t, step(id+3, ferryman.OpStart, ferryman.Args{}))
			if s := a.service(t); !s.Launched.Equal(to.Target()) || s.Instance.Version != to.Version {
				t.Errorf("started: got launched %+v, version %s; want %s", s.Launched, s.Instance.Version, to.Version)
			}
			if got := a.Status().Selected; !slices.Contains(got, "fakedb/"+to.Version) {
				t.Errorf("selected: got %q", got)
			}
			id += 4
		}
		// The agent that comes next knows it too, without its journal.
		a.end()
		h.file.Set([]byte("{"))
		b := h.run(t)
		if s := b.service(t); s.Selected.Version != "2.0" {
			t.Errorf("after the journal was lost: got %+v selected, want 2.0", s.Selected)
		}
	})
}
