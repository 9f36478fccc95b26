package telemetry

import (
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ferryman"
)

// gauges are all metrics that say how things are now: a pure function of the
// newest facts. Names, units and labels follow Prometheus' own rules; the values
// of labels come from short lists, and from the members of the cluster.
type gauges struct {
	self  Self
	facts func() (Facts, bool)
}

// Describe implements prometheus.Collector; nothing is told beforehand, as the
// labels depend on the cluster.
func (gauges) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (g gauges) Collect(out chan<- prometheus.Metric) {
	p := &page{out: out, cluster: g.self.Cluster, said: map[string]bool{}}
	p.of(g.self.Node, "build_info", "Always 1; the labels say what runs.", 1, "version", g.self.Version, "goversion", runtime.Version())
	f, ok := g.facts()
	if !ok {
		return
	}
	p.own(f, g.self)
	p.services(f.Status, g.self.Node)
	if f.Report != nil {
		p.led(*f.Report)
	}
}

// page is the metrics of one answer.
type page struct {
	out     chan<- prometheus.Metric
	cluster string
	said    map[string]bool // each name and labels once: names of members may be double for a moment
}

// all says something of the whole cluster. Labels are names and values, in turn.
func (p *page) all(name, help string, value float64, labels ...string) {
	labels = append([]string{"cluster", p.cluster}, labels...)
	key := name + "\x00" + strings.Join(labels, "\x00")
	if p.said[key] {
		return
	}
	p.said[key] = true
	var names, values []string
	for pair := range slices.Chunk(labels, 2) {
		names, values = append(names, pair[0]), append(values, pair[1])
	}
	desc := prometheus.NewDesc("ferryman_"+name, help, names, nil)
	m, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, value, values...)
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err) // which fails the whole answer, and says why
	}
	p.out <- m
}

// of says something of one node.
func (p *page) of(node, name, help string, value float64, labels ...string) {
	p.all(name, help, value, append([]string{"node", node}, labels...)...)
}

// own is what every agent says of its own node.
func (p *page) own(f Facts, self Self) {
	node := self.Node
	for _, c := range Ready(f, self.ID) {
		p.of(node, "ready", "Whether the node does its work, as /readyz says it.", truth(c.Reason == ""), "check", c.Name)
	}
	p.of(node, "problems", "What is wrong with the node by its own word; `ferryman status` has the sentences.", float64(len(f.Status.Problems)))
	p.of(node, "certificate_expiry_timestamp_seconds", "When the node's certificate ends, in Unix time.", unix(f.CertificateEnds))
	if a := f.State.Accepted; a != nil {
		p.of(node, "accepted_generation", "Generation of the accepted document in the node's own state.", float64(a.Document.Generation))
		p.of(node, "accepted_timestamp_seconds", "When that was accepted, in Unix time.", unix(a.At))
	}

	p.of(node, "raft_leader", "Whether the node leads Raft, and with it the cluster.", truth(f.Raft.Leads))
	p.of(node, "raft_term", "The newest term that the node knows.", float64(f.Status.Term))
	p.of(node, "raft_applied_index", "The last entry of the log that the node's state holds.", float64(f.Status.Applied))
	p.of(node, "raft_voters", "Nodes with a vote, in the configuration that the node knows.", float64(f.Raft.Voters))
	if !f.Raft.LastContact.IsZero() {
		p.of(node, "raft_last_contact_seconds", "How long ago the node heard a leader; 0 on the leader.", max(0, f.At.Sub(f.Raft.LastContact).Seconds()))
	}

	held := ferryman.LeaseStatus{}
	if f.Status.Lease != nil {
		held = *f.Status.Lease
	}
	p.of(node, "lease_held", "Whether the node holds the primary's lease.", truth(f.Status.Lease != nil))
	p.of(node, "lease_length_seconds", "Length of the lease that it holds; 0 without one.", held.Length.Std().Seconds())
	if f.Guarded {
		p.of(node, "guard_up", "Whether the node's guard answered when it was last asked; only where there is to be one.", truth(f.GuardFails == ""))
	}
}

// services are the databases of a node, as its own agent sees them.
func (p *page) services(s ferryman.NodeStatus, node string) {
	for _, svc := range s.Services {
		in, slot := svc.Instance, svc.Slot
		ok, _ := ferryman.NodeStatus{Services: []ferryman.ServiceStatus{svc}}.Healthy()
		p.of(node, "database_healthy", "Whether the database runs and is as it should be by itself.", truth(ok), "slot", slot)
		p.of(node, "database_writable", "Whether the database accepts writes.", truth(in.Running && in.Writable), "slot", slot)
		p.of(node, "database_streaming", "Whether the replica is connected to its primary and has caught up so far.", truth(in.Streaming), "slot", slot)
		p.of(node, "database_lag_bytes", "How far the replica knows itself to be behind.", float64(in.Lag), "slot", slot)
		p.of(node, "database_epoch", "The newest epoch that the database was promoted or told to follow under.", float64(in.Epoch), "slot", slot)
		for _, role := range []ferryman.Role{ferryman.RolePrimary, ferryman.RoleReplica} {
			p.of(node, "database_role", "1 for the role that the database has.", truth(in.Role == role), "slot", slot, "role", string(role))
		}
	}
}

// led is what the leader alone says, of the cluster and of every node.
func (p *page) led(r ferryman.Report) {
	p.document(r)
	p.failover(r.State)
	p.rollout(r.State)
	p.nodes(r)
	counts := map[ferryman.Wait]int{}
	for _, w := range r.Decision.Waits {
		counts[ferryman.Wait{Rule: w.Rule, Code: w.Code}]++
	}
	for w, n := range counts {
		p.all("waits", "Reasons why nothing happens, by the plan's rule and a short code; `ferryman status` has the sentences.", float64(n), "rule", string(w.Rule), "code", w.Code)
	}
}

func (p *page) document(r ferryman.Report) {
	s, src := r.State, r.View.Source
	if src.Generation > 0 {
		p.all("desired_generation", "Generation of the document that was fetched last, accepted or not; absent where it names none.", float64(src.Generation))
	}
	p.all("desired_fetch_timestamp_seconds", "When the source of the desired state last answered, in Unix time; 0 if it never did.", unix(src.Answered))
	refused := s.Refused != nil && (s.Accepted == nil || s.Refused.At.After(s.Accepted.At))
	p.all("desired_refused", "Whether the newest document was refused; the one before stays in force.", truth(refused))
	_, paused := s.RolloutHold()
	p.all("paused", "Whether the rollout is paused, by a person or the document.", truth(paused))
	p.all("frozen", "Whether a person froze the cluster.", truth(s.Frozen != nil))
	p.all("quarantined_releases", "Releases that failed and are not used until a person lifts them.", float64(len(s.Quarantined)))
}

func (p *page) failover(s ferryman.State) {
	p.all("primary_epoch", "Counts primaries; 0 before the first.", float64(s.Primary.Epoch))
	p.all("failover_automatic", "Whether the document wants a lost primary to be replaced by itself.",
		truth(s.Accepted != nil && s.Accepted.Document.Database.Failover.Mode == ferryman.FailoverAutomatic))
	p.all("failover_in_force", "Whether a lost primary is replaced by itself: it holds a lease under an armed guard.", truth(s.Primary.Lease != nil && s.Primary.Lease.Enforced))
	p.all("failover_running", "Whether a lost primary is being replaced.", truth(s.Failover != nil))
	p.all("switchover_running", "Whether the primary is being moved.", truth(s.Switchover != nil))
}

func (p *page) rollout(s ferryman.State) {
	r := s.Rollout
	if r == nil {
		return
	}
	name := func(id ferryman.NodeID) string { return s.Members[id].Name }
	p.all("rollout_generation", "Generation of the newest rollout.", float64(r.Generation))
	p.all("rollout_open", "Whether it has not ended.", truth(r.Open()))
	for _, part := range ferryman.Parts {
		pp := r.Parts[part]
		for _, status := range []ferryman.PartStatus{ferryman.PartOpen, ferryman.PartReverting, ferryman.PartHalted, ferryman.PartComplete, ferryman.PartReverted, ferryman.PartSuperseded} {
			p.all("rollout_status", "1 for the status of a part of the newest rollout.", truth(pp.Status == status), "part", string(part), "status", string(status))
		}
		p.all("rollout_carried_nodes", "Nodes that were carried.", float64(len(pp.Carried)), "part", string(part))
		p.all("rollout_progress_timestamp_seconds", "When a node was last carried, or the part began, in Unix time.", unix(pp.Progress), "part", string(part))
	}
	for id, passage := range r.Passages {
		p.of(name(id), "rollout_passage", "1 for a node that is being carried.", 1, "part", string(passage.Part))
	}
}

func (p *page) nodes(r ferryman.Report) {
	s := r.State
	wanted, members := 0, 0
	if s.Accepted != nil {
		wanted = s.Accepted.Document.Nodes
	}
	for id, m := range s.Members {
		if m.Lost {
			continue // its name may be another's by now
		}
		members++
		v := r.View.Nodes[id]
		p.of(m.Name, "node_up", "Whether the agent of the node answers the leader.", truth(v.Reachable))
		p.of(m.Name, "node_caught_up", "Whether the node proved to the leader that it has caught up.", truth(v.CaughtUp))
		p.of(m.Name, "node_voter", "Whether the node has a vote.", truth(r.View.Raft[id] == ferryman.Voter))
		p.of(m.Name, "node_maintenance", "Whether the node is away on purpose.", truth(m.Want == ferryman.WantMaintenance))
	}
	p.all("nodes_wanted", "Nodes that the accepted document wants.", float64(wanted))
	p.all("nodes", "Members of the cluster.", float64(members))
	p.steps(s)
}

// steps are those that are open, by node.
func (p *page) steps(s ferryman.State) {
	for _, st := range s.Ledger { // the oldest first, and of several alike only that is said
		if st.Open() {
			p.of(s.Members[st.Node].Name, "step_begin_timestamp_seconds", "Since when a step is open on the node, in Unix time; only while it is.", unix(st.Since), "op", string(st.Op))
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
