package plan

import (
	"fmt"

	"ferryman"
)

// proposal is what one rule wants.
type proposal struct {
	steps  []ferryman.Step
	moves  []ferryman.Transition
	cancel []ferryman.Outcome
	waits  []ferryman.Wait
}

func (p *proposal) step(st ferryman.Step)      { p.steps = append(p.steps, st) }
func (p *proposal) move(t ferryman.Transition) { p.moves = append(p.moves, t) }
func (p *proposal) wait(code string, node ferryman.NodeID, format string, args ...any) {
	p.waits = append(p.waits, ferryman.Wait{Code: code, Node: node, Reason: fmt.Sprintf(format, args...)})
}

// lane is where at most one step is open: a service, or a node by itself.
type lane struct {
	node    ferryman.NodeID
	service string
}

// admission is the one place where rules compete: for lanes, and for the
// budget of nodes that may be down because of us.
type admission struct {
	x    *situation
	d    ferryman.Decision
	busy map[lane]ferryman.Op
	raft ferryman.Op // what changes the Raft group; empty when nothing does
	down map[ferryman.NodeID]bool
}

func (a *admission) begin(x *situation) {
	a.x, a.busy, a.down = x, map[lane]ferryman.Op{}, map[ferryman.NodeID]bool{}
	for _, st := range x.s.Ledger {
		if st.Open() {
			a.busy[lane{st.Node, st.Service}] = st.Op
			if st.Op.Reconfigures() {
				a.raft = st.Op
			}
			if st.Op.Disrupts() {
				a.down[st.Node] = true
			}
		}
	}
	for id := range x.passages() {
		a.down[id] = true
	}
}

// hear takes what a rule proposes, as far as those before it leave room.
func (a *admission) hear(rule ferryman.Rule, p proposal) {
	a.d.Cancel = append(a.d.Cancel, p.cancel...)
	a.d.Moves = append(a.d.Moves, p.moves...)
	for _, st := range p.steps {
		st.Rule = rule
		l := lane{st.Node, st.Service}
		if op, taken := a.busy[l]; taken {
			if op != st.Op {
				a.wait(rule, "busy", st.Node, "%s waits until %s has ended on %s", st.Op, op, a.x.name(st.Node))
			}
			continue
		}
		if st.Op.Disrupts() && !a.down[st.Node] {
			if max := a.x.policy.MaxUnavailable; len(a.down) >= max {
				a.wait(rule, "budget", st.Node, "%s on %s waits: maxUnavailable is %d and as many nodes are down because of us", st.Op, a.x.name(st.Node), max)
				continue
			}
			a.down[st.Node] = true
		}
		if st.Op.Reconfigures() {
			if a.raft != "" {
				a.wait(rule, "busy", st.Node, "%s of %s waits: the Raft group changes one thing at a time, and a %s is under way", st.Op, a.x.name(st.Node), a.raft)
				continue
			}
			a.raft = st.Op
		}
		a.busy[l] = st.Op
		a.d.Steps = append(a.d.Steps, st)
	}
	for _, w := range p.waits {
		w.Rule = rule
		a.d.Waits = append(a.d.Waits, w)
	}
}

func (a *admission) wait(rule ferryman.Rule, code string, node ferryman.NodeID, format string, args ...any) {
	a.d.Waits = append(a.d.Waits, ferryman.Wait{Rule: rule, Code: code, Node: node, Reason: fmt.Sprintf(format, args...)})
}

func (a *admission) decision() ferryman.Decision {
	d := a.d
	if len(d.Steps) == 0 && len(d.Moves) == 0 && len(d.Cancel) == 0 && len(d.Waits) == 0 {
		d.Waits = []ferryman.Wait{{Rule: ferryman.RuleUpgrade, Code: "idle", Reason: "nothing is to be done"}}
	}
	return d
}
