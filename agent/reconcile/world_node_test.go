package reconcile_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"ferryman"
)

// wnode is a host of the simulated world: an agent with its journal, and a
// database process. Its disk outlives both.
type wnode struct {
	id   ferryman.NodeID
	name string

	alive    bool // the host runs
	agent    bool // the agent runs
	cut      bool // no network
	bootID   int
	wakes    time.Time // when a stopped agent or host comes back; zero: never
	gone     bool      // removed for good
	exiting  bool      // down because of us
	restarts uint64    // restart generation of the running agent
	pending  uint64    // what the next start of the agent reports

	staged  []string
	journal map[uint64]ferryman.Outcome
	running map[string]*wstep // by service lane
	runs    map[uint64]int    // effects of each step
	db      wdb
	polls   int // good polls under the present leader
	wlease
	wagent
}

type wstep struct {
	step ferryman.Step
	ends time.Time
	fail string
}

type wdb struct {
	running, initialised  bool
	stopped               bool // by a step
	selected, launched    ferryman.Target
	launchedOnce          bool
	start                 int
	role                  ferryman.Role
	writable              bool
	fenced                uint64 // the epoch it was fenced at
	held                  uint64 // the newest epoch it was promoted under
	epoch                 uint64
	log                   []int
	history               string
	following             string
	streaming, diverged   bool
	dies                  time.Time // when the process will crash
	lags                  time.Time // until when nothing new arrives
	wasWritableWhenFenced bool
	hung                  bool // the process is there and does nothing
	named                 bool // whose epoch it is, is known: it was promoted or follows under it
	lost                  bool // its data ended with the process
	had                   int  // the most it held as the primary
}

func (n *wnode) address() string { return n.name + ":5000" }

func (n *wnode) up() bool { return n.alive && n.agent && !n.cut && !n.paused }

func (n *wnode) stopDB() {
	n.db.running, n.db.writable, n.db.streaming, n.db.hung, n.db.role, n.db.following = false, false, false, false, "", ""
	n.db.wasWritableWhenFenced = false
}

func (n *wnode) crashHost() {
	n.alive, n.db.stopped = false, false
	n.crashAgent()
	n.stopDB()
}

// crashAgent loses what was in the middle; the journal knows that it began.
func (n *wnode) crashAgent() {
	n.agent = false
	n.running = map[string]*wstep{}
}

func (n *wnode) startAgent() {
	n.alive, n.agent, n.exiting, n.wakes = true, true, false, time.Time{}
	n.bootID++
	n.restarts = n.pending
}

func (n *wnode) status() ferryman.NodeStatus {
	d := &n.db
	st := ferryman.NodeStatus{ID: n.id, Name: n.name, BootID: fmt.Sprint(n.bootID), Staged: slices.Clone(n.staged)}
	n.shown(n.restarts, &st)
	in := ferryman.Instance{Running: d.running, Initialised: d.running && d.initialised, Role: d.role, Writable: d.writable, Fenced: d.fenced > 0, Epoch: d.epoch,
		History: d.history, Position: uint64(len(d.log)), Following: d.following, Streaming: d.streaming, Diverged: d.diverged, Healthy: d.running && !d.diverged}
	if d.running {
		in.Version = d.launched.Version
	}
	st.Services = []ferryman.ServiceStatus{{Service: wservice(n), Traits: wtraits, Instance: in,
		Unit: ferryman.UnitState{Active: d.running, StartID: fmt.Sprint(d.start)}, Selected: d.selected, Launched: d.launched}}
	for _, o := range n.journal {
		st.Outcomes = append(st.Outcomes, o)
	}
	return st
}

var wtraits = ferryman.Traits{Primaries: 1, Ops: []ferryman.Op{ferryman.OpInitialise, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFollow, ferryman.OpFence,
	ferryman.OpUnfence, ferryman.OpConfigure, ferryman.OpVerify, ferryman.OpPreflight}}

func wservice(n *wnode) ferryman.Service {
	return ferryman.Service{Slot: "db", Engine: "demodb", Address: n.address()}
}

// run is RunStep: it starts the attempt or returns its record.
func (w *world) run(n *wnode, st ferryman.Step) {
	if _, done := n.journal[st.ID]; done && w.plant != noJournal || w.raft[n.id] == "" {
		return // what is not in the group cannot read the step in its own state
	}
	if r := n.running[st.Service]; r != nil {
		return
	}
	r := &wstep{step: st, ends: w.now.Add(time.Duration(w.rng.IntN(int(w.opTime))) + time.Millisecond)}
	if w.faults && w.rng.IntN(40) == 0 && st.Op != ferryman.OpExit && st.Op != ferryman.OpDepart {
		r.fail = "an injected failure"
	}
	n.running[st.Service] = r
	if w.auto {
		w.hear(n) // it waits for the intent
		w.after(r.ends.Sub(w.now), func() { w.finish(n) })
	}
	if st.Op == ferryman.OpStop {
		n.db.stopped = n.db.streaming || n.db.writable // what served is down because of us
	}
	w.struck["steps"]++
}

// finish carries out what ran to its end.
func (w *world) finish(n *wnode) {
	for _, lane := range slices.Sorted(maps.Keys(n.running)) {
		r := n.running[lane]
		if w.now.Before(r.ends) || !n.alive || !n.agent || n.paused {
			continue
		}
		fail, result, wait := r.fail, ferryman.Result{}, false
		if fail == "" {
			result, fail, wait = w.effect(n, r.step)
		} else {
			w.struck["failed steps"]++
		}
		if wait {
			if r.step.Deadline.Std() > 0 && w.now.Sub(r.step.Since) > r.step.Deadline.Std() {
				fail = "deadline"
			} else {
				continue
			}
		}
		delete(n.running, lane)
		n.runs[r.step.ID]++
		o := ferryman.Outcome{Step: r.step.ID, Status: ferryman.StatusDone, Result: result}
		if fail != "" {
			o.Status, o.Reason = ferryman.StatusFailed, fail
		}
		n.journal[r.step.ID] = o
		if fail == "" && (r.step.Op == ferryman.OpExit || r.step.Op == ferryman.OpDepart) {
			n.exiting = r.step.Op == ferryman.OpExit
			if r.step.Op == ferryman.OpExit {
				n.pending = r.step.Args.RestartGeneration
				n.wakes = w.now.Add(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
			} else {
				n.stopDB()
				n.gone = true
			}
			w.ends(n)
			return
		}
	}
}

// effect is what an operation does to the world; wait means not yet.
func (w *world) effect(n *wnode, st ferryman.Step) (res ferryman.Result, fail string, wait bool) {
	d := &n.db
	switch {
	case st.Op == ferryman.OpFence && st.Args.Kill:
		w.kill(n, st.Args.Epoch)
		return res, "", false
	case st.Op.ByEngine() && !d.running:
		return res, "the database does not run", false
	case st.Op.ByEngine() && d.hung, w.unheld(n, st):
		return res, "", true
	}
	switch st.Op {
	case ferryman.OpStage:
		n.staged = append(n.staged, st.Args.Release.Digest())
	case ferryman.OpSwitch:
		if st.Service == "" {
			n.try(st.Args.Version)
			break
		}
		d.selected = st.Args.Target()
	case ferryman.OpStop:
		n.stopDB()
	case ferryman.OpStart:
		if d.running {
			return res, "", d.hung
		}
		if d.lost {
			d.log, d.history, d.initialised, d.diverged, d.lost = nil, "", false, false, false
		}
		if w.bad[d.selected.Version] == "start" {
			return res, "the process ended at once", false
		}
		d.running, d.stopped, d.launched, d.launchedOnce, d.role = true, false, d.selected, true, ferryman.RoleReplica
		d.start++
		d.dies = time.Time{}
		if w.bad[d.selected.Version] == "crash" {
			d.dies = w.now.Add(time.Duration(200+w.rng.IntN(700)) * time.Millisecond)
		}
	case ferryman.OpInitialise:
		if d.initialised {
			return res, "there are data", false
		}
		d.initialised, d.history = true, "h0"
	case ferryman.OpPromote:
		if st.Args.Epoch < d.epoch || d.fenced >= st.Args.Epoch || st.Args.Epoch == d.epoch && d.held != st.Args.Epoch && d.named {
			return res, fmt.Sprintf("epoch refused: %d, heard %d, fenced at %d", st.Args.Epoch, d.epoch, d.fenced), false
		}
		if !d.initialised {
			return res, "there are no data here", false
		}
		d.epoch, d.held, d.fenced, d.writable, d.role, d.following, d.streaming = st.Args.Epoch, st.Args.Epoch, 0, true, ferryman.RolePrimary, "", false
		d.named = true
		d.history, d.diverged, d.had = fmt.Sprintf("h%d.%d", st.Args.Epoch, d.start), false, 0
		res.Position, res.History = uint64(len(d.log)), d.history
	case ferryman.OpFollow, ferryman.OpClone:
		src := w.byAddress(st.Args.From)
		if st.Args.Epoch < d.epoch {
			return res, "epoch refused", false
		}
		if src == nil || !src.alive || !w.linked(n, src) || !src.db.running || src.db.hung {
			return res, "the source does not answer", false
		}
		if st.Op == ferryman.OpClone {
			if !prefix(d.log, src.db.log) {
				res.SetAside = "aside"
			}
			d.log, d.initialised, d.diverged, d.history = slices.Clone(src.db.log), true, false, src.db.history
			break
		}
		if !d.initialised {
			return res, "no data: clone", false
		}
		if !prefix(d.log, src.db.log) {
			d.diverged = true
			return res, "diverged", false
		}
		d.named = true
		d.epoch, d.writable, d.role, d.following, d.diverged = st.Args.Epoch, false, ferryman.RoleReplica, st.Args.From, false
		w.stream(n)
		return res, "", !d.streaming
	case ferryman.OpFence:
		d.wasWritableWhenFenced = d.writable || d.wasWritableWhenFenced && d.fenced > 0
		d.fenced, d.writable = max(st.Args.Epoch, d.fenced), false
		res.Position, res.History = uint64(len(d.log)), d.history
	case ferryman.OpUnfence:
		if d.fenced > st.Args.Epoch {
			return res, "fenced at a newer epoch", false
		}
		if d.fenced > 0 {
			d.writable, d.fenced = d.wasWritableWhenFenced, 0
		}
	case ferryman.OpPreflight:
		res = w.answer(n, st)
	case ferryman.OpVerify:
		if st.Args.Version != "" && d.launched.Version != st.Args.Version {
			return res, "another version", false
		}
		w.stream(n)
		return res, "", st.Args.History != "" && (d.history != st.Args.History || uint64(len(d.log)) < st.Args.Position)
	}
	return res, "", false
}

// stream copies from the primary that the node follows, as far as it can reach
// it. A replica may lag behind although it streams.
func (w *world) stream(n *wnode) {
	d := &n.db
	d.streaming = false
	if !d.running || d.hung || d.following == "" || !n.alive || n.cut {
		return
	}
	src := w.byAddress(d.following)
	if src == nil || !src.alive || !w.linked(n, src) || !src.db.running || src.db.hung || src.db.following != "" || !src.db.initialised {
		return
	}
	if !prefix(d.log, src.db.log) {
		d.diverged = true
		return
	}
	if w.faults && w.rng.IntN(30) == 0 {
		d.lags = w.now.Add(time.Duration(w.rng.IntN(6000)) * time.Millisecond)
		w.struck["lagging replicas"]++
	}
	if d.history, d.streaming = src.db.history, true; !w.faults || !w.now.Before(d.lags) {
		d.log = slices.Clone(src.db.log)
	}
}

func prefix(a, b []int) bool { return len(a) <= len(b) && slices.Equal(a, b[:len(a)]) }
