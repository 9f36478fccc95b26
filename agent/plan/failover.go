package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// The bounds of flapping: after maxFailovers within failoverWindow the next one
// is a person's to decide.
const (
	maxFailovers   = 3
	failoverWindow = 10 * time.Minute
)

// surveyFor is how long a failover waits for an answer that it can do without,
// surveyAgain how old one is that is asked for again, if it may be another now.
const (
	surveyFor   = 2 * time.Second
	surveyAgain = 10 * time.Second
)

// replaces begins a failover when the primary is lost.
func (x *situation) replaces(p *proposal) bool {
	why := x.lost()
	if why == "" {
		return false
	}
	recent := 0
	for _, at := range x.s.Failovers {
		if x.now.Sub(at) < failoverWindow {
			recent++
		}
	}
	if recent >= maxFailovers {
		p.wait("flapping", x.s.Primary.Node, "the primary %s is lost (%s), and is the one after %d failovers within %s: find out why they end, then `ferryman failover` lets it be replaced",
			x.name(x.s.Primary.Node), why, recent, failoverWindow)
		return false
	}
	p.move(ferryman.Transition{Kind: ferryman.MoveBeginFailover, Node: x.s.Primary.Node, Reason: why})
	return true
}

// lost says why the primary is to be replaced; empty while it is not. Most ways
// to be lost end in one: its agent renews the lease no more.
func (x *situation) lost() string {
	if !x.enforced() || !x.automatic() || len(x.s.Holders()) == 0 {
		return ""
	}
	n, ok := x.node(x.s.Primary.Node)
	if !ok {
		return ""
	}
	lease := x.s.Primary.Lease
	// A shorter lease is asked for anew only after its holder has heard of it.
	quiet := min(x.v.Lease.Quiet.Std(), x.steady())
	if x.v.Lease.Epoch == x.s.Primary.Epoch && quiet >= lease.Length.Std() {
		return fmt.Sprintf("its lease of %s was not renewed for %s%s", lease.Length, quiet.Round(time.Millisecond), colon(n.View.Error))
	}
	pg, carried := x.passages()[n.ID()]
	sw := x.s.Switchover // one that is committed only goes forward, to what may be lost by now
	if !n.View.Reachable || sw != nil && !sw.Committed || carried && pg.Part == ferryman.PartDatabase {
		return ""
	}
	svc := x.primaryService()
	down := time.Duration(0)
	if !n.View.DownSince.IsZero() {
		down = min(x.now.Sub(n.View.DownSince), x.since(x.s.Primary.Since))
	}
	switch {
	case svc.Instance.Running && !svc.Instance.Initialised:
		return "it came up without its data" + colon(svc.Instance.Reason)
	case svc.Instance.Running && !svc.Instance.Writable && x.behind(n.ID(), svc) != "":
		return x.behind(n.ID(), svc)
	case !svc.Unit.Active && x.failedLast(n.ID(), svc.Slot, ferryman.OpStart):
		return "its database ended (" + svc.Unit.Result + ") and could not be started again"
	case !svc.Unit.Active && x.endedOften(n.ID(), svc.Slot):
		return "its database ended again and again (" + svc.Unit.Result + ")"
	case down >= 2*lease.Length.Std() && !(svc.Instance.Running && svc.Instance.Writable): // of one that hangs the last answer stays
		return fmt.Sprintf("it has not accepted writes for %s%s", down.Round(time.Millisecond), colon(svc.Instance.Reason))
	}
	return ""
}

// behind says that another holds more than the primary that came up again: what
// a crash left of its data is not all that it acknowledged.
func (x *situation) behind(id ferryman.NodeID, svc ferryman.ServiceStatus) string {
	history := x.s.Primary.History
	for _, o := range x.serve {
		s, ok := o.View.Status.Service(svc.Slot)
		if !ok || o.ID() == id || history == "" || s.Instance.History != history {
			continue
		}
		if svc.Instance.History != history || s.Instance.Position > svc.Instance.Position {
			return fmt.Sprintf("it came up with %d of history %s, and %s holds %d of %s", svc.Instance.Position, svc.Instance.History, o.Name(), s.Instance.Position, history)
		}
	}
	return ""
}

// endedOften tells that the service was started again lately and did not last, or
// that repair leaves it alone for that.
func (x *situation) endedOften(node ferryman.NodeID, service string) bool {
	if _, rest := x.rests(node, service); rest > 0 {
		return true
	}
	recent := 0
	for _, st := range x.tried(node, service, ferryman.OpStart, 0) {
		if !st.Open() && st.Rule == ferryman.RuleRepair && x.now.Sub(st.Outcome.Ended) < time.Minute {
			recent++
		}
	}
	return recent >= 2
}

// failover replaces a lost primary: it sees to it that the old one accepts no
// writes, asks the others what they hold, and commits the epoch of the one that
// holds most. The rule then promotes that one as it does any primary.
func failover(x *situation, p *proposal) {
	f := x.s.Failover
	if f.Fenced == "" {
		x.fence(p, f)
		return
	}
	if !x.survey(p, f) {
		return
	}
	x.succeed(p, f)
}

// fence waits until the old primary accepts no writes: for the receipt of its
// own node, or until no lease can run.
func (x *situation) fence(p *proposal, f *ferryman.Failover) {
	if !x.automatic() && f.By == "" && len(x.tried(f.From, f.Slot, ferryman.OpFence, f.FirstStep)) == 0 {
		p.move(ferryman.Transition{Kind: ferryman.MoveBackFailover, Reason: "failover.mode is manual now"})
		return
	}
	fences := x.tried(f.From, f.Slot, ferryman.OpFence, f.FirstStep)
	if f.Dead || slices.ContainsFunc(fences, func(st ferryman.Step) bool { return st.Args.Kill && st.Outcome.Done() }) {
		p.move(ferryman.Transition{Kind: ferryman.MoveFenced, Node: f.From})
		return
	}
	if lease := x.s.Primary.Lease; lease != nil {
		rest := lease.Over() - x.v.Lease.Quiet.Std()
		if x.v.Lease.Closed == f.FirstStep && rest <= 0 {
			p.move(ferryman.Transition{Kind: ferryman.MoveFenced, Node: f.From, Expired: true})
			return
		}
		p.wait("lease", f.From, "the failover waits until no lease of %s can run any more, which is in %s", x.name(f.From), max(0, rest).Round(time.Millisecond))
	}
	if n, ok := x.node(f.From); ok && n.View.Reachable {
		x.cancelOn(p, f.From, f.Slot, 0)
		x.again(p, ferryman.Step{Op: ferryman.OpFence, Node: f.From, Service: f.Slot, Args: ferryman.Args{Epoch: x.s.Primary.Epoch, Kill: true}, Deadline: x.policy.WriteBudget}, f.FirstStep)
	}
}

// survey asks every instance that answers what it holds, also of those that
// leave; true when no answer is waited for any more: all are there, or enough to
// know that nothing better can come. The old primary is waited for only if it
// has just answered.
func (x *situation) survey(p *proposal, f *ferryman.Failover) bool {
	waiting, answers := false, slices.ContainsFunc(x.tried(f.From, f.Slot, ferryman.OpFence, f.FirstStep), func(st ferryman.Step) bool { return st.Outcome.Done() })
	for _, n := range x.nodes {
		svc, ok := n.View.Status.Service(f.Slot)
		if !ok || n.Member.Witness || n.Member.Lost || !n.View.Reachable || !svc.Instance.Running || n.Suffrage == "" {
			continue
		}
		question := ferryman.Step{Op: ferryman.OpPreflight, Node: n.ID(), Service: f.Slot, Deadline: x.policy.WriteBudget,
			Args: ferryman.Args{Engine: x.engine, Epoch: x.s.Primary.Epoch + 1, Alone: true}}
		asked := x.asked(question, f.Survey)
		switch last := len(asked) - 1; {
		case last < 0 || !asked[last].Open() && (!asked[last].Outcome.Done() || x.outdated(asked[last], svc.Instance)):
			x.cancelOn(p, n.ID(), f.Slot, f.Survey)
			x.again(p, question, f.Survey)
			waiting = waiting || last < 0 && (n.ID() != f.From || answers) && !x.occupied(p, n.ID(), f.Slot)
		case asked[last].Open():
			waiting = waiting || x.since(asked[last].Since) < surveyFor && (n.ID() != f.From || answers)
		}
	}
	if waiting && x.s.Required() > 0 && f.By == "" { // a person may take less than all, but never less than there is
		_, why := x.candidate(f, x.s.Survey())
		waiting = why != ""
	}
	if waiting {
		p.wait("survey", "", "the failover asks the others what they hold")
	}
	return !waiting
}

// outdated tells that an instance may answer otherwise by now: it could not
// become the primary, or is seen to hold something else than it said.
func (x *situation) outdated(answer ferryman.Step, now ferryman.Instance) bool {
	r := answer.Outcome.Result
	return x.now.Sub(answer.Outcome.Ended) >= surveyAgain && (len(r.Blockers) > 0 || r.History != now.History || r.Position != now.Position)
}

// occupied tells that an instance does something that is not withdrawn, for
// longer than an answer is waited for: a copy of all data, which takes hours.
func (x *situation) occupied(p *proposal, node ferryman.NodeID, service string) bool {
	return slices.ContainsFunc(x.s.Ledger, func(st ferryman.Step) bool {
		withdrawn := slices.ContainsFunc(p.cancel, func(o ferryman.Outcome) bool { return o.Step == st.ID })
		return st.Open() && st.Node == node && st.Service == service && !withdrawn && x.since(st.Since) >= surveyFor
	})
}

// cancelOn withdraws what an instance does for the old primary, but for what
// replaces its data or its process.
func (x *situation) cancelOn(p *proposal, node ferryman.NodeID, service string, since uint64) {
	for _, st := range x.s.Ledger {
		if !st.Open() || st.Node != node || st.Service != service || st.ID >= since && since > 0 && st.Args.Alone {
			continue
		}
		switch st.Op {
		case ferryman.OpFollow, ferryman.OpVerify, ferryman.OpPreflight, ferryman.OpCheckpoint, ferryman.OpDrain, ferryman.OpUndrain, ferryman.OpRewind:
			p.cancel = append(p.cancel, ferryman.Outcome{Step: st.ID, Status: ferryman.StatusCancelled, Ended: x.now, Reason: "the primary is lost"})
		}
	}
}

// succeed commits the epoch of the instance that holds most, if that is enough.
func (x *situation) succeed(p *proposal, f *ferryman.Failover) {
	survey := x.s.Survey()
	var told []string
	for _, h := range survey {
		told = append(told, fmt.Sprintf("%s holds %d of history %s", x.name(h.Node), h.Position, h.History))
	}
	best, why := x.candidate(f, survey)
	if why == "" {
		why = x.lagging(f, survey, best)
	}
	if why != "" {
		p.wait("failover-candidate", "", "nobody can take the place of %s by itself: %s (%s); bring more nodes back, or accept the loss with `ferryman failover NODE --primary-is-dead`",
			x.name(f.From), why, strings.Join(append(told, x.unheard(survey)...), "; "))
		return
	}
	p.move(ferryman.Transition{Kind: ferryman.MovePrimary, Node: best, Slot: f.Slot, Epoch: x.s.Primary.Epoch + 1,
		Reason: fmt.Sprintf("%s; %s; %s", f.Why, f.Fenced, strings.Join(told, "; "))})
}

// candidate is the best that may become the primary, or why there is none. Of
// equals the one that does not lead Raft and is not being carried is taken.
func (x *situation) candidate(f *ferryman.Failover, survey []ferryman.Held) (best ferryman.NodeID, why string) {
	score := -1
	for _, h := range survey {
		n, ok := x.node(h.Node)
		if !ok || f.To != "" && h.Node != f.To || n.Member.Want == ferryman.WantMaintenance || n.Member.Lost {
			continue
		}
		no := x.s.CannotReplace(h.Node)
		if svc, _ := n.View.Status.Service(f.Slot); no == "" && x.s.Primary.Lease != nil {
			no = svc.Unit.Unfit // it would wait for a lease that it does not ask for
		}
		if no != "" {
			why = cmp.Or(why, no) // that of the one that holds most
			continue
		}
		s := 0
		if !n.Leader {
			s++
		}
		if !n.Carried {
			s += 2
		}
		if h.Node != f.From {
			s += 4
		}
		if n.Member.Want == ferryman.WantActive {
			s += 8 // one that leaves hands over what nobody else has
		}
		if s > score {
			best, score = h.Node, s
		}
		if f.By != "" {
			break // a person takes less, and then the most that there is
		}
	}
	if best != "" {
		return best, ""
	}
	return "", cmp.Or(why, "none of the others answers")
}

// lagging says whether the best lacks more than maxLagBytes, where replication
// is asynchronous. A person who asks for the failover takes it.
func (x *situation) lagging(f *ferryman.Failover, survey []ferryman.Held, best ferryman.NodeID) string {
	if f.By != "" || x.s.Primary.SyncReplicas > 0 || best == f.From || x.s.Accepted == nil {
		return ""
	}
	var most, has uint64
	if last := x.primaryService().Instance; last.History == x.s.Primary.History {
		most = last.Position
	}
	for _, h := range survey {
		if h.Node == best {
			has = h.Position
		}
	}
	limit := x.s.Accepted.Document.WithDefaults().Database.Failover.MaxLagBytes
	if most > has && most-has > uint64(limit) {
		return fmt.Sprintf("%s lacks %d of what %s had when it was seen last, and maxLagBytes is %s", x.name(best), most-has, x.name(f.From), limit)
	}
	return ""
}

// unheard are the members that may hold something and did not say.
func (x *situation) unheard(survey []ferryman.Held) (out []string) {
	for _, id := range x.s.Holders() {
		if !slices.ContainsFunc(survey, func(h ferryman.Held) bool { return h.Node == id }) {
			n, _ := x.node(id)
			out = append(out, x.name(id)+" has not said"+colon(why(n)))
		}
	}
	return out
}

func why(n upgrade.Node) string {
	if n.Down != "" {
		return n.Down
	}
	return "it has not answered yet"
}

// ill says why no copy of the data may be given up now: the primary is lost, and
// what it acknowledged may be on any of the others; or all that there is may be,
// where it does not answer or came up without its data.
func (x *situation) ill() string {
	primary, reachable := x.primaryService().Instance, x.v.Nodes[x.s.Primary.Node].Reachable
	switch {
	case !x.single || x.s.Primary.Epoch == 0:
	case !reachable || !primary.Initialised: // of one that is down it is what was known before
		return "the primary " + x.name(x.s.Primary.Node) + " is not there, and all that is left of its data may be"
	case x.s.Primary.SyncReplicas > 0 && !(primary.Running && primary.Writable):
		return "the primary " + x.name(x.s.Primary.Node) + " does not accept writes, and what it acknowledged may be there only"
	}
	return ""
}

// holdsMore says why a member whose database is down may still not be given up:
// it may hold acknowledged writes that too few of those who stay hold as well.
// Not so once they have all that the primary had when it no longer sent n anything.
func (x *situation) holdsMore(n upgrade.Node) string {
	stay := 0
	for _, o := range x.serve {
		if o.ID() != n.ID() && !o.Primary {
			stay++
		}
	}
	need := min(x.s.Primary.SyncReplicas, stay)
	if need == 0 {
		return ""
	}
	for _, svc := range n.Member.Services {
		if slices.Contains(x.primaryService().Instance.Replicas, svc.Address) {
			return "its database still follows the primary"
		}
	}
	if all := x.holdAll(n.ID()); all < need {
		return fmt.Sprintf("it may hold acknowledged writes that too few others hold; %d of those who stay must have caught up with the primary, and %d have", need, all)
	}
	return ""
}

// holdAll counts those who stay, n aside, and hold all that the primary does.
func (x *situation) holdAll(n ferryman.NodeID) (all int) {
	primary := x.primaryService().Instance
	if primary.History != x.s.Primary.History {
		return 0
	}
	for _, o := range x.serve {
		if s, ok := o.View.Status.Service(x.s.Primary.Slot); ok && o.ID() != n && !o.Primary && o.View.Reachable && s.Instance.Streaming &&
			s.Instance.History == primary.History && s.Instance.Position >= primary.Position {
			all++
		}
	}
	return all
}
