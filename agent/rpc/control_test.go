package rpc_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/rpc"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// serveControl serves a backend on a socket and returns its path.
func serveControl(t *testing.T, b *backend) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	ln, err := rpc.ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, rpc.NewControlServer(b, discard()), ln)
	return path
}

func dialControl(t *testing.T, path string) *rpc.ControlClient {
	t.Helper()
	c, err := rpc.DialControl(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestControl(t *testing.T) {
	t.Parallel()
	b := newBackend()
	var got ferryman.Request
	b.request = func(_ context.Context, r ferryman.Request) error {
		got = r
		if r.Kind == ferryman.RequestAbort {
			return rpc.NotLeader{}
		}
		return nil
	}
	path := serveControl(t, b)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o660 {
		t.Errorf("mode of the socket = %04o, want 0660", mode)
	}
	c, ctx := dialControl(t, path), testContext(t)

	if r, err := c.Report(ctx); err != nil || r.State.Cluster != "orders" {
		t.Errorf("Report: %+v, %v", r, err)
	}
	if l, err := c.Local(ctx); err != nil || l.Status.Name != "n1" {
		t.Errorf("Local: %+v, %v", l, err)
	}
	if d, err := c.Debug(ctx); err != nil || d.Raft["term"] != "7" || d.Goroutines != "goroutine 1" {
		t.Errorf("Debug: %+v, %v", d, err)
	}
	if s, err := c.Token(ctx, rpc.TokenRequest{TTL: ferryman.Duration(time.Hour)}); err != nil || s != "token for 1h0m0s" {
		t.Errorf("Token: %q, %v", s, err)
	}
	stop := rpc.StopRequest{Reason: "disk", For: ferryman.Duration(time.Minute)}
	if err := c.Stop(ctx, stop); err != nil || len(b.stopped) != 1 || b.stopped[0] != stop {
		t.Errorf("Stop: %v, %+v", err, b.stopped)
	}
	// Who asked is what the kernel says.
	if err := c.Request(ctx, ferryman.Request{Kind: ferryman.RequestPause, By: "somebody else"}); err != nil {
		t.Fatal(err)
	}
	if me, err := user.Current(); err == nil && got.By != me.Username {
		t.Errorf("request by %q, want %q", got.By, me.Username)
	}
	if err := c.Request(ctx, ferryman.Request{Kind: ferryman.RequestAbort}); !errors.Is(err, ferryman.ErrNotLeader) {
		t.Errorf("got %v, want ErrNotLeader", err)
	}
	var out struct{}
	if err := c.InvokeControl(ctx, "/ferryman.Peer/RemoveServer", "id1", &out); !errors.Is(err, ferryman.ErrUnsupported) {
		t.Errorf("a peer's call on the control socket: %v, want ErrUnsupported", err)
	}
}

func TestMayControl(t *testing.T) {
	t.Parallel()
	const self, group = 500, 600
	for name, c := range map[string]struct {
		uid, gid uint32
		groups   []uint32
		want     bool
	}{
		"root":               {0, 0, nil, true},
		"the agent's user":   {self, 1, nil, true},
		"the primary group":  {1000, group, nil, true},
		"a further group":    {1000, 1000, []uint32{4, group}, true},
		"somebody":           {1000, 1000, []uint32{4, 27}, false},
		"uid like the group": {group, 1000, []uint32{self}, false},
	} {
		if got := rpc.MayControl(c.uid, c.gid, c.groups, self, group); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestControlSocketThatIsNotThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control.sock")
	_, err := dialControl(t, path).Report(testContext(t))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "no agent runs here") {
		t.Errorf("no socket: %v", err)
	}

	// What a killed agent leaves behind.
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if _, err := dialControl(t, path).Report(testContext(t)); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "does not run any more") {
		t.Errorf("left behind: %v", err)
	}
	ln, err = rpc.ListenControl(path)
	if err != nil {
		t.Fatalf("listen over what was left behind: %v", err)
	}
	defer ln.Close()
	if _, err := rpc.ListenControl(path); !errors.Is(err, ferryman.ErrConflict) {
		t.Errorf("a second agent: %v, want ErrConflict", err)
	}
}

func TestListenControlKeepsOtherFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.ListenControl(path); err == nil {
		t.Error("listened over a file")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// TestControlAsAnotherUser runs itself as a user who may and as one who may not.
func TestControlAsAnotherUser(t *testing.T) {
	if path := os.Getenv("FERRYMAN_TEST_SOCKET"); path != "" {
		if _, err := dialControl(t, path).Report(testContext(t)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user; scripts/lab/test runs this")
	}
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "test")
	if b, err := os.ReadFile(os.Args[0]); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(binary, b, 0o755); err != nil {
		t.Fatal(err)
	}
	b := newBackend()
	path := filepath.Join(dir, "control.sock")
	ln, err := rpc.ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, rpc.NewControlServer(b, discard()), ln)
	const group = 60123
	for _, err := range []error{os.Chmod(dir, 0o755), os.Chown(path, 0, group)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	as := func(uid, gid uint32, groups ...uint32) error {
		cmd := exec.Command(binary, "-test.run=^TestControlAsAnotherUser$")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "FERRYMAN_TEST_SOCKET="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
		out, err := cmd.CombinedOutput()
		t.Logf("as %d:%d %v: %v\n%s", uid, gid, groups, err, out)
		return err
	}
	if err := as(60001, 60001); err == nil {
		t.Error("a user without the group passed the socket's mode")
	}
	if err := as(60001, group); err != nil {
		t.Error("the group was refused")
	}
	if err := as(60001, 60001, group); err != nil {
		t.Error("the supplementary group was refused")
	}
	// Somebody opened the socket to all: the credentials still decide.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	calls := b.count()
	if err := as(60001, 60001); err == nil || b.count() != calls {
		t.Error("a user without the group passed the credentials")
	}
}
