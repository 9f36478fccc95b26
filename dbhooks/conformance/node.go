package conformance

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/demo/port"
)

// patience bounds what should be done much sooner: when it runs out the test has failed.
const patience = 30 * time.Second

// node is one instance: its engine, and its process, which the suite runs as a unit would.
type node struct {
	dbhooks.Engine
	suite Suite
	cfg   dbhooks.Config
	home  string // the release that the next start runs

	process *exec.Cmd
	ended   chan struct{}
	output  *tail
}

// newNodes returns n instances that run, without data.
func newNodes(t *testing.T, s Suite, n int) []*node {
	t.Helper()
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = newNode(t, s, dbhooks.Config{Address: port.Free()})
	}
	return nodes
}

// newNode returns an instance that runs, without data.
func newNode(t *testing.T, s Suite, cfg dbhooks.Config) *node {
	t.Helper()
	cfg.Dir = filepath.Join(t.TempDir(), "data")
	n := &node{Engine: s.New(cfg), suite: s, cfg: cfg, home: s.Home}
	n.start(t)
	return n
}

// newCluster returns n instances: the first is the primary of epoch 1, the others follow it.
func newCluster(t *testing.T, s Suite, n int) []*node {
	t.Helper()
	nodes := newNodes(t, s, n)
	nodes[0].must(t, ferryman.OpInitialise, ferryman.Args{})
	nodes[0].must(t, ferryman.OpPromote, ferryman.Args{Epoch: 1})
	for _, replica := range nodes[1:] {
		from := ferryman.Args{Epoch: 1, From: nodes[0].cfg.Address}
		replica.must(t, ferryman.OpClone, from)
		replica.must(t, ferryman.OpFollow, from)
	}
	return nodes
}

func configs(nodes []*node) []dbhooks.Config {
	var all []dbhooks.Config
	for _, n := range nodes {
		all = append(all, n.cfg)
	}
	return all
}

// start runs the process and waits until the engine sees it.
func (n *node) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command, err := n.Command(ctx, n.home)
	if err != nil {
		t.Fatalf("command: %v", err)
	}
	n.output = &tail{}
	n.process = exec.Command(command.Exec[0], command.Exec[1:]...)
	n.process.Env, n.process.Dir = command.Env, command.Dir
	n.process.Stdout, n.process.Stderr = n.output, n.output
	n.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.process.Start(); err != nil {
		t.Fatalf("start %v: %v", command.Exec, err)
	}
	ended := make(chan struct{})
	n.ended = ended
	go func() {
		n.process.Wait()
		close(ended)
	}()
	t.Cleanup(func() { n.signal(t, syscall.SIGKILL) })
	n.until(t, "the process answers", func(in ferryman.Instance) bool {
		select {
		case <-ended:
			t.Fatalf("the process ended: %s", n.output)
		default:
		}
		return in.Running && in.Version != ""
	})
}

// signal sends it to the whole process group; SIGTERM and SIGKILL wait for the end.
func (n *node) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	select {
	case <-n.ended:
		return
	default:
	}
	if err := syscall.Kill(-n.process.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal %s: %v", sig, err)
	}
	if sig != syscall.SIGTERM && sig != syscall.SIGKILL {
		return
	}
	select {
	case <-n.ended:
	case <-time.After(patience):
		t.Fatalf("the process did not end after %s: %s", sig, n.output)
	}
}

func (n *node) stop(t *testing.T) { t.Helper(); n.signal(t, syscall.SIGTERM) }
func (n *node) kill(t *testing.T) { t.Helper(); n.signal(t, syscall.SIGKILL) }

// must carries an operation out, twice: every one is idempotent.
func (n *node) must(t *testing.T, op ferryman.Op, args ferryman.Args) ferryman.Result {
	t.Helper()
	result, err := n.try(t, op, args)
	if err != nil {
		t.Fatalf("%s of %s: %v\n%s", op, n.cfg.Address, err, n.output)
	}
	if _, err := n.try(t, op, args); err != nil {
		t.Fatalf("%s of %s, repeated: %v\n%s", op, n.cfg.Address, err, n.output)
	}
	return result
}

func (n *node) try(t *testing.T, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return n.Do(ctx, op, args)
}

// refuses expects the operation to fail, and before the time is up.
func (n *node) refuses(t *testing.T, op ferryman.Op, args ferryman.Args) {
	t.Helper()
	_, err := n.try(t, op, args)
	switch {
	case err == nil:
		t.Errorf("%s %+v: got nil, want a refusal", op, args)
	case errors.Is(err, context.DeadlineExceeded):
		t.Errorf("%s %+v: got %v, want a refusal at once", op, args, err)
	}
}

func (n *node) status(t *testing.T) ferryman.Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, err := n.Status(ctx)
	if err != nil {
		t.Fatalf("status of %s: %v", n.cfg.Address, err)
	}
	return in
}

func (n *node) until(t *testing.T, what string, done func(ferryman.Instance) bool) ferryman.Instance {
	t.Helper()
	var in ferryman.Instance
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := dbhooks.Poll(ctx, func(ctx context.Context) (bool, string, error) {
		in = n.status(t)
		return done(in), what, nil
	})
	if err != nil {
		t.Fatalf("%s: %v; last seen %+v\n%s", n.cfg.Address, err, in, n.output)
	}
	return in
}

func (n *node) put(t *testing.T, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.suite.Put(ctx, n.cfg, key, value); err != nil {
		t.Fatalf("put %s on %s: %v\n%s", key, n.cfg.Address, err, n.output)
	}
}

// refusesWrites expects that a write is not acknowledged. A database may hold it until the client gives up.
func (n *node) refusesWrites(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.suite.Put(ctx, n.cfg, "refused", "x"); err == nil {
		t.Errorf("%s acknowledged a write that it should have refused", n.cfg.Address)
	}
}

func (n *node) has(t *testing.T, key, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, found, err := n.suite.Get(ctx, n.cfg, key)
	if err != nil || !found || got != want {
		t.Errorf("get %s from %s: got %q, %t, %v; want %q", key, n.cfg.Address, got, found, err, want)
	}
}

// tail keeps the end of what a process prints.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.b.Len() > 32<<10 {
		w.b.Next(16 << 10)
	}
	return w.b.Write(p)
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
