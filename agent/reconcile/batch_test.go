package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/reconcile"
	"ferryman/agent/state"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func member(name string) ferryman.Member {
	return ferryman.Member{ID: ferryman.NodeID(name), Name: name, Address: name + ":7440",
		Services: []ferryman.Service{{Slot: "db", Engine: "fake", Address: name + ":5000"}}}
}

func step(node string, op ferryman.Op, change func(*ferryman.Step)) ferryman.Step {
	st := ferryman.Step{Op: op, Node: ferryman.NodeID(node), Service: "db", Attempt: 1, Deadline: ferryman.Duration(time.Minute), Rule: ferryman.RulePrimary}
	if op.ByLeader() {
		st.Service = ""
	}
	if change != nil {
		change(&st)
	}
	return st
}

// build applies commands to an empty state, one after the other.
func build(t *testing.T, commands ...state.Command) ferryman.State {
	t.Helper()
	var s ferryman.State
	for i, c := range commands {
		c.At = t0.Add(-time.Hour)
		var err error
		if s, _, err = state.Apply(s, c); err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	return s
}

func founded() []state.Command {
	n2, n3 := member("n2"), member("n3")
	return []state.Command{
		{Bootstrap: &state.Bootstrap{Cluster: "test-1", Format: state.Format, Member: member("n1")}},
		{Join: &n2}, {Join: &n3},
	}
}

func done(id uint64) ferryman.Outcome {
	return ferryman.Outcome{Step: id, Status: ferryman.StatusDone}
}

// open lists the open steps as "op node".
func open(s ferryman.State) []string {
	var list []string
	for _, st := range s.Ledger {
		if st.Open() {
			list = append(list, fmt.Sprintf("%s %s", st.Op, st.Node))
		}
	}
	return list
}

func must(t *testing.T, s ferryman.State, c state.Command) ferryman.State {
	t.Helper()
	after, _, err := state.Apply(s, c)
	if err != nil {
		t.Fatalf("the batch is refused: %v", err)
	}
	return after
}

// What the switchover's commit point needs comes in one entry: the outcome, the
// epoch, and the promotion.
func TestBatchGoesOnUntilThePlanHasNoMoreToSay(t *testing.T) {
	t.Parallel()
	s := build(t, append(founded(),
		state.Command{Steps: []ferryman.Step{step("n1", ferryman.OpInitialise, nil)}},
		state.Command{Outcomes: []ferryman.Outcome{done(1)}})...)
	plan := func(s ferryman.State, _ ferryman.View, _ time.Time) ferryman.Decision {
		switch {
		case s.Primary.Epoch == 0:
			return ferryman.Decision{Moves: []ferryman.Transition{{Kind: ferryman.MovePrimary, Node: "n1", Slot: "db", Epoch: 1}}}
		case len(open(s)) == 0:
			return ferryman.Decision{Steps: []ferryman.Step{step("n1", ferryman.OpPromote, func(st *ferryman.Step) { st.Args.Epoch = 1 })}}
		}
		return ferryman.Decision{Waits: []ferryman.Wait{{Code: "step"}}}
	}
	cmd, d := reconcile.BatchWith(plan, s, ferryman.View{}, nil, t0)
	after := must(t, s, cmd)
	if got, want := open(after), []string{"promote n1"}; !slices.Equal(got, want) || after.Primary.Epoch != 1 {
		t.Errorf("after the batch: open %q, epoch %d; want %q, epoch 1", got, after.Primary.Epoch, want)
	}
	if len(d.Moves) != 1 || len(d.Steps) != 1 || len(d.Waits) != 1 || d.Waits[0].Code != "step" {
		t.Errorf("decision = %+v, want one move, one step and the last wait", d)
	}
}

func TestBatchTakesOutcomesOfOpenStepsOnce(t *testing.T) {
	t.Parallel()
	s := build(t, append(founded(),
		state.Command{Steps: []ferryman.Step{step("n1", ferryman.OpStart, nil), step("n2", ferryman.OpStart, nil), step("n3", ferryman.OpStart, nil)}},
		state.Command{Outcomes: []ferryman.Outcome{done(1)}})...)
	quiet := func(ferryman.State, ferryman.View, time.Time) ferryman.Decision { return ferryman.Decision{} }

	outcomes := []ferryman.Outcome{
		done(1),                                           // closed already
		done(99),                                          // never there
		done(2), {Step: 2, Status: ferryman.StatusFailed}, // the second word on it
		{Step: 3, Status: ferryman.StatusRunning}, // no end
	}
	cmd, d := reconcile.BatchWith(quiet, s, ferryman.View{}, outcomes, t0)
	if len(cmd.Outcomes) != 1 || cmd.Outcomes[0].Step != 2 || !cmd.Outcomes[0].Done() {
		t.Errorf("outcomes = %+v, want step 2 done, alone", cmd.Outcomes)
	}
	if len(d.Cancel) != 0 {
		t.Errorf("cancel = %+v: outcomes that came in are no decision", d.Cancel)
	}
	if cmd, _ := reconcile.BatchWith(quiet, s, ferryman.View{}, nil, t0); !cmd.Empty() {
		t.Errorf("command = %+v, want an empty one when nothing is to be done", cmd)
	}
}

func TestBatchLeavesOutWhatIsRefused(t *testing.T) {
	t.Parallel()
	s := build(t, founded()...)
	plan := func(s ferryman.State, _ ferryman.View, _ time.Time) ferryman.Decision {
		d := ferryman.Decision{
			// Not before the database is initialised.
			Moves: []ferryman.Transition{{Kind: ferryman.MovePrimary, Node: "n1", Slot: "db", Epoch: 1}},
			Waits: []ferryman.Wait{{Code: "own"}},
		}
		if len(open(s)) == 0 {
			d.Steps = []ferryman.Step{
				step("n2", ferryman.OpStart, nil),
				step("n2", ferryman.OpCheckpoint, nil), // the service is busy with the step before
				step("nobody", ferryman.OpStart, nil),
				step("n3", ferryman.OpStart, nil),
			}
		}
		return d
	}
	cmd, d := reconcile.BatchWith(plan, s, ferryman.View{}, nil, t0)
	if got, want := open(must(t, s, cmd)), []string{"start n2", "start n3"}; !slices.Equal(got, want) {
		t.Errorf("open = %q, want %q", got, want)
	}
	// The last round's waits: the steps that were refused are not asked for again.
	var codes []string
	for _, w := range d.Waits {
		codes = append(codes, w.Code)
	}
	if want := []string{"own", "refused"}; !slices.Equal(codes, want) {
		t.Fatalf("waits = %+v, want %q", d.Waits, want)
	}
	if got := d.Waits[1].Reason; !strings.HasPrefix(got, "primary is not allowed now: ") || !strings.Contains(got, "not initialised") || strings.Contains(got, "refused") {
		t.Errorf("reason = %q", got)
	}
}

// A plan that always wants more must not hold up the leader.
func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	s := build(t, founded()...)
	asked := 0
	plan := func(s ferryman.State, _ ferryman.View, _ time.Time) ferryman.Decision {
		asked++
		want := ferryman.WantMaintenance
		if s.Members["n2"].Want == ferryman.WantMaintenance {
			want = ferryman.WantActive
		}
		return ferryman.Decision{Moves: []ferryman.Transition{{Kind: ferryman.MoveWant, Node: "n2", Want: want, Maintenance: &ferryman.Maintenance{Owner: "test"}}}}
	}
	cmd, _ := reconcile.BatchWith(plan, s, ferryman.View{}, nil, t0)
	must(t, s, cmd)
	if asked > 16 {
		t.Errorf("the plan was asked %d times for one batch", asked)
	}
}

// The plan decides on exactly the state that the entry will make, whatever the
// order within the entry: a move of a later round comes before earlier steps.
func TestBatchShowsThePlanWhatTheEntryWillMake(t *testing.T) {
	t.Parallel()
	s := build(t, founded()...)
	var seen []ferryman.State
	plan := func(s ferryman.State, _ ferryman.View, _ time.Time) ferryman.Decision {
		seen = append(seen, s)
		switch len(seen) {
		case 1:
			return ferryman.Decision{Steps: []ferryman.Step{step("n2", ferryman.OpStart, nil)}}
		case 2:
			return ferryman.Decision{Moves: []ferryman.Transition{{Kind: ferryman.MoveWant, Node: "n3", Want: ferryman.WantLeaving, Reason: "test"}}}
		}
		return ferryman.Decision{}
	}
	cmd, _ := reconcile.BatchWith(plan, s, ferryman.View{}, nil, t0)
	after := must(t, s, cmd)
	last := seen[len(seen)-1]
	if fmt.Sprintf("%+v", last) != fmt.Sprintf("%+v", after) {
		t.Errorf("the plan saw\n%+v\nand the entry makes\n%+v", last, after)
	}
}

// A lease that is made shorter is not so for good in the same breath: how long
// the length has been what it is was looked at before.
func TestBatchDoesNotForgetALongerLease(t *testing.T) {
	t.Parallel()
	s := build(t, founded()...)
	seconds := func(n int) ferryman.Duration { return ferryman.Duration(n) * ferryman.Duration(time.Second) }
	s.Initialised = true
	s.Primary = ferryman.Primary{Node: "n1", Slot: "db", Epoch: 1, Lease: &ferryman.Lease{Length: seconds(20), Longest: seconds(20), Enforced: true}}
	s.Accepted = &ferryman.Accepted{Document: ferryman.Document{Nodes: 3, Database: ferryman.Database{Engine: "fake",
		Failover: ferryman.FailoverPolicy{Mode: ferryman.FailoverAutomatic, LeaseTTL: seconds(2)}}}}
	v := ferryman.View{Self: "n2", Since: t0.Add(-time.Hour), Nodes: map[ferryman.NodeID]ferryman.NodeView{}, Raft: map[ferryman.NodeID]ferryman.Suffrage{},
		Lease: ferryman.LeaseView{Epoch: 1, Quiet: seconds(1), Steady: seconds(3600), Length: seconds(20)}}
	for id, m := range s.Members {
		v.Raft[id] = ferryman.Voter
		v.Nodes[id] = ferryman.NodeView{Known: true, Reachable: true, Status: ferryman.NodeStatus{
			Services: []ferryman.ServiceStatus{{Service: m.Services[0], Traits: ferryman.Traits{Primaries: 1}}}}}
	}
	cmd, _ := reconcile.Batch(s, v, nil, t0)
	after, _, err := state.Apply(s, cmd)
	if l := after.Primary.Lease; err != nil || l.Length != seconds(2) || l.Longest != seconds(20) {
		t.Errorf("lease = %+v, %v, want 2s now and 20s still remembered", l, err)
	}
}
