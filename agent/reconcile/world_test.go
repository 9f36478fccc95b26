package reconcile_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

var (
	worldSeed  = flag.Uint64("world.seed", 0, "replay this seed of the world, with its whole story")
	worldSeeds = flag.Int("world.seeds", 2000, "how many seeds of the world are tried")
	worldFrom  = flag.Int("world.from", 0, "how many seeds are left out before them")
)

// world is plan and Apply against simulated hosts, in one goroutine: Raft is a
// log that never forks, everything else may be late, lost, cut or dead. A seed
// replays exactly.
type world struct {
	rng    *rand.Rand
	now    time.Time
	state  ferryman.State
	raft   map[ferryman.NodeID]ferryman.Suffrage
	nodes  []*wnode
	leader *wnode
	// lastTrouble is when a fault struck that the leader may not know of yet.
	lastTrouble time.Time
	term        uint64
	view        ferryman.View
	byStep      map[uint64]time.Time // leader operations under way, by when they end

	faults  bool
	opTime  time.Duration
	bad     map[string]string // versions that do not work, and how
	docs    int
	doc     ferryman.Document
	hosts   []whost
	made    int
	minimal bool

	writes   int
	acked    []int
	highest  uint64 // generation
	struck   map[string]int
	story    []string
	tell     bool
	plant    bug // a planted bug; empty for none
	decision ferryman.Decision

	wfailover
}

// whost is a host that the api-server promised.
type whost struct {
	name string
	at   time.Time
	lost bool
}

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: begin, raft: map[ferryman.NodeID]ferryman.Suffrage{},
		byStep: map[uint64]time.Time{}, bad: map[string]string{}, struck: map[string]int{}, faults: true}
	w.opTime = []time.Duration{50 * time.Millisecond, time.Second, 4 * time.Second}[w.rng.IntN(3)]
	w.minimal = w.rng.IntN(4) == 0
	w.automatic(seed)
	first := w.host()
	w.start(first)
	w.raft[first.id] = ferryman.Voter
	w.commit(state.Command{Bootstrap: &state.Bootstrap{Cluster: "world-1", Format: state.Format, Member: w.member(first)}})
	w.doc = ferryman.Document{Nodes: 3, Database: ferryman.Database{Engine: "demodb", Version: "1"}, Rollout: ferryman.Policy{
		Bake: ferryman.Duration(2 * time.Second), MinHealthy: ferryman.Duration(time.Second), StepDeadline: ferryman.Duration(40 * time.Second),
		ProgressDeadline: ferryman.Duration(4 * time.Minute), SwitchoverTimeout: ferryman.Duration(20 * time.Second), WriteBudget: ferryman.Duration(8 * time.Second)}}
	w.doc.Database.Failover = w.policy
	w.publish()
	return w
}

func (w *world) host() *wnode {
	w.made++
	n := &wnode{id: ferryman.NodeID(fmt.Sprintf("id%d", w.made)), name: fmt.Sprintf("n%d", w.made), journal: map[uint64]ferryman.Outcome{},
		running: map[string]*wstep{}, runs: map[uint64]int{}}
	if w.auto {
		n.rate = []float64{0.96, 1.04, 0.96 + w.rng.Float64()*0.08}[w.rng.IntN(3)]
	}
	w.nodes = append(w.nodes, n)
	return n
}

func (w *world) member(n *wnode) ferryman.Member {
	return ferryman.Member{ID: n.id, Name: n.name, Address: n.name + ":7400", Services: []ferryman.Service{wservice(n)}, LeaveOnTerminate: true}
}

func (w *world) byAddress(a string) *wnode {
	for _, n := range w.nodes {
		if n.address() == a {
			return n
		}
	}
	return nil
}

func (w *world) byID(id ferryman.NodeID) *wnode {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

func (w *world) log(format string, args ...any) {
	if w.tell {
		w.story = append(w.story, w.now.Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (w *world) commit(c state.Command) bool {
	c.At = w.now
	next, events, err := state.Apply(w.state, c)
	if err != nil {
		w.log("refused: %v", err)
		return false
	}
	before := w.state
	w.state = next
	for _, e := range events {
		w.log("event %s", e.Text)
		switch e.Kind {
		case "switchover":
			w.struck["switchovers"]++
		case "quarantine":
			w.struck["reverts"]++
		}
	}
	w.committed(before)
	return true
}

// publish makes the document the desired state.
func (w *world) publish() {
	w.docs++
	if w.plant == largerBudget {
		w.doc.Rollout.MaxUnavailable = 3
	}
	w.doc.Generation = uint64(w.docs)
	w.doc.Releases = map[string]ferryman.Release{}
	for _, v := range []string{"1", "2", "3", "4"} {
		w.doc.Releases["demodb/"+v] = ferryman.Release{Archive: &ferryman.Archive{URL: "file:///" + v, SHA256: "sum" + v, Size: 1}}
	}
	for _, v := range []string{"2", "3", "4", "5"} {
		w.doc.Releases[ferryman.ReleaseKey(ferryman.AgentEngine, v)] = agentRelease(v)
	}
	w.doc.ConfirmShrink = w.doc.Nodes
}

// elect keeps a leader as long as a majority of voters can talk.
func (w *world) elect() {
	if w.auto {
		w.electAmong()
		return
	}
	total, up := 0, []*wnode{}
	for id, s := range w.raft {
		if s != ferryman.Voter {
			continue
		}
		total++
		if n := w.byID(id); n.up() {
			up = append(up, n)
		}
	}
	slices.SortFunc(up, func(a, b *wnode) int { return strings.Compare(string(a.id), string(b.id)) })
	if len(up) < total/2+1 {
		w.leader = nil
		return
	}
	if w.leader != nil && w.leader.up() && w.raft[w.leader.id] == ferryman.Voter {
		return
	}
	w.lead(up[w.rng.IntN(len(up))])
}

func (w *world) lead(n *wnode) {
	w.leader = n
	w.term++
	w.struck["leader changes"]++
	w.byStep = map[uint64]time.Time{}
	w.view = ferryman.View{Self: n.id, Term: w.term, Since: w.now, Nodes: map[ferryman.NodeID]ferryman.NodeView{},
		Limits: ferryman.Limits{MaxVoters: 5, DeadAfter: ferryman.Duration(10 * time.Second), ProvisionTimeout: ferryman.Duration(30 * time.Second)},
		Hosts:  ferryman.HostsView{Minimal: w.minimal}}
	for _, o := range w.nodes {
		o.polls = 0
	}
	w.log("%s leads term %d", n.name, w.term)
	if w.auto {
		w.leadAnew(n)
	}
}

// observe polls the members and the api-server.
func (w *world) observe() {
	nodes := maps.Clone(w.view.Nodes)
	for id := range nodes {
		if _, ok := w.state.Members[id]; !ok {
			delete(nodes, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.state.Members)) {
		n, v := w.byID(id), nodes[id]
		if !n.up() || n.gone || !w.linked(w.leader, n) || n != w.leader && w.faults && w.rng.IntN(20) == 0 {
			v.Reachable, n.polls, v.CaughtUp = false, 0, false
			nodes[id] = v
			continue
		}
		if v.Known && v.Status.BootID != fmt.Sprint(n.bootID) {
			n.polls, v.CaughtUp = 0, false
		}
		n.polls++
		v.Status, v.Known, v.Contact, v.Reachable = w.status(n), true, w.now, true
		v.CaughtUp = n.polls >= 2 && w.raft[id] != ""
		if ok, _ := v.Status.Healthy(); !ok {
			v.HealthySince = time.Time{}
		} else if v.HealthySince.IsZero() {
			v.HealthySince = w.now
		}
		switch {
		case !v.HealthySince.IsZero():
			v.DownSince = time.Time{}
		case v.DownSince.IsZero():
			v.DownSince = w.now
		}
		nodes[id] = v
	}
	w.view.Nodes, w.view.Raft = nodes, maps.Clone(w.raft)
	var names []string
	for _, h := range w.hosts {
		names = append(names, h.name)
	}
	for _, n := range w.nodes {
		if n.alive && !n.gone {
			names = append(names, n.name)
		}
	}
	if !w.view.Hosts.Known || !slices.Equal(names, w.view.Hosts.Names) {
		w.view.Hosts.Stable = w.now
	}
	w.view.Hosts.Names, w.view.Hosts.Known = names, true
}

// decide is one turn of the leader's loop.
func (w *world) decide() {
	if w.proposing {
		return
	}
	if w.state.Accepted == nil || w.state.Accepted.Document.Generation < w.doc.Generation {
		w.commit(state.Command{Accept: &ferryman.Accepted{Document: w.doc.WithDefaults(), Digest: fmt.Sprint(w.docs)}})
	}
	var outcomes []ferryman.Outcome
	for id := range w.state.Members {
		if v := w.view.Nodes[id]; v.Reachable {
			outcomes = append(outcomes, v.Status.Outcomes...)
		}
	}
	slices.SortFunc(outcomes, func(a, b ferryman.Outcome) int { return int(a.Step) - int(b.Step) })
	for _, st := range w.state.Ledger {
		if end, ok := w.byStep[st.ID]; ok && st.Open() && !w.now.Before(end) {
			outcomes = append(outcomes, w.leaderEffect(st))
		}
	}
	if w.view.Raft == nil {
		return // leadership moved away
	}
	w.view.Raft = maps.Clone(w.raft) // what an outcome tells, the view tells too
	if w.auto {
		w.view.Lease = w.leader.granter.View(w.state)
	}
	cmd, d := w.batch(outcomes)
	w.decision = d
	if len(d.Steps)+len(d.Moves)+len(d.Cancel)+len(d.Waits) == 0 {
		w.violated("why", "the plan does nothing and does not say why")
	}
	switch {
	case cmd.Empty():
	case w.auto:
		w.propose(cmd)
		return
	default:
		w.commit(cmd)
	}
	w.dispatch()
}

// dispatch has the open steps carried out.
func (w *world) dispatch() {
	for _, st := range w.state.Ledger {
		if !st.Open() {
			continue
		}
		if st.Op.ByLeader() {
			if _, ok := w.byStep[st.ID]; !ok {
				w.byStep[st.ID] = w.now.Add(time.Duration(w.rng.IntN(300)) * time.Millisecond)
			}
			continue
		}
		if n := w.byID(st.Node); n.up() && !n.gone && w.linked(w.leader, n) && w.rng.IntN(10) > 0 {
			w.run(n, st)
		}
	}
}

// leaderEffect is what the leader does itself.
func (w *world) leaderEffect(st ferryman.Step) ferryman.Outcome {
	done := ferryman.Outcome{Step: st.ID, Status: ferryman.StatusDone}
	fail := func(reason string) ferryman.Outcome {
		return ferryman.Outcome{Step: st.ID, Status: ferryman.StatusFailed, Reason: reason}
	}
	if w.faults && w.rng.IntN(30) == 0 {
		return fail("an injected failure")
	}
	switch st.Op {
	case ferryman.OpAdmit:
		if w.raft[st.Node] == "" {
			w.raft[st.Node] = ferryman.Nonvoter
		}
	case ferryman.OpVote:
		if w.raft[st.Node] == "" {
			return fail("not in the group")
		}
		w.reconfigure(st.Node, ferryman.Voter)
	case ferryman.OpDemote:
		if st.Node == w.leader.id {
			return fail("the leader is not demoted")
		}
		w.reconfigure(st.Node, ferryman.Nonvoter)
	case ferryman.OpRemove:
		w.reconfigure(st.Node, "")
	case ferryman.OpTransfer:
		if st.Node != w.leader.id {
			return done
		}
		to := w.byID(st.Args.To)
		if !to.up() || w.raft[to.id] != ferryman.Voter {
			return fail("it does not answer")
		}
		w.lead(to)
	case ferryman.OpRequestHosts:
		w.provision(st.Args)
	}
	return done
}

// reconfigure changes the Raft group, and checks that we did not break it.
func (w *world) reconfigure(id ferryman.NodeID, s ferryman.Suffrage) {
	before := w.quorum()
	if s == "" {
		delete(w.raft, id)
	} else {
		w.raft[id] = s
	}
	if before && !w.quorum() && w.byID(id).up() && w.now.Sub(w.lastTrouble) > 5*time.Second {
		w.violated("I4", "making %s %q took Raft's quorum away", id, s)
	}
}

func (w *world) quorum() bool {
	total, up := 0, 0
	for id, s := range w.raft {
		if s == ferryman.Voter {
			total++
			if w.byID(id).up() {
				up++
			}
		}
	}
	return up >= total/2+1
}

// provision is the api-server: the reference one, or one that only counts.
func (w *world) provision(a ferryman.Args) {
	w.struck["host requests"]++
	running := len(w.hosts)
	if w.minimal {
		running = 0 // it counts what runs, not what it has promised
	}
	var alive []*wnode
	for _, n := range w.nodes {
		if n.alive && !n.gone {
			running++
			alive = append(alive, n)
		}
	}
	if !w.minimal {
		for _, name := range a.Remove {
			for _, n := range alive {
				if n.name == name {
					n.gone = true
					w.crashes(n)
					running--
				}
			}
		}
	} else if running > a.Total && len(alive) > 0 {
		victim := alive[w.rng.IntN(len(alive))]
		w.log("the api-server stops %s", victim.name)
		w.commit(state.Command{Request: &ferryman.Request{Kind: ferryman.RequestLeave, Node: victim.name, By: victim.name}})
		return
	}
	for ; running < a.Total; running++ {
		h := whost{name: fmt.Sprintf("n%d", w.made+len(w.hosts)+1), at: w.now.Add(time.Duration(w.rng.IntN(6000)) * time.Millisecond), lost: w.faults && w.rng.IntN(6) == 0}
		if h.lost {
			w.struck["lost hosts"]++
			h.at = w.now.Add(20 * time.Second)
		}
		w.hosts = append(w.hosts, h)
		w.log("host %s is promised (lost %v)", h.name, h.lost)
	}
}

// arrive starts promised hosts, and lets running newcomers join.
func (w *world) arrive() {
	var later []whost
	for _, h := range w.hosts {
		switch {
		case w.now.Before(h.at):
			later = append(later, h)
		case !h.lost:
			w.start(w.host())
		}
	}
	w.hosts = later
	if w.leader == nil {
		return
	}
	for _, n := range w.nodes {
		if _, member := w.state.Members[n.id]; !member && !w.departed(n) && n.up() && !n.gone && w.rng.IntN(2) == 0 {
			m := w.member(n)
			w.commit(state.Command{Join: &m})
		}
	}
}

// departed ends a node that left while it was away, as its agent does when it
// asks to join.
func (w *world) departed(n *wnode) bool {
	if !slices.Contains(w.state.Departed, n.id) {
		return false
	}
	if n.up() {
		n.gone = true
		w.crashes(n)
	}
	return true
}

// trouble strikes at random.
func (w *world) trouble() {
	if w.auto && w.leaseTrouble() || w.rng.IntN(12) != 0 {
		return
	}
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if n.gone {
		return
	}
	w.lastTrouble = w.now
	member, isMember := w.state.Members[n.id]
	isPrimary := n.db.writable || n.id == w.state.Primary.Node || w.state.Switchover != nil && w.state.Switchover.To == n.id
	unreachable := 0
	for id := range w.state.Members {
		if o := w.byID(id); !o.alive || o.cut {
			unreachable++
		}
	}
	switch w.rng.IntN(9) {
	case 0:
		if n.alive && unreachable == 0 {
			forever := (!isPrimary && !w.auto || w.auto && w.copied(n)) && isMember && w.raftSurvives(n) && w.rng.IntN(2) == 0
			w.log("host %s dies (for ever %v)", n.name, forever)
			w.struck["hosts killed"]++
			w.crashes(n)
			n.wakes = w.now.Add(time.Duration(w.rng.IntN(30)+1) * time.Second)
			if forever {
				n.wakes, n.gone = time.Time{}, true
			}
		}
	case 1:
		if n.alive && n.agent {
			w.log("agent %s crashes", n.name)
			w.struck["agents killed"]++
			w.ends(n)
			n.wakes = w.now.Add(time.Duration(w.rng.IntN(4000)) * time.Millisecond)
		}
	case 2:
		if n.alive && n.db.running {
			w.log("database of %s crashes", n.name)
			w.struck["databases killed"]++
			w.dies(n)
		}
	case 3:
		if !n.cut && n.alive && unreachable == 0 {
			w.log("%s is cut off", n.name)
			w.struck["cuts"]++
			n.cut = true
		}
	case 4:
		for _, o := range w.nodes {
			o.cut = false
		}
	case 5:
		if w.leader != nil {
			w.struck["leaders deposed"]++
			w.leader = nil
		}
	case 6, 7:
		w.change()
	case 8:
		kinds := []ferryman.RequestKind{ferryman.RequestPause, ferryman.RequestResume, ferryman.RequestAbort, ferryman.RequestUndo, ferryman.RequestRestart,
			ferryman.RequestContinue, ferryman.RequestFreeze, ferryman.RequestUnfreeze, ferryman.RequestSwitchover, ferryman.RequestLift}
		r := ferryman.Request{Kind: kinds[w.rng.IntN(len(kinds))], By: "a person", Node: member.Name, Release: "demodb/3"}
		if w.leader != nil && w.commit(state.Command{Request: &r}) {
			w.struck["requests"]++
		}
	}
}

// raftSurvives tells whether the voters that are left are a majority.
func (w *world) raftSurvives(n *wnode) bool {
	if w.proposing {
		return false // such a step may be on its way into the ledger
	}
	for _, st := range w.state.Ledger {
		if st.Open() && st.Op.Reconfigures() {
			return false // between two and three voters nobody may be lost
		}
	}
	alive := n.alive
	n.alive = false
	ok := w.quorum()
	n.alive = alive
	return ok
}

// change publishes another document.
func (w *world) change() {
	w.struck["documents"]++
	what := w.rng.IntN(5)
	if w.plant == thirdVersion {
		what = 1
	}
	switch what {
	case 0:
		w.doc.Nodes = 1 + w.rng.IntN(5)
	case 1, 2:
		w.doc.Database.Version = fmt.Sprint(1 + w.rng.IntN(4))
	case 3:
		w.doc.Database.RestartGeneration++
	case 4:
		w.changeAgents()
	}
	w.publish()
	w.log("document %d: %d nodes, version %s, agents %q, restarts %d and %d", w.docs, w.doc.Nodes, w.doc.Database.Version, w.doc.Agent.Version, w.doc.Database.RestartGeneration, w.doc.Agent.RestartGeneration)
}

// turn advances the world by one event.
func (w *world) turn(step time.Duration) {
	w.pass(w.now.Add(step))
	for _, n := range w.nodes {
		if !n.wakes.IsZero() && !w.now.Before(n.wakes) && !n.gone {
			w.start(n)
			w.log("%s comes back", n.name)
		}
		if n.db.running && !n.db.dies.IsZero() && !w.now.Before(n.db.dies) {
			w.dies(n)
			w.struck["crashing releases"]++
		}
		w.finish(n)
		w.lives(n)
		w.stream(n)
	}
	w.write()
	if w.faults {
		w.trouble()
	}
	w.elect()
	w.arrive()
	if w.leader != nil && (!w.auto || w.ready) {
		w.observe()
		w.decide()
		if w.auto {
			w.turned()
		}
	}
	w.check()
}

// write is the client: a write is acknowledged when a replica has it, or when
// there is nobody else.
func (w *world) write() {
	for _, n := range w.nodes {
		d := &n.db
		if !n.alive || !d.running || !d.writable || d.hung {
			continue
		}
		w.writes++
		d.log = append(slices.Clip(d.log), w.writes)
		acked := len(w.state.Members) == 1 && !w.auto
		for _, r := range w.nodes {
			if r.db.following == n.address() && w.rng.IntN(3) > 0 {
				w.stream(r)
				acked = acked || r.db.streaming && len(r.db.log) == len(d.log)
			}
		}
		if acked || w.auto && w.sync == 0 {
			w.acked = append(w.acked, w.writes)
		}
	}
}

func runWorld(seed uint64, tell bool, plant bug) (w *world, err error) {
	w = newWorld(seed)
	w.tell, w.plant = tell, plant
	defer func() {
		if p := recover(); p != nil {
			v, ok := p.(violation)
			if !ok {
				panic(p)
			}
			err = v
		}
	}()
	// Some seeds have releases that do not work.
	switch w.rng.IntN(3) {
	case 0:
		w.bad["3"] = "start"
	case 1:
		w.bad["3"] = "crash"
	}
	turns, longest := 150, 1500
	if w.auto {
		turns, longest = 250, 600
	}
	for range turns {
		w.turn(time.Duration(100+w.rng.IntN(longest)) * time.Millisecond)
	}
	w.settleDown()
	return w, nil
}

// TestMain lets the worlds leave their garbage for longer: they make much of
// it and keep almost nothing, and collecting it would take half of the time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1600)
	os.Exit(m.Run())
}

func TestWorld(t *testing.T) {
	if *worldSeed != 0 {
		w, err := runWorld(*worldSeed, true, "")
		t.Log(strings.Join(w.story, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	workers, struck := 2, map[string]int{}
	results := make(chan map[string]int, workers)
	for i := range workers {
		go func() {
			mine := map[string]int{}
			for seed := *worldFrom + i + 1; seed <= *worldFrom+*worldSeeds; seed += workers {
				w, err := runWorld(uint64(seed), false, "")
				if err != nil {
					t.Errorf("seed %d: %v\nreplay: go test ./agent/reconcile -run TestWorld -world.seed %d -v", seed, err, seed)
				}
				for k, v := range w.struck {
					mine[k] += v
				}
			}
			results <- mine
		}()
	}
	for range workers {
		for k, v := range <-results {
			struck[k] += v
		}
	}
	for _, k := range slices.Sorted(maps.Keys(struck)) {
		t.Logf("%8d %s", struck[k], k)
	}
	for _, k := range []string{"hosts killed", "agents killed", "databases killed", "cuts", "leaders deposed", "documents", "requests", "failed steps",
		"lost hosts", "crashing releases", "lagging replicas", "switchovers", "reverts",
		"agents paused", "guards paused", "guards killed", "guards that killed", "databases hung", "cuts from the leader", "one-way cuts", "splits", "slow answers",
		"mode changes in force", "lengths of the lease in force", "leases held", "leases expired", "leases waited out", "fence receipts",
		"deposed leaders that answered", "failovers", "failovers by a person", "writes lost", "quiet restarts of agents"} {
		if struck[k] == 0 {
			t.Errorf("no seed had any %s: the simulation does not try what it says", k)
		}
	}
}
