package reconcile_test

import (
	"fmt"
	"slices"
	"time"

	"ferryman"
)

// wagent is what a host has of its agent's releases. An empty version is what
// the host has installed, which is version 1.
type wagent struct {
	version  string // runs
	selected string // runs with the next start
	back     string // is put back if that does not hold
	trial    bool
	failing  bool      // the new one was started and did not hold
	dies     time.Time // when the one that runs will end by itself
	putBack  *ferryman.PutBack
}

// The releases of agents that do not hold: one never comes back, one ends later.
const (
	agentNever = "3"
	agentLater = "4"
)

// comeback is how long it takes until a release is put back.
const comeback = 15 * time.Second

func agentRelease(version string) ferryman.Release {
	return ferryman.Release{Archive: &ferryman.Archive{URL: "file:///agent" + version, SHA256: "agent" + version, Size: 1}}
}

// shown is what the agent says of itself.
func (a *wagent) shown(restarts uint64, st *ferryman.NodeStatus) {
	st.Agent = ferryman.Target{Version: "1", RestartGeneration: restarts}
	if a.version != "" {
		st.Agent.Version, st.Release = a.version, agentRelease(a.version).Digest()
	}
	if a.selected != "" {
		st.Selected = []string{ferryman.ReleaseKey(ferryman.AgentEngine, a.selected)}
	}
	st.PutBack = a.putBack
}

// try is the switch.
func (a *wagent) try(version string) {
	if a.selected != version {
		a.back, a.selected, a.trial, a.putBack = a.selected, version, true, nil
	}
}

// launch is a start of the agent. It answers false when that does not come up.
func (w *world) launch(n *wnode) bool {
	a := &n.wagent
	if a.trial && a.failing {
		a.putBack = &ferryman.PutBack{Version: a.selected, Reason: "it did not hold"}
		if a.selected != "" {
			a.putBack.Digest = agentRelease(a.selected).Digest()
		}
		a.selected, a.trial, a.failing = a.back, false, false
		w.struck["agents put back"]++
		w.log("%s put back agent %q in the place of %q", n.name, a.back, a.putBack.Version)
	}
	if a.trial && a.selected == agentNever {
		a.failing = true
		n.wakes = w.now.Add(comeback)
		return false
	}
	a.version, a.dies = a.selected, time.Time{}
	if a.trial && a.selected == agentLater {
		a.dies = w.now.Add(comeback)
	}
	return true
}

// lives ends an agent that does not hold, and the trial of one that does.
func (w *world) lives(n *wnode) {
	a := &n.wagent
	if !n.agent || !a.trial {
		return
	}
	part := w.state.Rollout.Part(ferryman.PartAgents)
	switch {
	case part.Status.Done() && w.state.Complete[ferryman.PartAgents].Target.Version == a.version:
		a.trial, a.dies = false, time.Time{}
	case !a.dies.IsZero() && !w.now.Before(a.dies) && !n.paused && n.wakes.IsZero():
		a.failing = true
		n.wakes = w.now.Add(time.Second)
		w.ends(n)
		w.log("the agent %s of %s ends by itself", a.version, n.name)
	}
}

// changeAgents is another document of which agents: no draw of the dice, so that
// seeds stay what they were.
func (w *world) changeAgents() {
	if w.docs%3 == 0 {
		w.doc.Agent.RestartGeneration++
		return
	}
	w.doc.Agent.Version = []string{"", "2", agentNever, agentLater, "5"}[w.docs%5]
	w.struck["agents of another version"]++
}

// agentsUnsettled says what is not as the document wants the agents.
func (w *world) agentsUnsettled() string {
	if w.state.Rollout == nil {
		return "there is no rollout yet"
	}
	want := w.state.Complete[ferryman.PartAgents].Target.Version
	for id := range w.state.Members {
		if n := w.byID(id); n.version != want {
			return fmt.Sprintf("%s runs agent %q, and %q is that of all", n.name, n.version, want)
		}
	}
	if want == w.doc.Agent.Version {
		return ""
	}
	for _, r := range append(slices.Clone(w.state.History), *w.state.Rollout) {
		if r.Generation == w.doc.Generation && r.Parts[ferryman.PartAgents].Status == ferryman.PartReverted {
			return ""
		}
	}
	return fmt.Sprintf("all run agent %q, wanted is %q", want, w.doc.Agent.Version)
}
