package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/apiserver"
	"ferryman/apiserver/minimal"
	"ferryman/dbhooks/demodb"
)

// machines are the hosts behind a minimal api-server.
type machines struct {
	t       *testing.T
	process *apiserver.Process
	work    sync.WaitGroup

	mu            sync.Mutex
	least, utmost int // hosts that ran at a time, since reset
}

var _ minimal.Hosts = (*machines)(nil)

func (m *machines) Running() []string {
	list, err := m.process.List(context.Background())
	if err != nil {
		m.t.Error(err)
	}
	var out []string
	for _, h := range list {
		out = append(out, h.Address)
	}
	return out
}

func (m *machines) Start(name string) error {
	m.work.Go(func() {
		if err := m.process.Create(context.Background(), name); err != nil {
			m.t.Error(err)
		}
	})
	return nil
}

func (m *machines) Stop(address string) error {
	name, _, _ := strings.Cut(address, ":")
	pid := m.process.Agent(name)
	if pid == 0 {
		return fmt.Errorf("no agent runs on %s", name)
	}
	// It is the host that stops, whatever its agent ends with.
	if err := os.WriteFile(filepath.Join(m.process.Base, name, "stop"), nil, 0o600); err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}

// count keeps counting what runs until ctx ends.
func (m *machines) count(ctx context.Context) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		m.sample()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// sample counts under the lock, so that what it saw before counted was asked
// is not told of the time after.
func (m *machines) sample() {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.Running())
	m.least, m.utmost = min(m.least, n), max(m.utmost, n)
}

// counted returns how many hosts ran at least and at most since it was last asked.
func (m *machines) counted() (least, utmost int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	least, utmost = m.least, m.utmost
	m.least, m.utmost = 1<<30, 0
	return least, utmost
}

// An api-server that counts what runs at the moment, makes the difference anew
// at each call and stops hosts of its own choice: there are never more hosts
// than were wanted, nor fewer than were left.
func TestAMinimalAPIServerIsEnough(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "cluster: {dead_after: 3s}\nleave_on_terminate: true\nsource: {poll_interval: 200ms}\n")
	hosts := &machines{t: t, process: c.stage.quiet()}
	api := minimal.New(hosts, numberReplicas(3))
	web := httptest.NewServer(api)
	t.Cleanup(web.Close)
	t.Cleanup(hosts.work.Wait)
	c.stage.address = strings.TrimPrefix(web.URL, "http://")
	response, err := http.Post(web.URL+"/desired_hosts", "application/json", strings.NewReader(`{"numDesiredHosts": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	hosts.work.Wait()

	ctx, cancel := context.WithCancel(context.Background())
	hosts.work.Go(func() { hosts.count(ctx) })
	t.Cleanup(cancel)
	c.doc = ferryman.Document{Nodes: 3, Generation: 1}
	c.doc.Database.Version = demodb.DefaultVersion // which no document names
	phase := func(t *testing.T, least, utmost int) ferryman.Report {
		t.Helper()
		r := c.settle(t)
		eventually(t, "as many hosts as nodes", func() error {
			var running []string
			for _, address := range hosts.Running() {
				name, _, _ := strings.Cut(address, ":")
				running = append(running, name)
			}
			if !slices.Equal(running, names(r)) {
				return fmt.Errorf("the hosts are %v, the nodes %v", running, names(r))
			}
			return nil
		})
		if l, u := hosts.counted(); l < least || u > utmost {
			t.Errorf("%d to %d hosts ran, want %d to %d; asked for: %v\n%s", l, u, least, utmost, api.Requests(), history(r))
		}
		return r
	}
	hosts.counted()
	phase(t, 1, 3)
	c.writer.start(context.WithoutCancel(t.Context()), "test")
	c.write(t)

	for _, s := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"a killed host is replaced", func(t *testing.T) {
			r := c.settle(t)
			var victim ferryman.Member
			for id, m := range r.State.Members {
				if id != r.State.Primary.Node {
					victim = m
				}
			}
			c.destroy(t, victim.Name)
			c.wait(t, "it is replaced", func(r ferryman.Report) error {
				if _, ok := r.State.Members[victim.ID]; ok {
					return fmt.Errorf("%s is still a member", victim.Name)
				}
				return nil
			})
			phase(t, 2, 3)
			c.write(t)
		}},
		{"three become four", func(t *testing.T) {
			api.SetDocument(numberReplicas(4))
			c.doc.Nodes, c.doc.Generation = 4, 2
			phase(t, 3, 4)
			c.write(t)
		}},
		{"four become two", func(t *testing.T) {
			api.SetDocument(numberReplicas(2))
			c.doc.Nodes, c.doc.Generation = 2, 3
			phase(t, 2, 4)
			c.write(t)
		}},
		{"a document that cannot be read", func(t *testing.T) {
			c.ignores(t, api, []byte("\x00{nodes: [garbage"), func(r ferryman.Report) error {
				if r.State.Refused == nil {
					return errors.New("it is not refused")
				}
				return nil
			})
		}},
		{"a document that is too large", func(t *testing.T) {
			large := append(numberReplicas(3), slices.Repeat([]byte(" "), 1<<20)...)
			c.ignores(t, api, large, func(r ferryman.Report) error {
				for _, w := range r.Decision.Waits {
					if w.Code == "source" {
						return nil
					}
				}
				return errors.New("nobody says that it cannot be fetched")
			})
		}},
		{"the next good document", func(t *testing.T) {
			api.SetDocument([]byte("generation: 9\nnodes: 2\n"))
			c.doc.Generation = 9
			phase(t, 2, 2)
		}},
	} {
		if !t.Run(s.name, s.do) {
			return
		}
	}
	c.checkWrites(t)
}

// ignores serves something that is no document, waits until the cluster says
// so, and sees that nothing else came of it.
func (c *company) ignores(t *testing.T, api *minimal.Server, raw []byte, said func(ferryman.Report) error) {
	t.Helper()
	before := c.settle(t)
	api.SetDocument(raw)
	after := c.wait(t, "it is told", func(r ferryman.Report) error {
		if err := said(r); err != nil {
			return err
		}
		return c.quiet()(r)
	})
	if after.State.Accepted.Digest != before.State.Accepted.Digest || after.State.LastStep != before.State.LastStep {
		t.Errorf("something changed\n%s", history(after))
	}
}

func numberReplicas(n int) []byte { return fmt.Appendf(nil, `{"NumberReplicas": %d}`, n) }
