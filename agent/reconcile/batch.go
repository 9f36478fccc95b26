package reconcile

import (
	"slices"
	"strings"
	"time"

	"ferryman"
	"ferryman/agent/plan"
	"ferryman/agent/state"
)

// maxRounds bounds how often the plan is heard before a log entry is written.
// It usually has no more to say in the second or third.
const maxRounds = 8

// Batch makes one log entry of everything that can be decided now: the
// outcomes that came in, and then what the plan wants, and wants after that,
// until it has no more to say. So a fence's outcome, the epoch that follows
// from it and the promotion's intent are committed together or not at all.
//
// Batch is pure. What Apply would refuse is left out of the command and
// becomes a wait. The decision holds all that the command commits, and the
// waits that are left.
func Batch(s ferryman.State, v ferryman.View, outcomes []ferryman.Outcome, now time.Time) (state.Command, ferryman.Decision) {
	return batch(plan.Next, s, v, outcomes, now)
}

func batch(next func(ferryman.State, ferryman.View, time.Time) ferryman.Decision,
	s ferryman.State, v ferryman.View, outcomes []ferryman.Outcome, now time.Time,
) (state.Command, ferryman.Decision) {
	b := &builder{before: s, after: s, cmd: state.Command{At: now}}
	b.add(ferryman.Decision{Cancel: openOnly(s, outcomes)})
	reported := len(b.cmd.Outcomes)

	var d ferryman.Decision
	for range maxRounds {
		b.left = nil
		d = next(b.after, v, now)
		if !b.add(d) {
			break
		}
	}
	return b.cmd, ferryman.Decision{
		Steps:  b.cmd.Steps,
		Moves:  b.cmd.Moves,
		Cancel: b.cmd.Outcomes[reported:],
		Waits:  slices.Concat(d.Waits, b.left),
	}
}

// openOnly keeps the outcomes of attempts that the ledger holds open, one each.
func openOnly(s ferryman.State, outcomes []ferryman.Outcome) []ferryman.Outcome {
	var open []ferryman.Outcome
	seen := map[uint64]bool{}
	for _, o := range outcomes {
		if st, ok := s.Step(o.Step); ok && st.Open() && !seen[o.Step] && o.Status != ferryman.StatusRunning {
			seen[o.Step] = true
			open = append(open, o)
		}
	}
	return open
}

// builder grows a command piece by piece, always applied whole to the state
// before: the plan is asked about exactly what the log entry will make.
type builder struct {
	before, after ferryman.State
	cmd           state.Command
	left          []ferryman.Wait // what Apply refused in this round
}

// add takes in what it can of d and reports whether that was anything.
func (b *builder) add(d ferryman.Decision) bool {
	d.Cancel = slices.DeleteFunc(slices.Clone(d.Cancel), func(o ferryman.Outcome) bool {
		return slices.ContainsFunc(b.cmd.Outcomes, func(p ferryman.Outcome) bool { return p.Step == o.Step })
	})
	if len(d.Cancel)+len(d.Moves)+len(d.Steps) == 0 {
		return false
	}
	if b.try(d) == nil {
		return true
	}
	added := false
	take := func(piece ferryman.Decision, rule ferryman.Rule, node ferryman.NodeID, what string) {
		if err := b.try(piece); err != nil {
			b.left = append(b.left, ferryman.Wait{Rule: rule, Code: "refused", Node: node, Reason: what + " is not allowed now: " + reason(err)})
			return
		}
		added = true
	}
	for _, o := range d.Cancel {
		st, _ := b.after.Step(o.Step)
		take(ferryman.Decision{Cancel: []ferryman.Outcome{o}}, st.Rule, st.Node, "closing step "+string(st.Op))
	}
	for _, m := range d.Moves {
		take(ferryman.Decision{Moves: []ferryman.Transition{m}}, "", m.Node, string(m.Kind))
	}
	for _, st := range d.Steps {
		take(ferryman.Decision{Steps: []ferryman.Step{st}}, st.Rule, st.Node, string(st.Op))
	}
	return added
}

// try adds all of d or nothing.
func (b *builder) try(d ferryman.Decision) error {
	cmd := b.cmd
	cmd.Outcomes = slices.Concat(cmd.Outcomes, d.Cancel)
	cmd.Moves = slices.Concat(cmd.Moves, d.Moves)
	cmd.Steps = slices.Concat(cmd.Steps, d.Steps)
	after, _, err := state.Apply(b.before, cmd)
	if err != nil {
		return err
	}
	b.cmd, b.after = cmd, after
	return nil
}

// reason is a refusal without the word itself, which the sentence around it says.
func reason(err error) string {
	return strings.Replace(err.Error(), ferryman.ErrRefused.Error()+": ", "", 1)
}
