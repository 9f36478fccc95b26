package state

import (
	"slices"

	"ferryman"
)

// step commits the intent of one step, or says why it must not be.
func (a *applier) step(st ferryman.Step) error {
	m, ok := a.s.Members[st.Node]
	if !ok {
		return refuse("it is no member")
	}
	if st.Op == "" || st.Deadline <= 0 {
		return refuse("a step needs an operation and a deadline")
	}
	if st.Service != "" && !slices.ContainsFunc(m.Services, func(s ferryman.Service) bool { return s.Slot == st.Service }) {
		return refuse("it has no service %q", st.Service)
	}
	for _, o := range a.s.Ledger {
		if o.Open() && o.Node == st.Node && o.Service == st.Service {
			return refuse("step %d (%s) is still open there", o.ID, o.Op)
		}
	}
	if st.Op.Reconfigures() {
		for _, o := range a.s.Ledger {
			if o.Open() && o.Op.Reconfigures() {
				return refuse("step %d (%s of %s) is still open, and the Raft group changes one thing at a time", o.ID, o.Op, a.name(o.Node))
			}
		}
	}
	unit := (a.s.Switchover != nil || a.s.Failover != nil) && (st.Rule == ferryman.RulePrimary || st.Rule == ferryman.RuleRepair)
	if a.s.Frozen != nil && !unit {
		return refuse("the cluster is frozen by %s", a.s.Frozen.By)
	}
	if err := a.allowed(m, st); err != nil {
		return err
	}
	if st.Op == ferryman.OpConfigure && st.Node == a.s.Primary.Node {
		a.s.Primary.SyncReplicas = 0 // before it may come true; what holds afterwards is seen afterwards
	}
	if st.Op == ferryman.OpRequestHosts {
		a.s.HostRequest = &ferryman.HostRequest{Step: a.s.LastStep + 1, Total: st.Args.Total, Remove: st.Args.Remove, Lost: st.Args.Lost, At: a.at}
	}
	a.s.LastStep++
	st.ID, st.Since, st.Outcome = a.s.LastStep, a.at, nil
	if a.s.Accepted != nil {
		st.Generation = a.s.Accepted.Document.Generation
	}
	a.s.Ledger = append(a.s.Ledger, st)
	return nil
}

// allowed holds the rules that no plan may break, operation by operation.
func (a *applier) allowed(m ferryman.Member, st ferryman.Step) error {
	sw, primary := a.s.Switchover, a.s.Primary
	switch st.Op {
	case ferryman.OpInitialise:
		if a.s.Initialised {
			return refuse("the database was initialised already; a new node clones it")
		}
		for _, o := range a.s.Ledger {
			if o.Open() && o.Op == ferryman.OpInitialise {
				return refuse("step %d initialises it on %s", o.ID, a.name(o.Node))
			}
		}
	case ferryman.OpPromote:
		if st.Node != primary.Node || st.Args.Epoch != primary.Epoch || primary.Epoch == 0 {
			return refuse("the primary of epoch %d is %s, not %s of epoch %d", primary.Epoch, a.name(primary.Node), m.Name, st.Args.Epoch)
		}
		if sw != nil && !sw.Committed && sw.Back == "" {
			return refuse("a switchover is under way")
		}
		if a.s.Failover != nil {
			return refuse("a failover is under way")
		}
	case ferryman.OpFollow:
		if st.Args.Epoch != primary.Epoch {
			return refuse("the epoch is %d, not %d", primary.Epoch, st.Args.Epoch)
		}
		if st.Node == primary.Node {
			return refuse("it is the primary")
		}
	case ferryman.OpFence:
		if f := a.s.Failover; f != nil && st.Node == f.From && st.Args.Kill {
			return nil
		}
		if st.Node == primary.Node && (sw == nil || sw.Committed || sw.Back != "") {
			return refuse("the primary is fenced only in a switchover or a failover")
		}
	case ferryman.OpUnfence:
		if st.Node != primary.Node {
			return refuse("only the primary's fence is taken away, and that is %s", a.name(primary.Node))
		}
		if sw != nil && sw.Back == "" && !sw.Committed {
			return refuse("a switchover is under way")
		}
		if a.s.Failover != nil {
			return refuse("a failover is under way")
		}
	case ferryman.OpClone, ferryman.OpRewind:
		if st.Node == primary.Node {
			return refuse("the primary's data are not replaced")
		}
	case ferryman.OpStop, ferryman.OpExit:
		return a.mayDisrupt(m, st)
	case ferryman.OpDepart, ferryman.OpRemove:
		if m.Want != ferryman.WantLeaving {
			return refuse("it does not leave")
		}
		if st.Node == primary.Node {
			return refuse("it is the primary")
		}
	}
	return nil
}

// mayDisrupt says whether a step may take its node out of service: inside a
// passage, or within the budget for one that leaves or is repaired.
func (a *applier) mayDisrupt(m ferryman.Member, st ferryman.Step) error {
	p, carried := a.passage(st.Node)
	if st.Op == ferryman.OpExit {
		if !carried || p.Part != ferryman.PartAgents {
			return refuse("an agent is restarted only while a rollout carries its node")
		}
		return nil
	}
	if carried && p.Part == ferryman.PartDatabase {
		return nil
	}
	if st.Node == a.s.Primary.Node {
		return refuse("it is the primary")
	}
	if disrupted := a.disrupted(st.Node); disrupted >= a.s.Policy().MaxUnavailable {
		return refuse("%d nodes are down because of us already, as many as maxUnavailable allows", disrupted)
	}
	return nil
}

func (a *applier) passage(id ferryman.NodeID) (ferryman.Passage, bool) {
	if !a.s.Rollout.Open() {
		return ferryman.Passage{}, false
	}
	p, ok := a.s.Rollout.Passages[id]
	return p, ok
}

// disrupted counts the nodes other than but that are down because of us.
func (a *applier) disrupted(but ferryman.NodeID) int {
	nodes := map[ferryman.NodeID]bool{}
	if a.s.Rollout.Open() {
		for id := range a.s.Rollout.Passages {
			nodes[id] = true
		}
	}
	for _, o := range a.s.Ledger {
		if o.Open() && o.Op.Disrupts() {
			nodes[o.Node] = true
		}
	}
	delete(nodes, but)
	return len(nodes)
}

// outcome closes a step. One that is closed already stays as it is: outcomes
// arrive more than once, and the first is the one that was acted upon.
func (a *applier) outcome(o ferryman.Outcome) error {
	i := slices.IndexFunc(a.s.Ledger, func(st ferryman.Step) bool { return st.ID == o.Step })
	if i < 0 {
		return nil
	}
	st := a.s.Ledger[i]
	if !st.Open() {
		return nil
	}
	switch o.Status {
	case ferryman.StatusDone, ferryman.StatusFailed, ferryman.StatusTimedOut, ferryman.StatusCancelled:
	default:
		return refuse("step %d cannot end as %q", o.Step, o.Status)
	}
	// The node's clock tells how long it took, the leader's when.
	if took := o.Ended.Sub(o.Began); !o.Began.IsZero() && took >= 0 {
		o.Began = a.at.Add(-took)
	}
	o.Ended = a.at
	st.Outcome = &o
	a.s.Ledger[i] = st
	switch {
	case !o.Done():
		a.event("step", st.Node, st.ID, o.Status != ferryman.StatusCancelled, "%s on %s (attempt %d) %s: %s", st.Op, a.name(st.Node), st.Attempt, o.Status, o.Reason)
	case st.Op == ferryman.OpInitialise:
		a.s.Initialised, a.s.Founder = true, st.Node
		a.event("database", st.Node, st.ID, false, "the database was initialised on %s", a.name(st.Node))
	case st.Op == ferryman.OpPromote:
		a.promoted(st)
	case st.Op == ferryman.OpStart && st.Rule == ferryman.RuleRepair && a.s.Primary.Epoch > 0:
		a.event("database", st.Node, st.ID, false, "the database of %s was started", a.name(st.Node))
	case st.Op == ferryman.OpClone && o.Result.SetAside != "":
		a.event("data", st.Node, st.ID, true, "old data on %s were set aside in %s; they are kept until you remove them", a.name(st.Node), o.Result.SetAside)
	}
	if st.Op == ferryman.OpRequestHosts && a.s.HostRequest != nil && a.s.HostRequest.Step == st.ID {
		h := *a.s.HostRequest
		h.Answered = o.Done()
		a.s.HostRequest = &h
	}
	return nil
}

// promoted notes the history that the primary began. One that was promoted
// again, after a restart, may have begun another under the same epoch.
func (a *applier) promoted(st ferryman.Step) {
	p := a.s.Primary
	if st.Node != p.Node || st.Args.Epoch != p.Epoch {
		return
	}
	a.event("primary", st.Node, st.ID, false, "%s accepts writes in epoch %d, from position %d of history %s", a.name(st.Node), p.Epoch, st.Outcome.Result.Position, st.Outcome.Result.History)
	if st.Outcome.Result.History == p.History {
		return
	}
	a.nextHistory(st.Outcome.Result.History)
}
