package state

import (
	"maps"
	"slices"
	"time"

	"ferryman"
)

// request carries out what a person asked for.
func (a *applier) request(r ferryman.Request) error {
	if err := a.requested(r); err != nil {
		return err
	}
	if r.Kind != ferryman.RequestMaintain && r.Kind != ferryman.RequestUseToken && r.Kind != ferryman.RequestToken {
		a.event("request", "", 0, false, "%s by %s%s", r.Kind, r.By, because(r.Reason))
	}
	return nil
}

func (a *applier) requested(r ferryman.Request) error {
	switch r.Kind {
	case ferryman.RequestPause:
		a.s.Paused = a.hold(r)
	case ferryman.RequestFreeze:
		a.s.Frozen = a.hold(r)
	case ferryman.RequestResume:
		if a.s.Paused == nil {
			if a.s.Accepted != nil && a.s.Accepted.Document.Paused {
				return refuse("the document itself says paused: true; change it there")
			}
			return refuse("nothing is paused")
		}
		a.s.Paused = nil
		a.heldUp()
	case ferryman.RequestUnfreeze:
		if a.s.Frozen == nil {
			return refuse("nothing is frozen")
		}
		a.s.Frozen = nil
		a.heldUp()
	case ferryman.RequestContinue:
		return a.goOn()
	case ferryman.RequestAbort:
		return a.abort(r)
	case ferryman.RequestUndo:
		return a.undo(r)
	case ferryman.RequestLift:
		return a.lift(r)
	case ferryman.RequestSwitchover:
		m, err := a.member(r.Node)
		if err != nil {
			return err
		}
		return a.beginSwitchover(m.ID, r.By)
	case ferryman.RequestFailover:
		return a.failover(r)
	case ferryman.RequestRestart:
		if a.s.Accepted == nil {
			return refuse("no document was accepted yet")
		}
		want := a.s.Desired(ferryman.PartDatabase)
		if q, bad := a.s.Quarantined[want.Release.Digest()]; bad {
			return refuse("the document wants release %s, which is in quarantine; publish one that names the version that runs first", q.Key)
		}
		a.s.Restarts++
		if a.s.Rollout.Supersedable() {
			a.open()
		}
	case ferryman.RequestAdopt:
		m, err := a.member(r.Node)
		switch {
		case err != nil:
			return err
		case a.s.Primary.Epoch > 0:
			return refuse("the cluster has its database already, with %s as its primary", a.name(a.s.Primary.Node))
		case m.Witness || m.Want != ferryman.WantActive:
			return refuse("%s is no active node with services", m.Name)
		}
		a.s.Initialised, a.s.Founder = true, m.ID
		a.event("database", m.ID, 0, false, "the database that %s holds is now the cluster's", m.Name)
	case ferryman.RequestLeave:
		m, err := a.member(r.Node)
		if err != nil {
			return err
		}
		if m.Want == ferryman.WantLeaving {
			return nil
		}
		return a.want(ferryman.Transition{Node: m.ID, Want: ferryman.WantLeaving, Reason: "asked by " + r.By + because(r.Reason)})
	case ferryman.RequestMaintain:
		m, err := a.member(r.Node)
		if err != nil {
			return err
		}
		return a.want(ferryman.Transition{Node: m.ID, Want: ferryman.WantMaintenance, Reason: r.Reason,
			Maintenance: &ferryman.Maintenance{Owner: r.By, Reason: r.Reason, Until: a.at.Add(r.For.Std()), BootID: r.BootID}})
	case ferryman.RequestToken:
		if r.Token == nil || r.TokenID == "" {
			return refuse("a token needs an id and a hash")
		}
		for id, t := range a.s.Tokens {
			if !a.at.Before(t.Expires) {
				delete(a.s.Tokens, id)
			}
		}
		a.s.Tokens = put(a.s.Tokens, r.TokenID, *r.Token)
	case ferryman.RequestUseToken:
		t, ok := a.s.Tokens[r.TokenID]
		if !ok || !a.at.Before(t.Expires) {
			return refuse("the join token was used already, or ran out; make a new one with `ferryman certs token`")
		}
		delete(a.s.Tokens, r.TokenID)
		a.event("member", "", 0, false, "a join token was used by %s", r.By)
	default:
		return refuse("this agent knows no such request")
	}
	return nil
}

// heldUp lets the time of what is open begin anew: while nothing was allowed
// to go on, nothing could fail for want of progress.
func (a *applier) heldUp() {
	if !a.s.Rollout.Open() {
		return
	}
	for p, pp := range a.s.Rollout.Parts {
		if !pp.Status.Done() {
			pp.Progress = a.at
			a.s.Rollout.Parts[p] = pp
		}
	}
}

func (a *applier) hold(r ferryman.Request) *ferryman.Hold {
	h := &ferryman.Hold{By: r.By, Reason: r.Reason, At: a.at}
	if r.For > 0 {
		h.Until = a.at.Add(time.Duration(r.For))
	}
	return h
}

func (a *applier) member(nameOrID string) (ferryman.Member, error) {
	m, ok := a.s.Member(nameOrID)
	if !ok {
		return m, refuse("there is no node %q; `ferryman nodes` lists them", nameOrID)
	}
	return m, nil
}

// goOn is a person's word: past the canary, to finalize, or after a halt.
func (a *applier) goOn() error {
	if !a.s.Rollout.Open() {
		return refuse("no rollout is open")
	}
	moved := false
	for _, p := range ferryman.Parts {
		pp := a.s.Rollout.Parts[p]
		if pp.Status.Done() || pp.Status == ferryman.PartReverting {
			continue
		}
		if q, bad := a.s.Quarantined[pp.To.Release.Digest()]; bad {
			return refuse("release %s is in quarantine; lift it first with `ferryman rollout lift %s`", q.Key, q.Key)
		}
		pp.Continue, pp.Progress, moved = true, a.at, true
		if pp.Status == ferryman.PartHalted {
			a.reopen(p, &pp)
		}
		a.s.Rollout.Parts[p] = pp
		break
	}
	if !moved {
		return refuse("nothing waits for it")
	}
	return nil
}

// reopen gives a part that stood still new attempts. A node that was on its way
// back is carried anew, from where it is: what fails on the way back must not
// speak against what the part goes to.
func (a *applier) reopen(part ferryman.Part, pp *ferryman.PartProgress) {
	pp.Status, pp.Reason, pp.Progress, pp.FirstStep = ferryman.PartOpen, "", a.at, a.s.LastStep+1
	for _, id := range slices.Sorted(maps.Keys(a.s.Rollout.Passages)) {
		p := a.s.Rollout.Passages[id]
		switch {
		case p.Part != part:
		case !p.Goal.Target.Equal(pp.To.Target):
			delete(a.s.Rollout.Passages, id)
			a.event("passage", id, 0, false, "%s: %s is not carried back any more", part, a.name(id))
		default:
			p.FirstStep = a.s.LastStep + 1
			a.s.Rollout.Passages[id] = p
		}
	}
}

// abort carries what is open back to where it was complete.
func (a *applier) abort(r ferryman.Request) error {
	if !a.s.Rollout.Open() {
		return refuse("no rollout is open; `ferryman rollout undo` goes back from one that ended")
	}
	moved, why := false, error(nil)
	for _, p := range ferryman.Parts {
		pp := a.s.Rollout.Parts[p]
		if pp.Status.Done() || pp.Status == ferryman.PartReverting {
			continue
		}
		if err := a.turnBack(p, &pp, "aborted by "+r.By+because(r.Reason), false); err != nil {
			why = err
			continue
		}
		a.s.Rollout.Parts[p], moved = pp, true
	}
	if !moved {
		if why != nil {
			return why
		}
		return refuse("it is being carried back already")
	}
	return nil
}

// undo goes back from a complete rollout to the one before it.
func (a *applier) undo(r ferryman.Request) error {
	if a.s.Rollout.Open() {
		return refuse("a rollout is open; `ferryman rollout abort` carries it back")
	}
	moved := false
	for _, p := range ferryman.Parts {
		prev, ok := a.s.Previous[p]
		// A restart is not undone by another restart: what was, keeps its count.
		undone := a.s.Complete[p]
		prev.Target.RestartGeneration = undone.Target.RestartGeneration
		if !ok || prev.Target.Equal(undone.Target) {
			continue
		}
		if !moved {
			a.open()
			for q, pp := range a.s.Rollout.Parts {
				pp.Status = ferryman.PartComplete
				a.s.Rollout.Parts[q] = pp
			}
			moved = true
		}
		pp := a.s.Rollout.Parts[p]
		pp.To, pp.From, pp.First, pp.Status = a.s.Desired(p), prev, false, ferryman.PartOpen
		reason := "undone by " + r.By + because(r.Reason)
		if err := a.turnBack(p, &pp, reason, false); err != nil {
			return err
		}
		a.quarantine(p, undone, prev, reason)
		a.s.Rollout.Parts[p] = pp
		delete(a.s.Previous, p)
	}
	if !moved {
		return refuse("there is no earlier version to go back to, or none that could read what was written since")
	}
	return nil
}

// lift takes a release out of quarantine; a part that stood still because of
// it goes on.
func (a *applier) lift(r ferryman.Request) error {
	found := false
	for digest, q := range a.s.Quarantined {
		if q.Key == r.Release || digest == r.Release {
			delete(a.s.Quarantined, digest)
			found = true
			if a.s.Rollout.Open() {
				for p, pp := range a.s.Rollout.Parts {
					if pp.Status == ferryman.PartHalted && pp.To.Release.Digest() == digest {
						a.reopen(p, &pp)
						a.s.Rollout.Parts[p] = pp
					}
				}
			}
		}
	}
	if !found {
		return refuse("no release %q is in quarantine; `ferryman rollout status` lists them", r.Release)
	}
	// The document may still want it, although the rollout that failed ended.
	if a.s.Rollout != nil && !a.s.Rollout.Open() {
		for _, p := range ferryman.Parts {
			if !a.s.Desired(p).Target.Equal(a.s.Complete[p].Target) {
				a.open()
				return nil
			}
		}
	}
	return nil
}
