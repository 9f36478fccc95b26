package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent"
	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/identity"
	fakelease "ferryman/agent/lease/fake"
	"ferryman/agent/rpc"
	"ferryman/agent/runner"
	fakedb "ferryman/dbhooks/fake"
	"ferryman/systemd"
	fakeunits "ferryman/systemd/fake"
	fakestore "ferryman/upgrade/install/fake"
)

const clusterID = "orders-0123"

// lab is hosts in one process and in virtual time. It lives in a bubble of
// testing/synctest.
type lab struct {
	t     testing.TB
	links *cluster.Network
	net   *memory
	db    *fakedb.Cluster
	ca    *identity.CA
	doc   *documents
	log   *slog.Logger
	hosts map[string]*host
	boot  time.Time // where the clock of every host began
}

// host is a machine: what outlives its agent.
type host struct {
	lab      *lab
	name     string
	dir      string
	stores   cluster.Stores
	units    *fakeunits.Units
	releases *fakestore.Store
	db       *fakedb.Engine
	guard    *fakelease.Guard
	cfg      config.Config
	running  *running
	unfit    atomic.Value // string; what the agent sees wrong with the database's unit
	refusals int          // how often the service manager refuses to kill, from the next start of the agent on
}

// stubborn is a service manager that refuses to kill for a while.
type stubborn struct {
	*fakeunits.Units
	mu   sync.Mutex
	left int
}

func (u *stubborn) Kill(ctx context.Context, name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.left > 0 {
		u.left--
		return errors.New("the service manager does not answer")
	}
	return u.Units.Kill(ctx, name)
}

// running is a process of the agent.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func newLab(t testing.TB, seed uint64, names ...string) *lab {
	t.Helper()
	ca, err := identity.CreateCA(clusterID)
	if err != nil {
		t.Fatal(err)
	}
	links := cluster.NewNetwork(rand.New(rand.NewPCG(seed, 0)))
	l := &lab{t: t, links: links, net: newMemory(links), db: fakedb.NewCluster(), ca: ca, doc: newDocuments(), hosts: map[string]*host{}, boot: time.Now()}
	var out io.Writer = io.Discard
	if os.Getenv("FERRYMAN_TEST_LOG") != "" {
		out = os.Stderr
	}
	l.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	for _, name := range names {
		l.host(name)
	}
	return l
}

// host makes a machine with an empty disk.
func (l *lab) host(name string) *host {
	l.t.Helper()
	h := &host{lab: l, name: name}
	l.hosts[name] = h
	h.wipe()
	return h
}

// wipe gives the machine an empty disk, with a new certificate.
func (h *host) wipe() {
	l := h.lab
	l.t.Helper()
	h.dir = filepath.Join(l.t.TempDir(), h.name)
	h.stores, h.units, h.releases = cluster.InMemory(), fakeunits.New(), &fakestore.Store{}
	database := h.name + ":5000"
	h.db = l.db.Engine(database)
	h.db.Stop()
	h.db.Wipe()
	h.units.Install("db", h.db)
	units := h.units
	if h.guard != nil {
		h.guard.Die()
	}
	h.guard = &fakelease.Guard{Clock: l.clock, Kill: func(epoch uint64) {
		_ = units.Kill(context.Background(), "db")
		_ = h.db.Fence(epoch)
	}}
	h.cfg = config.Default()
	h.cfg.Node.Name, h.cfg.Node.Address, h.cfg.DataDir, h.cfg.TLS.Dir = h.name, h.name+":7440", h.dir, filepath.Join(h.dir, "tls")
	h.cfg.ControlSocket = "" // a real socket, on which virtual time would stand still
	h.cfg.Join = []string{"n1:7440", "n2:7440", "n3:7440"}
	h.cfg.Database.Engine, h.cfg.Database.Address = "fake", database

	req, key, err := identity.NewRequest(h.name)
	if err != nil {
		l.t.Fatal(err)
	}
	cert, err := l.ca.Sign(h.name, req, 365*24*time.Hour)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := errors.Join(l.ca.Save(h.cfg.TLS.Dir), identity.WriteNode(h.cfg.TLS.Dir, l.ca.CertPEM(), cert, key)); err != nil {
		l.t.Fatal(err)
	}
}

// found allows the host to found the cluster.
func (h *host) found() {
	if err := cluster.WriteMarker(h.dir, cluster.Marker{Cluster: "orders"}); err != nil {
		h.lab.t.Fatal(err)
	}
}

// start runs the agent until it is stopped. One that asks for it is started
// anew, as a service manager does.
func (h *host) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan struct{})}
	h.running = r
	go func() {
		defer close(r.done)
		for {
			a, err := agent.New(h.cfg, h.deps())
			if err == nil {
				err = a.Run(ctx)
			}
			if r.err = err; !errors.Is(err, agent.ErrRestart) || ctx.Err() != nil {
				return
			}
		}
	}()
}

func (h *host) deps() agent.Deps {
	d := h.dependencies()
	if h.cfg.Node.Witness {
		d.Services = nil
	}
	return d
}

func (h *host) dependencies() agent.Deps {
	return agent.Deps{
		Log:     h.lab.log.With("at", h.name),
		Version: "0.1.0",
		Network: h.lab.net.join,
		Stores:  &h.stores,
		Source:  h.lab.doc,
		Services: []runner.Service{{
			Service: ferryman.Service{Slot: "db", Engine: "fake", Address: h.cfg.Database.Address},
			Engine:  h.db,
			Unit:    "db",
			Unfit: func(systemd.UnitStatus) string {
				why, _ := h.unfit.Load().(string)
				return why
			},
			Mark: func(epoch uint64) error { return h.db.Fence(epoch) },
		}},
		Guard:    h.guard,
		Clock:    h.lab.clock,
		Units:    &stubborn{Units: h.units, left: h.refusals},
		Releases: h.releases,
	}
}

// stop ends the agent in order and returns what Run did.
func (h *host) stop() error {
	h.running.cancel()
	<-h.running.done
	return h.running.err
}

// crash ends the agent as kill -9 does, as far as others can tell: it says
// nothing more. The database goes on unless the host is gone too.
func (h *host) crash() {
	h.lab.links.Isolate(h.cfg.Node.Address)
	_ = h.stop()
	h.lab.links.Rejoin(h.cfg.Node.Address)
}

// die ends the host with all that runs on it, as a power failure does.
func (h *host) die() {
	h.lab.links.Isolate(h.cfg.Node.Address)
	h.guard.Die()
	h.units.Crash()
	_ = h.stop()
	h.lab.links.Rejoin(h.cfg.Node.Address)
}

// boots starts a host that died, on its disk.
func (h *host) boots() {
	h.guard.Revive()
	h.start()
}

// clock is every host's, which in virtual time run alike.
func (l *lab) clock() time.Duration { return time.Since(l.boot) }

// backend is the agent as others see it; false while it does not serve.
func (h *host) backend() (rpc.Peer, bool) {
	h.lab.net.mu.Lock()
	defer h.lab.net.mu.Unlock()
	e, ok := h.lab.net.ends[h.cfg.Node.Address]
	if !ok {
		return nil, false
	}
	return e.backend, true
}

// report is what the leader knows, with its host.
func (l *lab) report() (ferryman.Report, *host, bool) {
	var newest ferryman.Report
	var leader *host
	for _, h := range l.hosts {
		b, ok := h.backend()
		if !ok {
			continue
		}
		// A leader that was cut off may not know yet that it is none.
		if r, err := b.Report(context.Background()); err == nil && r.View.Term > newest.View.Term {
			newest, leader = r, h
		}
	}
	return newest, leader, leader != nil
}

// until waits in virtual time until the leader's report satisfies ok.
func (l *lab) until(what string, limit time.Duration, ok func(ferryman.Report) bool) (ferryman.Report, *host) {
	l.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		r, leader, leads := l.report()
		if leads && ok(r) {
			return r, leader
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("after %v of virtual time: not %s\n%s", limit, what, describe(r, leads))
		}
		l.holds()
		time.Sleep(100 * time.Millisecond)
	}
}

func describe(r ferryman.Report, leads bool) string {
	if !leads {
		return "there is no leader"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "term %d, leader %s, primary %+v, initialised %v\n", r.View.Term, r.View.Self, r.State.Primary, r.State.Initialised)
	for id, m := range r.State.Members {
		v := r.View.Nodes[id]
		fmt.Fprintf(&b, "%s %s: %s, %s, reachable %v, caught up %v, error %q, services %+v\n", m.Name, id, m.Want, r.View.Raft[id], v.Reachable, v.CaughtUp, v.Error, v.Status.Services)
	}
	for _, st := range r.State.Ledger {
		fmt.Fprintf(&b, "step %d: %s on %s %s attempt %d: %+v\n", st.ID, st.Op, st.Node, st.Service, st.Attempt, st.Outcome)
	}
	for _, w := range r.Decision.Waits {
		fmt.Fprintf(&b, "waits: %s %s %s: %s\n", w.Rule, w.Code, w.Node, w.Reason)
	}
	for _, e := range r.State.Events {
		fmt.Fprintf(&b, "event: %s %s\n", e.Time.Format(time.TimeOnly), e.Text)
	}
	return b.String()
}

// settled tells that n nodes are members with a healthy database, of which one
// is the primary, an odd number of them with a vote, no more than max_voters, and
// that nothing is open.
func settled(n int) func(ferryman.Report) bool {
	return func(r ferryman.Report) bool {
		if len(r.State.Members) != n || r.State.Primary.Epoch == 0 || len(r.View.Raft) != n {
			return false
		}
		votes := 0
		for id := range r.State.Members {
			v := r.View.Nodes[id]
			if !v.Reachable || !v.CaughtUp || v.HealthySince.IsZero() {
				return false
			}
			if r.View.Raft[id] == ferryman.Voter {
				votes++
			}
			for _, s := range v.Status.Services {
				if primary := id == r.State.Primary.Node; primary != s.Instance.Writable || !primary && !s.Instance.Streaming {
					return false
				}
			}
		}
		for _, st := range r.State.Ledger {
			if st.Open() {
				return false
			}
		}
		return !r.State.Rollout.Open() && votes == min(n-(n+1)%2, ferryman.DefaultMaxVoters)
	}
}

// member is the recorded member of that name.
func member(r ferryman.Report, name string) (ferryman.Member, bool) {
	for _, m := range r.State.Members {
		if m.Name == name && !m.Lost {
			return m, true
		}
	}
	return ferryman.Member{}, false
}

// id is a node's, by its name.
func (l *lab) id(r ferryman.Report, name string) ferryman.NodeID {
	l.t.Helper()
	m, ok := member(r, name)
	if !ok {
		l.t.Fatalf("%s is no member\n%s", name, describe(r, true))
	}
	return m.ID
}

// others are the hosts but h.
func (l *lab) others(h *host) (list []*host) {
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		if o := l.hosts[name]; o != h {
			list = append(list, o)
		}
	}
	return list
}

// holds fails the test if what must always be true is not.
func (l *lab) holds() {
	l.t.Helper()
	if p := l.db.Primaries(); len(p) > 1 {
		l.t.Fatalf("%q accept writes at the same time", p)
	}
}

// form starts the hosts and waits until they are one cluster.
func (l *lab) form() (ferryman.Report, *host) {
	l.t.Helper()
	l.hosts["n1"].found()
	for _, h := range l.hosts {
		h.start()
	}
	l.doc.set(document(len(l.hosts), 1, ""))
	return l.until("formed", 5*time.Minute, settled(len(l.hosts)))
}

// close ends every agent: a bubble must be empty in the end.
func (l *lab) close() {
	for _, h := range l.hosts {
		if h.running != nil {
			h.running.cancel()
		}
	}
	for _, h := range l.hosts {
		if h.running != nil {
			<-h.running.done
		}
	}
}

// inLab runs f with a lab in a bubble of its own.
func inLab(t *testing.T, seed uint64, names []string, f func(t *testing.T, l *lab)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, seed, names...)
		defer l.close()
		f(t, l)
	})
}

func document(nodes int, generation uint64, more string) string {
	return fmt.Sprintf(`
generation: %d
nodes: %d
database:
  engine: fake
%s
rollout: {canary: 0, minHealthy: 1s}
`, generation, nodes, more)
}

// documents is a source whose content a test sets.
type documents struct {
	mu      sync.Mutex
	raw     string
	version int
	changed chan struct{}
}

func newDocuments() *documents { return &documents{changed: make(chan struct{})} }

func (d *documents) set(raw string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.raw = raw
	d.version++
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *documents) Fetch(ctx context.Context, etag string) ([]byte, string, error) {
	for {
		d.mu.Lock()
		raw, next, changed := d.raw, fmt.Sprint(d.version), d.changed
		d.mu.Unlock()
		if raw != "" && next != etag {
			return []byte(raw), next, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, etag, ctx.Err()
		}
	}
}
