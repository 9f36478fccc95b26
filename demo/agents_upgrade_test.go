package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
	"ferryman/dbhooks"
)

// buildAgent builds the agent as it is released, as that version.
func buildAgent(t testing.TB, version string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ferryman")
	args := append([]string{"build", "-buildvcs=false", "-ldflags=-s -w -X main.version=" + version, "-o", path}, flags...)
	out, err := exec.Command("go", append(args, "ferryman/cmd/agent")...).CombinedOutput()
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

// What hosts have installed, and the release that they are carried to.
const installedAgent, nextAgent = "0.1.0", "0.2.0"

// withAgents is a cluster under automatic failover whose hosts have a released agent
// installed.
func withAgents(t *testing.T) (*company, ferryman.Report) {
	t.Helper()
	c := newCompanyAs(t, light{}, buildAgent(t, installedAgent), "")
	c.failover = automatic(2 * time.Second)
	c.open(t)
	return c, c.settle(t)
}

// Agents carry themselves to another version and back while a client writes, a
// new host is carried before it has a vote, and no database is started anew.
func TestAgentsUpgradeThemselves(t *testing.T) {
	t.Parallel()
	c, before := withAgents(t)
	c.offerAgent(t, nextAgent, buildAgent(t, nextAgent))

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
	carry(nextAgent, nextAgent)

	c.doc.Nodes = 4
	c.change(t)
	for _, name := range names(c.settle(t)) {
		if s := statusOf(t, c.settle(t), name); s.Agent.Version != nextAgent {
			t.Errorf("%s runs agent %s, want %s", name, s.Agent.Version, nextAgent)
		}
	}

	carry("", installedAgent)
	c.checkWrites(t)
}

// newerFormat has a build understand a newer format of the replicated state, as
// the next release may.
func newerFormat(t testing.TB) (flag string) {
	t.Helper()
	const file, format = "../agent/state/command.go", "const Format uint32 = "
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	now := fmt.Sprint(format, state.Format)
	if !strings.Contains(string(source), now) {
		t.Fatalf("%s has no %q", file, now)
	}
	dir := t.TempDir()
	next := filepath.Join(dir, "command.go")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: next}})
	if err == nil {
		err = errors.Join(
			os.WriteFile(next, []byte(strings.Replace(string(source), now, fmt.Sprint(format, state.Format+1), 1)), 0o600),
			os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return "-overlay=" + filepath.Join(dir, "overlay.json")
}

// Agents of two releases, of which one knows a newer format of the replicated
// state, work together, whichever leads: the format rises when all know it.
func TestTheFormatRisesWithTheLastAgent(t *testing.T) {
	t.Parallel()
	c, before := withAgents(t)
	c.offerAgent(t, nextAgent, buildAgent(t, nextAgent, newerFormat(t)))
	c.doc.Agent.Version = nextAgent
	c.change(t)
	r := c.settle(t)
	eventually(t, "the format rises", func() (err error) {
		if r, err = c.stage.report(t.Context()); err == nil && r.State.Format != state.Format+1 {
			err = fmt.Errorf("it is %d", r.State.Format)
		}
		return err
	})
	at := slices.IndexFunc(r.State.Events, func(e ferryman.Event) bool { return strings.Contains(e.Text, "has format") })
	if at < 0 || slices.ContainsFunc(r.State.Events[at:], func(e ferryman.Event) bool { return e.Kind == "passage" }) {
		t.Errorf("it rose before all agents were carried:\n%s", history(r))
	}

	for _, name := range names(r) {
		if s := statusOf(t, r, name); s.Agent.Version != nextAgent {
			t.Errorf("%s runs agent %s, want %s", name, s.Agent.Version, nextAgent)
		}
	}
	if r.State.Primary.Epoch != before.State.Primary.Epoch {
		t.Errorf("the primary is that of epoch %d, before %d\n%s", r.State.Primary.Epoch, before.State.Primary.Epoch, history(r))
	}
	c.checkWrites(t)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
