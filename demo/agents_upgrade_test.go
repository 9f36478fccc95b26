package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

// buildAgent builds the agent as it is released, as that version.
func buildAgent(t testing.TB, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ferryman")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w -X main.version="+version, "-o", path, "ferryman/cmd/agent").CombinedOutput()
	if err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	return path
}

// offerAgent makes a release of the agent known to the document.
func (c *company) offerAgent(t *testing.T, version, program string) {
	t.Helper()
	name := archiveName(ferryman.AgentEngine, version)
	a, err := dbhooks.WriteRelease(filepath.Join(c.stage.dir, "artefacts", name), ferryman.AgentEngine, program, map[string]string{"version": version})
	if err != nil {
		t.Fatal(err)
	}
	a.URL = fmt.Sprintf("http://%s/artefacts/%s", c.stage.address, name)
	c.doc.Releases[ferryman.ReleaseKey(ferryman.AgentEngine, version)] = ferryman.Release{Archive: &a}
}

// Agents carry themselves to another version and back while a client writes, a
// new host is carried before it has a vote, and no database is started anew.
func TestAgentsUpgradeThemselves(t *testing.T) {
	t.Parallel()
	const installed, next = "0.1.0", "0.2.0"
	c := newCompanyAs(t, light{}, buildAgent(t, installed), "")
	c.failover = automatic(2 * time.Second)
	c.open(t)
	before := c.settle(t)
	c.offerAgent(t, next, buildAgent(t, next))

	carry := func(to, version string) ferryman.Report {
		t.Helper()
		starts := c.starts(t, names(before))
		c.doc.Agent.Version = to
		c.change(t)
		at := time.Now()
		r := c.settle(t)
		_, _, gap := c.writer.seen("test")
		t.Logf("agents are %s after %s; the longest time without a write so far was %s", version, time.Since(at).Round(10*time.Millisecond), gap)
		for _, name := range names(r) {
			s := statusOf(t, r, name)
			if s.Agent.Version != version || (s.Release == "") != (to == "") || s.PutBack != nil {
				t.Errorf("%s runs agent %s of release %q, put back %v; want %s", name, s.Agent.Version, s.Release, s.PutBack, version)
			}
			if name := filepath.Join(c.host(name), "data", "releases", "releases", ferryman.AgentEngine, "trial.json"); exists(name) {
				eventually(t, "the trial is over", func() error {
					if exists(name) {
						return fmt.Errorf("%s is there", name)
					}
					return nil
				})
			}
		}
		if after := c.starts(t, names(before)); fmt.Sprint(after) != fmt.Sprint(starts) {
			t.Errorf("databases were started %v times, before the agents were carried %v", after, starts)
		}
		if r.State.Primary.Epoch != before.State.Primary.Epoch {
			t.Errorf("the primary is that of epoch %d, before %d\n%s", r.State.Primary.Epoch, before.State.Primary.Epoch, history(r))
		}
		return r
	}
	carry(next, next)

	c.doc.Nodes = 4
	c.change(t)
	for _, name := range names(c.settle(t)) {
		if s := statusOf(t, c.settle(t), name); s.Agent.Version != next {
			t.Errorf("%s runs agent %s, want %s", name, s.Agent.Version, next)
		}
	}

	carry("", installed)
	c.checkWrites(t)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
