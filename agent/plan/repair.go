package plan

import (
	"slices"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// repair brings up services that should run and do not, on nodes that no
// rollout carries and that are not on their way out: a new node's first start
// is the same as a crashed one's, only with more of it missing.
func repair(x *situation) (p proposal) {
	for _, n := range x.nodes {
		pg, carried := x.passages()[n.ID()]
		stays := n.Member.Want == ferryman.WantActive || n.Member.Want == ferryman.WantLeaving && (n.Primary || x.single && x.founder(n) || x.ill() != "") || // what it holds may be needed
			n.Member.Want == ferryman.WantMaintenance && x.enforced() && !n.Primary && running(n) // who handed over before it stops follows first
		if n.Suffrage == "" {
			continue // it cannot read a step before it is admitted
		}
		if carried && pg.Part == ferryman.PartDatabase || !stays || !n.View.Reachable || !n.View.Known {
			continue
		}
		for _, svc := range n.Member.Services {
			if st, ok := n.View.Status.Service(svc.Slot); ok {
				x.mend(&p, n, st)
			} else {
				p.wait("no-service", n.ID(), "%s does not report its service %s", n.Name(), svc.Slot)
			}
		}
	}
	return p
}

// mend proposes the first thing that a service lacks.
func (x *situation) mend(p *proposal, n upgrade.Node, s ferryman.ServiceStatus) {
	want, ok := x.installed(s)
	if !ok {
		p.wait("no-document", n.ID(), "%s waits for a desired state that says what to run", n.Name())
		return
	}
	target := want.Target
	args := ferryman.Args{Engine: x.engine, Version: target.Version, RestartGeneration: target.RestartGeneration, Parameters: target.Parameters, Keep: x.policy.KeepVersions}
	do := func(op ferryman.Op) { x.again(p, ferryman.Step{Op: op, Node: n.ID(), Service: s.Slot, Args: args}, 0) }
	if !upgrade.Selects(s, target) {
		if digest := want.Release.Digest(); digest != "" && !slices.Contains(n.View.Status.Staged, digest) {
			args.Release = &want.Release
			x.again(p, ferryman.Step{Op: ferryman.OpStage, Node: n.ID(), Args: args}, 0)
			return
		}
		if s.Unit.Active {
			do(ferryman.OpStop)
			return
		}
		do(ferryman.OpSwitch)
		return
	}
	switch {
	case !s.Unit.Active:
		if x.flapping(p, n, s) {
			return
		}
		do(ferryman.OpStart)
	case !s.Instance.Running:
		p.wait("no-answer", n.ID(), "%s: %s is started and does not answer: %s", n.Name(), s.Slot, s.Instance.Reason)
	case !x.single:
	case x.s.Primary.Epoch == 0:
		x.initialise(p, n, s, do)
	case n.Primary || x.s.Switchover != nil && x.s.Switchover.From == n.ID() && !x.s.Switchover.Committed:
	default:
		x.replicate(p, n, s, args)
	}
}

// installed is what a service is started with: what it was switched to, once
// some rollout was complete; otherwise what is complete, or else wanted first.
func (x *situation) installed(s ferryman.ServiceStatus) (ferryman.Known, bool) {
	complete, known := x.s.Complete[ferryman.PartDatabase]
	switch {
	case x.s.Accepted == nil:
		return ferryman.Known{}, false
	case known && x.drifted(s):
		return complete, true
	case s.Unit.Active || known && s.Selected.Version != "":
		return ferryman.Known{Target: s.Selected}, true
	case known:
		return x.newcomers(complete), true
	}
	return x.s.Desired(ferryman.PartDatabase), true
}

// drifted tells that a service is not what the cluster runs although no rollout
// is open: its node was away while others were carried.
func (x *situation) drifted(s ferryman.ServiceStatus) bool {
	complete, known := x.s.Complete[ferryman.PartDatabase]
	return known && x.s.Accepted != nil && !x.s.Rollout.Open() && !x.s.Stale() &&
		!s.Selected.Equal(ferryman.Target{}) && !upgrade.Selects(s, complete.Target)
}

// newcomers is what a new node installs: the last complete version, unless
// nobody runs that any more; then the primary's, which it has to follow.
func (x *situation) newcomers(complete ferryman.Known) ferryman.Known {
	primary := x.primaryService()
	if primary.Selected.Version == "" {
		return complete
	}
	for _, n := range x.serve {
		for _, s := range n.View.Status.Services {
			if s.Selected.Version == complete.Target.Version {
				return complete
			}
		}
	}
	known := []ferryman.Known{x.s.Desired(ferryman.PartDatabase)}
	for i := range x.s.History {
		known = append(known, x.s.History[i].Part(ferryman.PartDatabase).To)
	}
	for _, k := range known {
		if k.Target.Version == primary.Selected.Version {
			return k
		}
	}
	return complete
}

// flapping holds a service back that was started and died again and again: it
// would only hide what is wrong.
func (x *situation) flapping(p *proposal, n upgrade.Node, s ferryman.ServiceStatus) bool {
	recent, rest := x.rests(n.ID(), s.Slot)
	if rest > 0 {
		p.wait("flapping", n.ID(), "%s on %s ended %d times within ten minutes (%s); it is started again in %s", s.Slot, n.Name(), recent, s.Unit.Result, rest.Round(time.Second))
		return true
	}
	return false
}

// rests says how often a service was started lately, and how long it is left
// alone now because it did not last.
func (x *situation) rests(node ferryman.NodeID, service string) (recent int, rest time.Duration) {
	var last time.Time
	for _, st := range x.tried(node, service, ferryman.OpStart, 0) {
		if !st.Open() && x.now.Sub(st.Outcome.Ended) < 10*time.Minute {
			recent++
			last = st.Outcome.Ended
		}
	}
	return recent, max(0, backoff(recent-1)-x.now.Sub(last))
}

// initialise makes the first database, once, on the first node that is ready.
func (x *situation) initialise(p *proposal, n upgrade.Node, s ferryman.ServiceStatus, do func(ferryman.Op)) {
	if x.s.Initialised {
		return
	}
	for _, o := range x.serve {
		if st, ok := o.View.Status.Service(s.Slot); ok && st.Instance.Initialised {
			p.wait("foreign-data", o.ID(), "%s holds a database that this cluster did not make; `ferryman adopt %s` makes it the cluster's, or move its data directory away", o.Name(), o.Name())
			return
		}
	}
	for _, st := range x.s.Ledger {
		if st.Op == ferryman.OpInitialise && st.Open() {
			return
		}
	}
	for _, st := range p.steps {
		if st.Op == ferryman.OpInitialise {
			return
		}
	}
	do(ferryman.OpInitialise)
}

// replicate makes a service a replica of the recorded primary.
func (x *situation) replicate(p *proposal, n upgrade.Node, s ferryman.ServiceStatus, args ferryman.Args) {
	if x.s.Failover != nil {
		p.wait("failover", n.ID(), "%s follows when the failover has ended", n.Name())
		return
	}
	primary := x.primaryService()
	op, ok := upgrade.Replicate(s, primary, x.s.Primary, x.failedLast(n.ID(), s.Slot, ferryman.OpRewind))
	if !ok {
		return
	}
	if !primary.Instance.Writable {
		p.wait("no-primary", n.ID(), "%s follows when the primary %s accepts writes", n.Name(), x.name(x.s.Primary.Node))
		return
	}
	args.From, args.Epoch = primary.Address, x.s.Primary.Epoch
	x.again(p, ferryman.Step{Op: op, Node: n.ID(), Service: s.Slot, Args: args}, 0)
}

func (x *situation) failedLast(node ferryman.NodeID, service string, op ferryman.Op) bool {
	tried := x.tried(node, service, op, 0)
	return len(tried) > 0 && !tried[len(tried)-1].Open() && !tried[len(tried)-1].Outcome.Done()
}

func running(n upgrade.Node) bool {
	for _, s := range n.View.Status.Services {
		if !s.Unit.Active || !s.Instance.Running {
			return false
		}
	}
	return true
}
