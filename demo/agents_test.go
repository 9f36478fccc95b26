package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/demo/port"
)

// One cluster lives through what can happen to agents, and through those that
// do not belong to it.
func TestAgentsComeAndGo(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "cluster: {dead_after: 60s}\n")
	c.open(t)
	for _, s := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"an agent that was killed adopts its database", c.adopts},
		{"each agent is restarted once", c.restartsAgents},
		{"two agents on one data directory", c.secondAgent},
		{"a name that is taken", c.takenName},
		{"a node of another cluster", c.stranger},
		{"an older document is replayed", c.staleDocument},
		{"the leader is paused", c.pausedLeader},
		{"a disk is lost, and peers cannot be reached at first", c.wipedDisk},
	} {
		if !t.Run(s.name, s.do) {
			return
		}
	}
	c.checkWrites(t)
}

func (c *company) adopts(t *testing.T) {
	before := c.settle(t)
	for _, name := range names(before) {
		c.kill(t, name)
		c.revive(t, name)
		r := c.wait(t, name+" is back", func(r ferryman.Report) error {
			if statusOf(t, r, name).BootID == statusOf(t, before, name).BootID {
				return fmt.Errorf("%s has not answered since", name)
			}
			return c.quiet()(r)
		})
		if got, want := startID(t, r, name), startID(t, before, name); got != want {
			t.Errorf("the database of %s runs as %s, and before its agent was killed it was %s", name, got, want)
		}
		if r.State.Primary != before.State.Primary {
			t.Errorf("the primary is %+v, and before it was %+v", r.State.Primary, before.State.Primary)
		}
	}
	c.write(t)
}

// restartsAgents has a rollout restart every agent: once each, and no database.
func (c *company) restartsAgents(t *testing.T) {
	before := c.settle(t)
	begun := func(name string) int {
		return strings.Count(readFile(t, filepath.Join(c.host(name), "agent.log")), `msg="the agent runs"`)
	}
	runs := map[string]int{}
	for _, name := range names(before) {
		runs[name] = begun(name)
	}
	c.doc.Agent.RestartGeneration++
	c.change(t)
	after := c.settle(t)
	for _, name := range names(after) {
		if got := begun(name) - runs[name]; got != 1 {
			t.Errorf("the agent of %s was restarted %d times, want once\n%s", name, got, history(after))
		}
		if got, want := startID(t, after, name), startID(t, before, name); got != want {
			t.Errorf("the database of %s runs as %s, before its agent was restarted it was %s", name, got, want)
		}
	}
}

func (c *company) secondAgent(t *testing.T) {
	before := c.settle(t)
	name := names(before)[0]
	cmd := exec.CommandContext(t.Context(), c.stage.program, "agent", "--config", filepath.Join(c.host(name), "agent.yaml"))
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "an agent is already running on this data directory") {
		t.Errorf("a second agent on the directory of %s: %v\n%s", name, err, out)
	}
	after := c.settle(t)
	if got, want := statusOf(t, after, name).BootID, statusOf(t, before, name).BootID; got != want {
		t.Errorf("the first agent was started again: %s, before %s", got, want)
	}
}

func (c *company) takenName(t *testing.T) {
	before := c.settle(t)
	name := names(before)[1]
	out := c.visitor(t, c.stage, name, before)
	c.refusedVisitor(t, before, out, "is alive; choose another name")
}

func (c *company) stranger(t *testing.T) {
	before := c.settle(t)
	ca, err := identity.CreateCA("demo-2") // another cluster of the same name
	if err != nil {
		t.Fatal(err)
	}
	other := &stage{dir: t.TempDir()}
	if err := ca.Save(filepath.Join(other.dir, "ca")); err != nil {
		t.Fatal(err)
	}
	out := c.visitor(t, other, "n9", before)
	c.refusedVisitor(t, before, out, "certificate")
}

// visitor runs an agent on a host of its own, with a certificate of a stage's
// CA, which asks a cluster to be let in. It returns what the agent says.
func (c *company) visitor(t *testing.T, of *stage, name string, r ferryman.Report) *output {
	t.Helper()
	dir := t.TempDir()
	peer, database := port.Free(), port.Free()
	if err := of.issue(name, filepath.Join(dir, "tls")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.yaml")
	join := []string{r.State.Members[r.View.Self].Address}
	if err := os.WriteFile(path, []byte(c.stage.config(name, dir, peer, database, join)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &output{}
	cmd := exec.Command(c.stage.program, "agent", "--config", path)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, environment()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out
}

// refusedVisitor waits until the visitor says why it is not let in, and sees
// that the cluster took no notice.
func (c *company) refusedVisitor(t *testing.T, before ferryman.Report, out *output, why string) {
	t.Helper()
	eventually(t, "the visitor says why it is not let in", func() error {
		if text := out.String(); !strings.Contains(text, "not in a cluster yet") || !strings.Contains(text, why) {
			return fmt.Errorf("it says: %s", text)
		}
		return nil
	})
	after := c.settle(t)
	if len(after.State.Members) != len(before.State.Members) || after.View.Term != before.View.Term || after.State.LastStep != before.State.LastStep {
		t.Errorf("the cluster took notice: members %v, before %v; term %d, before %d\n%s", names(after), names(before), after.View.Term, before.View.Term, history(after))
	}
	for id, m := range before.State.Members {
		if after.State.Members[id].Address != m.Address {
			t.Errorf("%s is at %q, before at %s", m.Name, after.State.Members[id].Address, m.Address)
		}
	}
}

// output is what a process says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// wipedDisk takes a host's disk away. Its agent founds no cluster of its own
// while it reaches nobody, and joins as a new node once it does.
func (c *company) wipedDisk(t *testing.T) {
	before := c.settle(t)
	var wiped ferryman.Member
	for id, m := range before.State.Members {
		// The first host is the one that founded the cluster, if it may be wiped.
		if id != before.State.Primary.Node && (wiped.ID == "" || m.Joined.Before(wiped.Joined)) {
			wiped = m
		}
	}
	c.destroy(t, wiped.Name)
	dir := c.host(wiped.Name)
	for _, lost := range []string{"data", "db"} {
		if err := os.RemoveAll(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	g := newGate(t, before.State.Members[before.State.Primary.Node].Address)
	drops := filepath.Join(dir, settings)
	own := readFile(t, filepath.Join(drops, "test.yaml"))
	if err := os.Remove(drops); err != nil { // the link to what all hosts have
		t.Fatal(err)
	}
	if err := os.MkdirAll(drops, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(drops, "test.yaml"), []byte(own+"join: ["+g.address()+"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.revive(t, wiped.Name)
	eventually(t, "the wiped node knocks, and reaches nobody", func() error {
		if g.knocks.Load() < 3 {
			return fmt.Errorf("it knocked %d times", g.knocks.Load())
		}
		_, err := c.local(t.Context(), wiped.Name)
		return err
	})
	if l, err := c.local(t.Context(), wiped.Name); err != nil || l.State.Cluster != "" || l.Leader.ID != "" || l.Status.Applied != 0 {
		t.Errorf("while it reaches nobody it has cluster %q, leader %q, and applied %d entries (%v)", l.State.Cluster, l.Leader.ID, l.Status.Applied, err)
	}
	g.open.Store(true)
	after := c.wait(t, "the wiped node is a new one", func(r ferryman.Report) error {
		if m, ok := r.State.Member(wiped.Name); !ok || m.ID == wiped.ID {
			return errors.New("it has not joined")
		}
		return c.quiet()(r)
	})
	if _, ok := after.State.Members[wiped.ID]; ok {
		t.Errorf("the node that was lost is still a member")
	}
	c.write(t)
}

// gate is a place in the network that leads to a peer once it is open; before,
// it ends each connection.
type gate struct {
	ln     net.Listener
	open   atomic.Bool
	knocks atomic.Int64
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{ln: ln}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			g.knocks.Add(1)
			if !g.open.Load() {
				in.Close()
				continue
			}
			work.Go(func() { carry(t, in, to) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		work.Wait()
	})
	return g
}

func (g *gate) address() string { return g.ln.Addr().String() }

// carry passes bytes both ways until the test or either end is over.
func carry(t *testing.T, in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	ended := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		ended <- struct{}{}
	}
	go pass(out, in)
	go pass(in, out)
	select {
	case <-ended:
	case <-t.Context().Done():
	}
}
