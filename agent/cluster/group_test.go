package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ferryman/agent/cluster"
)

// list is a machine that remembers what it was given.
type list struct {
	mu    sync.Mutex
	items []string
}

type fatal struct{}

func (fatal) Error() string { return "command of a later format" }
func (fatal) Fatal() bool   { return true }

func (l *list) Apply(_ uint64, data []byte) any {
	if string(data) == "unknown" {
		return fatal{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = append(l.items, string(data))
	return len(l.items)
}

func (l *list) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return json.Marshal(l.items)
}

func (l *list) Restore(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = nil
	return json.Unmarshal(data, &l.items)
}

func (l *list) has(item string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.items, item)
}

func (l *list) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.items)
}

// member is a node, its disk, and the function that it leads with.
type member struct {
	id, address string
	stores      cluster.Stores
	machine     *list
	node        *cluster.Node
	leads       atomic.Pointer[led]
	running     atomic.Int32
	stop        context.CancelFunc
	ended       chan error
}

// led is one run of the function.
type led struct {
	ctx    context.Context
	leader cluster.Leader
}

type group struct {
	t       *testing.T
	network *cluster.Network
	cfg     cluster.Config
	members []*member
}

// newGroup starts count nodes and founds a cluster of the first voters of them.
func newGroup(t *testing.T, count, voters int) *group {
	t.Helper()
	return newPacedGroup(t, cluster.NewConfig(), count, voters)
}

// newPacedGroup is newGroup with other timings.
func newPacedGroup(t *testing.T, cfg cluster.Config, count, voters int) *group {
	t.Helper()
	g := &group{t: t, network: cluster.NewNetwork(rand.New(rand.NewPCG(1, 2))), cfg: cfg}
	var servers []cluster.Server
	for i := range count {
		m := &member{id: fmt.Sprintf("n%d", i+1), stores: cluster.InMemory()}
		m.address = m.id + ":7400"
		g.members = append(g.members, m)
		g.start(m)
		if i < voters {
			servers = append(servers, cluster.Server{ID: m.id, Address: m.address})
		}
	}
	if err := g.members[0].node.Bootstrap(servers...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	return g
}

// start starts a member, or starts it again with its disk.
func (g *group) start(m *member) {
	g.t.Helper()
	cfg := g.cfg
	cfg.ID, cfg.Address = m.id, m.address
	m.machine = &list{}
	node, err := cluster.Open(cfg, m.machine, cluster.Deps{Transport: g.network.Transport(m.address), Stores: m.stores})
	if err != nil {
		g.t.Fatal(err)
	}
	m.node = node
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.ended = make(chan error, 1)
	go func() {
		m.ended <- node.Lead(ctx, func(ctx context.Context, l cluster.Leader) error {
			if m.running.Add(1) != 1 {
				g.t.Errorf("%s leads twice at once", m.id)
			}
			defer m.running.Add(-1)
			m.leads.Store(&led{ctx, l})
			<-ctx.Done()
			return ctx.Err()
		})
	}()
}

func (g *group) halt(m *member) {
	g.t.Helper()
	if m.node == nil {
		return
	}
	m.stop()
	if err := <-m.ended; err != nil && !errors.Is(err, m.node.Err()) {
		g.t.Errorf("%s: Lead: %v", m.id, err)
	}
	if err := m.node.Close(); err != nil {
		g.t.Errorf("%s: Close: %v", m.id, err)
	}
	m.node = nil
}

func (g *group) close() {
	for _, m := range g.members {
		g.halt(m)
	}
}

// until polls, in virtual time, and fails the test after two minutes of it.
func (g *group) until(what string, done func() bool) {
	g.t.Helper()
	for range 12000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	g.t.Fatalf("not within two minutes: %s", what)
}

// leader waits until one of the members, but none of not, runs its function.
func (g *group) leader(not ...*member) (*member, cluster.Leader) {
	g.t.Helper()
	var m *member
	var l cluster.Leader
	g.until("a leader", func() bool {
		for _, c := range g.members {
			if slices.Contains(not, c) || c.node == nil {
				continue
			}
			if led := c.leads.Load(); led != nil && led.ctx.Err() == nil {
				m, l = c, led.leader
				return true
			}
		}
		return false
	})
	return m, l
}

func (g *group) propose(l cluster.Leader, item string) uint64 {
	g.t.Helper()
	index, _, err := l.Propose(g.t.Context(), []byte(item))
	if err != nil {
		g.t.Fatalf("propose %s: %v", item, err)
	}
	return index
}

// others returns the members without m.
func (g *group) others(m *member) []*member {
	return slices.DeleteFunc(slices.Clone(g.members), func(c *member) bool { return c == m })
}

func suffrages(t *testing.T, l cluster.Leader) map[string]cluster.Suffrage {
	t.Helper()
	servers, err := l.Configuration()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]cluster.Suffrage{}
	for _, s := range servers {
		got[s.ID] = s.Suffrage
	}
	return got
}
