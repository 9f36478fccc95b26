// Package plan decides what is done next, as a pure function of the
// replicated state, the leader's view and the time. It has five rules, each
// in a file: primary, resume, repair, members, upgrade. All run; one admission
// orders what they propose and turns what loses into reasons for waiting.
package plan

import (
	"time"

	"ferryman"
)

// Next returns what is to be done now. Doing nothing always has a Wait.
func Next(s ferryman.State, v ferryman.View, now time.Time) ferryman.Decision {
	x := newSituation(s, v, now)
	if s.Cluster == "" {
		return ferryman.Decision{Waits: []ferryman.Wait{{Rule: ferryman.RuleMembers, Code: "no-cluster", Reason: "there is no cluster yet"}}}
	}
	if v.Raft[v.Self] == "" {
		return ferryman.Decision{Waits: []ferryman.Wait{{Rule: ferryman.RuleMembers, Code: "no-configuration", Reason: "the leader does not know its Raft group yet"}}}
	}
	var a admission
	a.begin(x)
	a.hear(ferryman.RuleResume, endHolds(x))
	if s.Frozen != nil {
		if s.Switchover != nil || s.Failover != nil { // it is one unit, and may need its databases started
			a.hear(ferryman.RulePrimary, primary(x))
			a.hear(ferryman.RuleRepair, repair(x))
		}
		a.hear(ferryman.RuleResume, resume(x))
		var p proposal
		x.underWay(&p)
		a.hear(ferryman.RuleUpgrade, p)
		a.wait(ferryman.RuleResume, "frozen", "", "the cluster is frozen by %s%s; `ferryman unfreeze` lets it go on", s.Frozen.By, reasonOf(s.Frozen))
		return a.decision()
	}
	a.hear(ferryman.RulePrimary, primary(x))
	a.hear(ferryman.RuleResume, resume(x))
	a.hear(ferryman.RuleRepair, repair(x))
	a.hear(ferryman.RuleMembers, members(x))
	a.hear(ferryman.RuleUpgrade, upgrades(x))
	return a.decision()
}

func reasonOf(h *ferryman.Hold) string {
	if h.Reason == "" {
		return ""
	}
	return " (" + h.Reason + ")"
}

// endHolds ends a pause or a freeze whose time is over.
func endHolds(x *situation) (p proposal) {
	for _, h := range []*ferryman.Hold{x.s.Paused, x.s.Frozen} {
		if h != nil && !h.Until.IsZero() && !x.now.Before(h.Until) {
			p.move(ferryman.Transition{Kind: ferryman.MoveEndHold})
			break
		}
	}
	return p
}
