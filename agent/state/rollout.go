package state

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"ferryman"
)

// open begins the rollout that the accepted document and local requests want.
// The one before it, open or ended, goes into the history.
func (a *applier) open() {
	if old := a.s.Rollout; old != nil {
		kept := *old
		if kept.Open() {
			kept.Ended = a.at
			kept.Parts = map[ferryman.Part]ferryman.PartProgress{}
			for p, pp := range old.Parts {
				if !pp.Status.Done() {
					a.keepTo(p, pp)
					pp.Status = ferryman.PartSuperseded
				}
				kept.Parts[p] = pp
			}
			a.event("rollout", "", 0, false, "the rollout of generation %d was superseded", old.Generation)
		}
		a.s.History = append(a.s.History, kept)
	}
	r := &ferryman.Rollout{Generation: a.s.Accepted.Document.Generation, Opened: a.at, Parts: map[ferryman.Part]ferryman.PartProgress{}}
	for _, p := range ferryman.Parts {
		from, known := a.s.Complete[p]
		pp := ferryman.PartProgress{Status: ferryman.PartOpen, From: from, To: a.s.Desired(p), First: !known, Progress: a.at, FirstStep: a.s.LastStep + 1}
		if q, bad := a.s.Quarantined[pp.To.Release.Digest()]; bad && !pp.To.Target.Equal(from.Target) {
			pp.Status = ferryman.PartHalted
			pp.Reason = fmt.Sprintf("release %s is in quarantine since generation %d (%s); name another version, or lift it with `ferryman rollout lift %s`", q.Key, q.Generation, q.Reason, q.Key)
			a.event("rollout", "", 0, true, "%s: %s", p, pp.Reason)
		}
		r.Parts[p] = pp
	}
	a.s.Rollout = r
	a.event("rollout", "", 0, false, "the rollout of generation %d began", r.Generation)
}

// keepTo makes what a superseded part carried to the last complete version, once
// the primary took writes there that the one before cannot read: nothing goes
// back beyond the point of no return.
func (a *applier) keepTo(part ferryman.Part, pp ferryman.PartProgress) {
	primary := ""
	for _, c := range pp.Carried {
		if c.Node == a.s.Primary.Node {
			primary = c.Version
		}
	}
	if part != ferryman.PartDatabase || pp.Status == ferryman.PartReverting || !a.s.NoReturn(pp) || primary != pp.To.Target.Version {
		return
	}
	a.s.Complete = put(a.s.Complete, part, pp.To)
	delete(a.s.Previous, part)
	a.event("rollout", "", 0, false, "%s of generation %d count as complete: there is no way back from %s", part, a.s.Rollout.Generation, describe(pp.To.Target))
}

// carryAgents has the rollout that ended go on for the agent of a node that came,
// or came back, with another than the last complete one.
func (a *applier) carryAgents(node ferryman.NodeID) error {
	complete, known := a.s.Complete[ferryman.PartAgents]
	if !known || a.s.Rollout == nil || a.s.Rollout.Open() || a.s.Stale() {
		return refuse("no rollout is over")
	}
	old := *a.s.Rollout
	a.s.History = append(a.s.History, old)
	next := old
	next.Opened, next.Ended, next.Passages = a.at, time.Time{}, nil
	next.Parts = maps.Clone(old.Parts)
	part := ferryman.PartProgress{Status: ferryman.PartOpen, From: complete, To: complete, Progress: a.at, FirstStep: a.s.LastStep + 1}
	if was := old.Parts[ferryman.PartAgents]; !was.To.Target.Equal(complete.Target) {
		part.Status, part.To, part.Reason = ferryman.PartReverting, was.To, was.Reason // what was turned back from stays so
	}
	next.Parts[ferryman.PartAgents] = part
	a.s.Rollout = &next
	a.event("rollout", node, 0, false, "%s has another agent: agents are carried to %s", a.name(node), describe(complete.Target))
	return nil
}

// supersede turns to the accepted document at a safe point: between two nodes,
// and not while something is carried back.
func (a *applier) supersede() error {
	if !a.s.Stale() {
		return refuse("the rollout is the one that is wanted")
	}
	if !a.s.Rollout.Supersedable() {
		return refuse("a node is being carried, or something is carried back first")
	}
	a.open()
	return nil
}

func (a *applier) beginPassage(t ferryman.Transition) error {
	m, ok := a.s.Members[t.Node]
	if !ok || m.Want == ferryman.WantLeaving {
		return refuse("%s is no member that stays", t.Node)
	}
	if !a.s.Rollout.Open() {
		return refuse("no rollout is open")
	}
	pp := a.s.Rollout.Parts[t.Part]
	if pp.Status != ferryman.PartOpen && pp.Status != ferryman.PartReverting {
		return refuse("%s are %s", t.Part, pp.Status)
	}
	if !t.Goal.Target.Equal(pp.To.Target) && !t.Goal.Target.Equal(pp.From.Target) {
		return refuse("%s go to %s or back to %s, not to %s", t.Part, describe(pp.To.Target), describe(pp.From.Target), describe(t.Goal.Target))
	}
	if _, twice := a.s.Rollout.Passages[t.Node]; twice {
		return refuse("%s is being carried already", m.Name)
	}
	if hold, held := a.s.RolloutHold(); held {
		return refuse("%s", hold)
	}
	if a.s.Frozen != nil {
		return refuse("the cluster is frozen by %s", a.s.Frozen.By)
	}
	if n := a.disrupted(t.Node); n >= a.s.Policy().MaxUnavailable {
		return refuse("%d nodes are down because of us already, as many as maxUnavailable allows", n)
	}
	if _, bad := a.s.Quarantined[t.Goal.Release.Digest()]; bad {
		return refuse("its release is in quarantine")
	}
	if a.s.Rollout.Passages == nil {
		a.s.Rollout.Passages = map[ferryman.NodeID]ferryman.Passage{}
	}
	a.s.Rollout.Passages[t.Node] = ferryman.Passage{Part: t.Part, Began: a.at, FirstStep: a.s.LastStep + 1, BootID: t.BootID, Voter: t.Voter, Goal: t.Goal}
	a.event("passage", t.Node, 0, false, "%s: %s is carried to %s", t.Part, m.Name, describe(t.Goal.Target))
	return nil
}

func (a *applier) endPassage(t ferryman.Transition) error {
	p, ok := a.passage(t.Node)
	if !ok {
		return refuse("%s is not being carried", a.name(t.Node))
	}
	delete(a.s.Rollout.Passages, t.Node)
	if t.Lost {
		a.event("passage", t.Node, 0, true, "%s: the passage of %s was given up: %s", p.Part, a.name(t.Node), t.Reason)
		return nil
	}
	pp := a.s.Rollout.Parts[p.Part]
	pp.Carried = append(slices.Clip(pp.Carried), ferryman.Carried{Node: t.Node, Began: p.Began, Ended: a.at, Version: p.Goal.Target.Version})
	pp.Progress = a.at
	a.s.Rollout.Parts[p.Part] = pp
	a.event("passage", t.Node, 0, false, "%s: %s was carried to %s in %s", p.Part, a.name(t.Node), describe(p.Goal.Target), a.at.Sub(p.Began).Round(1e6))
	return nil
}

// part moves one part of the rollout on.
func (a *applier) part(t ferryman.Transition) error {
	if !a.s.Rollout.Open() {
		return refuse("no rollout is open")
	}
	pp, ok := a.s.Rollout.Parts[t.Part]
	if !ok || pp.Status.Done() {
		return refuse("%s are %s", t.Part, pp.Status)
	}
	if t.Status != ferryman.PartReverting && t.Status != ferryman.PartHalted {
		for id, p := range a.s.Rollout.Passages {
			if p.Part == t.Part {
				return refuse("%s is still being carried", a.name(id))
			}
		}
	}
	switch t.Status {
	case ferryman.PartComplete:
		if pp.Status != ferryman.PartOpen {
			return refuse("%s are %s", t.Part, pp.Status)
		}
		old, known := a.s.Complete[t.Part]
		restarted := old.Target
		restarted.RestartGeneration = pp.To.Target.RestartGeneration
		switch {
		case t.Part == ferryman.PartDatabase && a.s.NoReturn(pp):
			delete(a.s.Previous, t.Part) // it could not read what is written from here on
		case known && !restarted.Equal(pp.To.Target): // a restart leaves nothing to go back to
			a.s.Previous = put(a.s.Previous, t.Part, old)
		}
		a.s.Complete = put(a.s.Complete, t.Part, pp.To)
	case ferryman.PartReverting:
		if err := a.turnBack(t.Part, &pp, t.Reason, true); err != nil {
			return err
		}
	case ferryman.PartReverted:
		if pp.Status != ferryman.PartReverting {
			return refuse("%s are %s", t.Part, pp.Status)
		}
		a.s.Complete = put(a.s.Complete, t.Part, pp.From)
	case ferryman.PartHalted:
		if pp.Status == ferryman.PartHalted {
			return refuse("%s stand still already", t.Part)
		}
		pp.Reason = t.Reason
	default:
		return refuse("%q is no status to turn to", t.Status)
	}
	pp.Status = t.Status
	if t.Reason != "" {
		pp.Reason = t.Reason
	}
	a.s.Rollout.Parts[t.Part] = pp
	bad := t.Status == ferryman.PartReverting || t.Status == ferryman.PartHalted || t.Status == ferryman.PartReverted
	a.event("rollout", "", 0, bad, "%s of generation %d: %s%s", t.Part, a.s.Rollout.Generation, t.Status, because(t.Reason))
	a.closeRollout()
	return nil
}

// turnBack makes the last complete target the goal again, also of the nodes
// that are being carried. What failed is not tried again until a person says so.
func (a *applier) turnBack(part ferryman.Part, pp *ferryman.PartProgress, reason string, failed bool) error {
	if pp.First {
		return refuse("nothing was ever complete to go back to")
	}
	if pp.Status == ferryman.PartReverting {
		return refuse("%s are being carried back already", part)
	}
	if failed {
		a.quarantine(part, pp.To, pp.From, reason)
	}
	pp.Status, pp.Reason, pp.Progress, pp.FirstStep, pp.Continue = ferryman.PartReverting, reason, a.at, a.s.LastStep+1, false
	for id, p := range a.s.Rollout.Passages {
		if p.Part == part {
			p.Goal, p.FirstStep = pp.From, a.s.LastStep+1
			a.s.Rollout.Passages[id] = p
		}
	}
	return nil
}

// quarantine keeps a release from being used until a person lifts it, unless
// it is the one that is gone back to.
func (a *applier) quarantine(part ferryman.Part, bad, back ferryman.Known, reason string) {
	digest := bad.Release.Digest()
	if digest == "" || digest == back.Release.Digest() {
		return
	}
	key := ferryman.ReleaseKey(a.engine(part), bad.Target.Version)
	a.s.Quarantined = put(a.s.Quarantined, digest, ferryman.Quarantine{Key: key, Reason: reason, Generation: a.s.Rollout.Generation, At: a.at})
	a.event("quarantine", "", 0, true, "release %s (%s) was put in quarantine: %s", key, digest, reason)
}

func (a *applier) engine(p ferryman.Part) string {
	if p == ferryman.PartAgents {
		return ferryman.AgentEngine
	}
	return a.s.Accepted.Document.Database.Engine
}

// closeRollout ends the rollout when all of its parts are done.
func (a *applier) closeRollout() {
	for _, pp := range a.s.Rollout.Parts {
		if !pp.Status.Done() {
			return
		}
	}
	a.s.Rollout.Ended = a.at
	a.event("rollout", "", 0, false, "the rollout of generation %d ended after %s", a.s.Rollout.Generation, a.at.Sub(a.s.Rollout.Opened).Round(1e6))
}

func put[K comparable, V any](m map[K]V, k K, v V) map[K]V {
	if m == nil {
		m = map[K]V{}
	}
	m[k] = v
	return m
}

func describe(t ferryman.Target) string {
	version := t.Version
	if version == "" {
		version = "the installed version"
	}
	if t.RestartGeneration > 0 {
		return fmt.Sprintf("%s (restart %d)", version, t.RestartGeneration)
	}
	return version
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
