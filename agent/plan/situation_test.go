package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/plan"
)

// t0 is a Thursday noon, when every situation takes place.
var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

var traits = ferryman.Traits{Primaries: 1, Ops: []ferryman.Op{ferryman.OpInitialise, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFollow,
	ferryman.OpFence, ferryman.OpUnfence, ferryman.OpConfigure, ferryman.OpVerify, ferryman.OpPreflight}}

// sit is a situation: what is replicated, what the leader saw, and the time.
type sit struct {
	s ferryman.State
	v ferryman.View
}

// calm is a cluster in which nothing is to be done: n1 leads Raft and is the
// primary, all others stream from it, everybody runs version 1 of the document
// of generation 1 and has been healthy for an hour.
func calm(nodes int) *sit {
	x := &sit{
		s: ferryman.State{Format: 1, Cluster: "test-1", Members: map[ferryman.NodeID]ferryman.Member{}, Initialised: true, LastStep: 100,
			Primary: ferryman.Primary{Node: "n1", Slot: "db", Epoch: 3, Since: t0.Add(-time.Hour), History: "h"}},
		v: ferryman.View{Self: "n1", Term: 7, Since: t0.Add(-time.Hour), Nodes: map[ferryman.NodeID]ferryman.NodeView{}, Raft: map[ferryman.NodeID]ferryman.Suffrage{},
			Hosts:  ferryman.HostsView{Known: true, Stable: t0.Add(-time.Hour)},
			Limits: ferryman.Limits{MaxVoters: 5, DeadAfter: ferryman.Duration(time.Minute), ProvisionTimeout: ferryman.Duration(5 * time.Minute)}},
	}
	x.s.Accepted = &ferryman.Accepted{Digest: "d1", At: t0.Add(-time.Hour), Document: ferryman.Document{Generation: 1, Nodes: nodes,
		Database: ferryman.Database{Engine: "demodb", Version: "1"}}.WithDefaults()}
	x.s.Complete = map[ferryman.Part]ferryman.Known{ferryman.PartAgents: x.s.Desired(ferryman.PartAgents), ferryman.PartDatabase: x.s.Desired(ferryman.PartDatabase)}
	x.s.Rollout = &ferryman.Rollout{Generation: 1, Opened: t0.Add(-time.Hour), Ended: t0.Add(-time.Hour), Parts: map[ferryman.Part]ferryman.PartProgress{}}
	for _, p := range ferryman.Parts {
		x.s.Rollout.Parts[p] = ferryman.PartProgress{Status: ferryman.PartComplete, To: x.s.Desired(p)}
	}
	for i := 1; i <= nodes; i++ {
		x.add(fmt.Sprintf("n%d", i))
		if i <= min(5, nodes-(nodes+1)%2) {
			x.v.Raft[id(i)] = ferryman.Voter
		}
	}
	x.instance("n1", func(in *ferryman.Instance) {
		in.Role, in.Writable, in.Streaming, in.Following = ferryman.RolePrimary, true, false, ""
	})
	return x
}

func id(i int) ferryman.NodeID { return ferryman.NodeID(fmt.Sprintf("n%d", i)) }

// add lets a node that is as it should be join, without a vote.
func (x *sit) add(name string) *sit {
	n := ferryman.NodeID(name)
	svc := ferryman.Service{Slot: "db", Engine: "demodb", Address: name + ":5000"}
	x.s.Members[n] = ferryman.Member{ID: n, Name: name, Address: name + ":7400", Services: []ferryman.Service{svc}, Want: ferryman.WantActive,
		Joined: t0.Add(-time.Hour).Add(time.Duration(len(x.s.Members)) * time.Second)}
	v1 := ferryman.Target{Version: "1"}
	x.v.Nodes[n] = ferryman.NodeView{Known: true, Reachable: true, CaughtUp: true, Contact: t0, HealthySince: t0.Add(-time.Hour),
		Status: ferryman.NodeStatus{ID: n, Name: name, BootID: "b1", Services: []ferryman.ServiceStatus{{Service: svc, Traits: traits, Selected: v1, Launched: v1,
			Unit: ferryman.UnitState{Active: true},
			Instance: ferryman.Instance{Running: true, Initialised: true, Role: ferryman.RoleReplica, Version: "1", Epoch: 3, History: "h", Position: 70,
				Following: "n1:5000", Streaming: true, Healthy: true}}}}}
	x.v.Raft[n] = ferryman.Nonvoter
	x.v.Hosts.Names = append(x.v.Hosts.Names, name)
	return x
}

func (x *sit) member(name string, change func(*ferryman.Member)) *sit {
	m := x.s.Members[ferryman.NodeID(name)]
	change(&m)
	x.s.Members[m.ID] = m
	return x
}

func (x *sit) view(name string, change func(*ferryman.NodeView)) *sit {
	n := x.v.Nodes[ferryman.NodeID(name)]
	change(&n)
	x.v.Nodes[ferryman.NodeID(name)] = n
	return x
}

func (x *sit) service(name string, change func(*ferryman.ServiceStatus)) *sit {
	return x.view(name, func(v *ferryman.NodeView) {
		v.Status.Services = slices.Clone(v.Status.Services)
		change(&v.Status.Services[0])
	})
}

func (x *sit) instance(name string, change func(*ferryman.Instance)) *sit {
	return x.service(name, func(s *ferryman.ServiceStatus) { change(&s.Instance) })
}

// stopped is a node whose database does not run.
func (x *sit) stopped(name string) *sit {
	return x.service(name, func(s *ferryman.ServiceStatus) {
		s.Unit.Active, s.Instance = false, ferryman.Instance{Reason: "the process ended"}
	}).view(name, func(v *ferryman.NodeView) { v.HealthySince = time.Time{} })
}

// silent is a node that has not answered for d.
func (x *sit) silent(name string, d time.Duration) *sit {
	return x.view(name, func(v *ferryman.NodeView) { v.Reachable, v.CaughtUp, v.Contact = false, false, t0.Add(-d) })
}

// runs is a node that runs another version of the database.
func (x *sit) runs(name, version string) *sit {
	return x.service(name, func(s *ferryman.ServiceStatus) {
		s.Selected.Version, s.Launched.Version, s.Instance.Version = version, version, version
	})
}

func (x *sit) document(change func(*ferryman.Document)) *sit {
	a := *x.s.Accepted
	change(&a.Document)
	x.s.Accepted = &a
	return x
}

// upgrade is a rollout of the database from version 1 to 2 that has begun; the
// agents' part is complete and no node was touched yet.
func (x *sit) upgrade() *sit {
	return x.rollout(func(d *ferryman.Document) { d.Database.Version = "2" })
}

// rollout accepts the document of generation 2 and opens what differs.
func (x *sit) rollout(change func(*ferryman.Document)) *sit {
	x.document(func(d *ferryman.Document) { d.Generation = 2; change(d) })
	x.s.Rollout = &ferryman.Rollout{Generation: 2, Opened: t0, Parts: map[ferryman.Part]ferryman.PartProgress{}}
	for _, p := range ferryman.Parts {
		pp := ferryman.PartProgress{Status: ferryman.PartOpen, From: x.s.Complete[p], To: x.s.Desired(p), Progress: t0, FirstStep: x.s.LastStep + 1}
		if pp.From.Target.Equal(pp.To.Target) {
			pp.Status = ferryman.PartComplete
		}
		x.s.Rollout.Parts[p] = pp
	}
	return x
}

func (x *sit) part(p ferryman.Part, change func(*ferryman.PartProgress)) *sit {
	pp := x.s.Rollout.Parts[p]
	change(&pp)
	x.s.Rollout.Parts[p] = pp
	return x
}

func (x *sit) database(change func(*ferryman.PartProgress)) *sit {
	return x.part(ferryman.PartDatabase, change)
}

// preflighted has asked every node whether the upgrade is possible.
func (x *sit) preflighted(result ferryman.Result) *sit {
	for name := range x.s.Members {
		x.did(ferryman.OpPreflight, string(name), func(st *ferryman.Step) { st.Outcome.Result = result })
	}
	return x
}

// carrying has a passage open on a node, begun a minute ago.
func (x *sit) carrying(part ferryman.Part, name string) *sit {
	if x.s.Rollout.Passages == nil {
		x.s.Rollout.Passages = map[ferryman.NodeID]ferryman.Passage{}
	}
	pp := x.s.Rollout.Parts[part]
	n := ferryman.NodeID(name)
	x.s.Rollout.Passages[n] = ferryman.Passage{Part: part, Began: t0.Add(-time.Minute), FirstStep: x.s.LastStep + 1, BootID: "b1", Voter: x.v.Raft[n] == ferryman.Voter, Goal: pp.Goal()}
	return x
}

// carried has a passage that ended two minutes ago.
func (x *sit) carried(name string) *sit {
	return x.database(func(pp *ferryman.PartProgress) {
		pp.Carried = append(pp.Carried, ferryman.Carried{Node: ferryman.NodeID(name), Ended: t0.Add(-2 * time.Minute), Version: "2"})
	})
}

// open adds a step that was committed a second ago and has no outcome.
func (x *sit) open(op ferryman.Op, name string, change func(*ferryman.Step)) *sit {
	x.s.LastStep++
	st := ferryman.Step{ID: x.s.LastStep, Op: op, Node: ferryman.NodeID(name), Attempt: 1, Since: t0.Add(-time.Second), Deadline: ferryman.Duration(time.Minute), Rule: ferryman.RulePrimary}
	if op.ByEngine() || op == ferryman.OpStop || op == ferryman.OpStart || op == ferryman.OpSwitch {
		st.Service = "db"
	}
	if op == ferryman.OpStage {
		st.Args.Engine = "demodb"
	}
	if change != nil {
		change(&st)
	}
	x.s.Ledger = append(slices.Clone(x.s.Ledger), st)
	return x
}

// did adds a step that is done, failed one that is not; both ended just now.
func (x *sit) did(op ferryman.Op, name string, change func(*ferryman.Step)) *sit {
	return x.ended(op, name, ferryman.Outcome{Status: ferryman.StatusDone}, change)
}

func (x *sit) failed(op ferryman.Op, name string, change func(*ferryman.Step)) *sit {
	return x.ended(op, name, ferryman.Outcome{Status: ferryman.StatusFailed, Reason: "it broke"}, change)
}

func (x *sit) ended(op ferryman.Op, name string, o ferryman.Outcome, change func(*ferryman.Step)) *sit {
	return x.open(op, name, func(st *ferryman.Step) {
		o.Step, o.Ended = st.ID, t0
		st.Outcome = &o
		if change != nil {
			change(st)
		}
	})
}

// ago lets a step be committed and, if it did, end earlier.
func ago(d time.Duration) func(*ferryman.Step) {
	return func(st *ferryman.Step) {
		st.Since = t0.Add(-d)
		if st.Outcome != nil {
			st.Outcome.Ended = t0.Add(-d)
		}
	}
}

// switching has a switchover from n1 to n2 that began a second ago.
func (x *sit) switching(change func(*ferryman.Switchover)) *sit {
	x.s.Switchover = &ferryman.Switchover{From: "n1", To: "n2", Slot: "db", By: "a test", Began: t0.Add(-time.Second), FirstStep: x.s.LastStep + 1}
	if change != nil {
		change(x.s.Switchover)
	}
	return x
}

// acts writes down what a decision does, in its order.
func acts(d ferryman.Decision) string {
	var out []string
	for _, o := range d.Cancel {
		out = append(out, fmt.Sprintf("close %d %s", o.Step, o.Status))
	}
	for _, m := range d.Moves {
		text := string(m.Kind)
		for _, more := range []string{string(m.Node), string(m.Part), string(m.Status), string(m.Want), m.Goal.Target.Version} {
			if more != "" {
				text += " " + more
			}
		}
		if m.Lost {
			text += " lost"
		}
		if m.Format > 0 {
			text += fmt.Sprintf(" to %d", m.Format)
		}
		if m.Epoch > 0 {
			text += fmt.Sprintf(" epoch %d", m.Epoch)
		}
		switch l := m.Lease; {
		case m.Kind == ferryman.MoveSyncReplicas:
			text += fmt.Sprintf(" %d", m.SyncReplicas)
		case m.Expired:
			text += " expired"
		case l != nil:
			text += fmt.Sprintf(" %s of %s", l.Length, l.Longest)
			if l.Enforced {
				text += " enforced"
			}
		}
		out = append(out, text)
	}
	for _, st := range d.Steps {
		text := string(st.Op) + " " + string(st.Node)
		switch a := st.Args; st.Op {
		case ferryman.OpFollow, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFence, ferryman.OpUnfence:
			text += fmt.Sprintf(" epoch %d", a.Epoch)
			if a.From != "" {
				text += " from " + a.From
			}
			if a.Kill {
				text += " kill"
			}
		case ferryman.OpSwitch, ferryman.OpStage, ferryman.OpPreflight:
			text += " " + a.Version
			if a.Alone {
				text += "alone"
			}
		case ferryman.OpVerify:
			text += fmt.Sprintf(" %s:%d", a.History, a.Position)
		case ferryman.OpTransfer:
			text += " to " + string(a.To)
		case ferryman.OpRequestHosts:
			text = fmt.Sprintf("%s %d remove %v lost %v", st.Op, a.Total, a.Remove, a.Lost)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// row is one line of a table: in a situation, what is done and, among the
// reasons for waiting, which codes are given.
type row struct {
	name  string
	in    *sit
	want  string
	waits string
}

func try(t *testing.T, rows []row) {
	t.Helper()
	seen := map[string]bool{}
	for _, tt := range rows {
		if seen[tt.name] {
			t.Fatalf("two rows are named %q", tt.name)
		}
		seen[tt.name] = true
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := plan.Next(tt.in.s, tt.in.v, t0)
			if got := acts(d); got != tt.want {
				t.Errorf("acts\n got  %s\n want %s\n waits %s", got, tt.want, waits(d))
			}
			for _, code := range strings.Fields(tt.waits) {
				if !slices.ContainsFunc(d.Waits, func(w ferryman.Wait) bool { return w.Code == code }) {
					t.Errorf("no wait %q in %s", code, waits(d))
				}
			}
			if len(d.Steps)+len(d.Moves)+len(d.Cancel)+len(d.Waits) == 0 {
				t.Error("nothing is done and nothing says why")
			}
			oneALane(t, tt.in.s, d)
		})
	}
}

// oneALane holds for every decision: no step where one is open, and no two.
func oneALane(t *testing.T, s ferryman.State, d ferryman.Decision) {
	t.Helper()
	taken := map[string]bool{}
	for _, st := range slices.Concat(s.Ledger, d.Steps) {
		if !st.Open() {
			continue
		}
		lane := string(st.Node) + "/" + st.Service
		if taken[lane] {
			t.Errorf("%s is proposed for %s, which is busy", st.Op, lane)
		}
		taken[lane] = true
	}
}

func waits(d ferryman.Decision) string {
	var out []string
	for _, w := range d.Waits {
		out = append(out, w.Code+" ("+w.Reason+")")
	}
	return strings.Join(out, ", ")
}
