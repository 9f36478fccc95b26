package plan

import (
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// prepared stages the release on all nodes and asks all engines, before any
// node is touched; it answers whether all of that is done.
func (x *situation) prepared(p *proposal, part ferryman.Part, pp ferryman.PartProgress) bool {
	if hold, held := x.s.RolloutHold(); held {
		p.wait("paused", "", "the rollout is %s; `ferryman rollout resume` lets it go on", hold)
		return false
	}
	ready := true
	args := ferryman.Args{Engine: x.engine, Version: pp.To.Target.Version, RestartGeneration: pp.To.Target.RestartGeneration, Parameters: pp.To.Target.Parameters, Keep: x.policy.KeepVersions}
	if part == ferryman.PartAgents {
		args.Engine = ferryman.AgentEngine
	}
	for _, n := range x.of(part) {
		if n.View.Known && !n.View.Reachable || n.Member.Want != ferryman.WantActive {
			continue // it is staged when it comes back: the switch needs it
		}
		if !n.View.Known {
			p.wait("unreachable", n.ID(), "%s: %s", n.Name(), n.Down)
			ready = false
			continue
		}
		if pp.To.Release.Digest() != "" && !staged(n, pp.To.Release) {
			a := args
			a.Release = &pp.To.Release
			ready = x.prepare(p, part, pp, ferryman.Step{Op: ferryman.OpStage, Node: n.ID(), Args: a}) && ready
			continue
		}
		if part == ferryman.PartAgents || n.At(part, pp.To.Target) {
			continue
		}
		for _, svc := range n.View.Status.Services {
			if why := x.stuck(svc, pp.To.Release); why != "" {
				x.blocked(p, part, pp, n.ID(), why)
				ready = false
				continue
			}
			if svc.Instance.Running && svc.Traits.Can(ferryman.OpPreflight) && !upgrade.Selects(svc, pp.To.Target) {
				ready = x.prepare(p, part, pp, ferryman.Step{Op: ferryman.OpPreflight, Node: n.ID(), Service: svc.Slot, Args: args}) && ready
			}
		}
	}
	return ready
}

// stuck says why a service that is stopped for its passage would not come up
// again; what only changes parameters may take a restart, too. A unit that is not
// there may be what the package is to bring.
func (x *situation) stuck(svc ferryman.ServiceStatus, r ferryman.Release) string {
	switch {
	case svc.Unit.Missing != "" && (svc.Unit.Active || svc.Instance.Running || r.Package == nil):
		return svc.Unit.Missing
	case svc.Unit.Active && x.s.Primary.Lease != nil:
		return svc.Unit.Unfit
	}
	return ""
}

// blocked waits for what stands in a node's way, and not for ever.
func (x *situation) blocked(p *proposal, part ferryman.Part, pp ferryman.PartProgress, node ferryman.NodeID, why string) (failed bool) {
	p.wait("preflight", node, "%s is not ready for %s: %s", x.name(node), version(pp.To.Target), why)
	if failed = x.since(pp.Progress) >= x.policy.ProgressDeadline.Std(); failed {
		x.fail(p, part, pp, "preflight on "+x.name(node)+": "+why)
	}
	return failed
}

func staged(n upgrade.Node, r ferryman.Release) bool {
	for _, d := range n.View.Status.Staged {
		if d == r.Digest() {
			return true
		}
	}
	return false
}

// prepare runs one preparation until it is done. Attempts that fail end the
// part; blockers are asked about again until progressDeadline, and so is an
// instance that could not be asked: it may be what the release is to mend.
func (x *situation) prepare(p *proposal, part ferryman.Part, pp ferryman.PartProgress, st ferryman.Step) bool {
	tried := x.asked(st, pp.FirstStep)
	failures := 0
	for _, t := range tried {
		if !t.Open() && !t.Outcome.Done() {
			failures++
		}
	}
	if n := len(tried); n > 0 && tried[n-1].Outcome.Done() && st.Op == ferryman.OpPreflight {
		blockers := tried[n-1].Outcome.Result.Blockers
		if len(blockers) == 0 {
			return true
		}
		if x.blocked(p, part, pp, st.Node, blockers[0]) || x.now.Sub(tried[n-1].Outcome.Ended) < 10*time.Second {
			return false
		}
	}
	if failures >= attempts && (proves(st.Op) || x.since(pp.Progress) >= x.policy.ProgressDeadline.Std()) {
		x.fail(p, part, pp, string(st.Op)+" on "+x.name(st.Node)+": "+lastReason(tried))
		return false
	}
	x.again(p, st, pp.FirstStep)
	return false
}

func lastReason(tried []ferryman.Step) string {
	for i := len(tried) - 1; i >= 0; i-- {
		if o := tried[i].Outcome; o != nil && o.Reason != "" {
			return ferryman.Brief(o.Reason)
		}
	}
	return "no reason was given"
}
