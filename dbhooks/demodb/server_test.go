package demodb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/dbhooks/demodb"
)

// serve runs a demodb in this process and returns its address, its engine, and what ends it and tells its error.
func serve(t *testing.T, release demodb.Release) (*demodb.Engine, string, func() error) {
	t.Helper()
	if release.Version == "" {
		release.Version = demodb.DefaultVersion
	}
	ctx, cancel := context.WithCancel(context.Background())
	addr, ended := make(chan string, 1), make(chan error, 1)
	cfg := demodb.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Release: release, SyncReplicas: 1, Log: slog.New(slog.DiscardHandler)}
	go func() { ended <- demodb.Serve(ctx, cfg, func(a net.Addr) { addr <- a.String() }) }()
	stop := func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { stop() })
	select {
	case a := <-addr:
		e := demodb.New(dbhooks.Config{Address: a, Dir: cfg.Dir})
		t.Cleanup(func() { e.Close() })
		return e, a, stop
	case err := <-ended:
		t.Fatalf("serve: %v", err)
		return nil, "", nil
	}
}

func do(t *testing.T, e *demodb.Engine, op ferryman.Op, args ferryman.Args) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := e.Do(ctx, op, args); err != nil {
		t.Fatalf("%s: %v", op, err)
	}
}

func primary(t *testing.T) (*demodb.Engine, string) {
	t.Helper()
	e, addr, _ := serve(t, demodb.Release{})
	do(t, e, ferryman.OpInitialise, ferryman.Args{})
	do(t, e, ferryman.OpPromote, ferryman.Args{Epoch: 1})
	return e, addr
}

func TestAloneAPrimaryWaitsOrNot(t *testing.T) {
	t.Parallel()
	e, addr := primary(t)
	c := demodb.Dial(addr)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Put(ctx, "a", "1"); !errors.Is(err, demodb.ErrUnknown) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("syncReplicas 1, no replica: got %v, want no acknowledgement", err)
	}
	do(t, e, ferryman.OpConfigure, ferryman.Args{Parameters: map[string]string{"syncReplicas": "0"}})
	if err := c.Put(t.Context(), "b", "1"); err != nil {
		t.Errorf("syncReplicas 0: %v", err)
	}
}

func TestSyncReplicasAreThoseInForce(t *testing.T) {
	t.Parallel()
	e, _ := primary(t)
	for _, want := range []int{1, 0} {
		do(t, e, ferryman.OpConfigure, ferryman.Args{Parameters: map[string]string{"syncReplicas": fmt.Sprint(want)}})
		if in, err := e.Status(t.Context()); err != nil || in.SyncReplicas != want {
			t.Errorf("status: got %+v, %v; want %d sync replicas", in, err, want)
		}
	}
}

func TestOperationDoesNotConnectAgain(t *testing.T) {
	t.Parallel()
	_, addr, stop := serve(t, demodb.Release{})
	c, err := demodb.Bind(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("a request to the process that was found: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	next, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for range 2 {
		if _, err := c.Status(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("a request after that process ended: got %v, want an error at once", err)
		}
	}
	if err := next.(*net.TCPListener).SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if conn, err := next.Accept(); err == nil {
		t.Errorf("the next process got a connection from %s, want none", conn.RemoteAddr())
	}
}

func TestFenceRefusesWhatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	e, addr := primary(t)
	c := demodb.Dial(addr)
	defer c.Close()
	before, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	outcome := make(chan error, 1)
	go func() { outcome <- c.Put(t.Context(), "a", "1") }() // no replica: it waits in the log
	do(t, e, ferryman.OpVerify, ferryman.Args{History: before.History, Position: before.Position + 1})
	do(t, e, ferryman.OpFence, ferryman.Args{Epoch: 1})
	if err := <-outcome; !errors.Is(err, demodb.ErrUnknown) {
		t.Errorf("a write in flight: got %v, want %v", err, demodb.ErrUnknown)
	}
	var not *demodb.NotPrimaryError
	if err := c.Put(t.Context(), "a", "1"); !errors.As(err, &not) {
		t.Errorf("a write after the fence: got %v, want a NotPrimaryError", err)
	}
}

func TestWriterFindsThePrimary(t *testing.T) {
	t.Parallel()
	_, first := primary(t)
	replica, second, _ := serve(t, demodb.Release{})
	from := ferryman.Args{Epoch: 1, From: first}
	do(t, replica, ferryman.OpClone, from)
	do(t, replica, ferryman.OpFollow, from)
	w := demodb.NewWriter(func() []string { return []string{second, first} })
	defer w.Close()
	at, err := w.Put(t.Context(), "a", "1")
	if err != nil || at != first {
		t.Errorf("put: got %q, %v; want %q", at, err, first)
	}
	c := demodb.Dial(second)
	defer c.Close()
	var not *demodb.NotPrimaryError
	if err := c.Put(t.Context(), "a", "1"); !errors.As(err, &not) || not.Primary != first {
		t.Errorf("a write to a replica: got %v, want it to name %s", err, first)
	}
}

func TestFaultSlowCatchUp(t *testing.T) {
	t.Parallel()
	_, first := primary(t)
	slow, _, _ := serve(t, demodb.Release{Faults: demodb.Faults{SlowCatchUp: ferryman.Duration(time.Hour)}})
	do(t, slow, ferryman.OpClone, ferryman.Args{From: first})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := slow.Do(ctx, ferryman.OpFollow, ferryman.Args{Epoch: 1, From: first}); err == nil {
		t.Error("follow of one that catches up in an hour: got nil")
	}
	if in, err := slow.Status(t.Context()); err != nil || in.Healthy || in.Streaming || in.Reason == "" {
		t.Errorf("status: got %+v, %v; want it not healthy, with a reason", in, err)
	}
}

func TestFaultLieHealthy(t *testing.T) {
	t.Parallel()
	e, first := primary(t)
	liar, _, _ := serve(t, demodb.Release{Faults: demodb.Faults{LieHealthy: true}})
	do(t, liar, ferryman.OpClone, ferryman.Args{From: first})
	do(t, liar, ferryman.OpFollow, ferryman.Args{Epoch: 1, From: first})
	do(t, e, ferryman.OpConfigure, ferryman.Args{Parameters: map[string]string{"syncReplicas": "0"}})
	c := demodb.Dial(first)
	defer c.Close()
	if err := c.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	truth, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, err := liar.Status(t.Context())
	if err != nil || !in.Healthy || in.Lag != 0 || in.Position >= truth.Position {
		t.Errorf("status: got %+v, %v; want it healthy, without lag, and behind position %d", in, err, truth.Position)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := liar.Do(ctx, ferryman.OpVerify, ferryman.Args{History: truth.History, Position: truth.Position}); err == nil {
		t.Error("verify believed it")
	}
}

func TestFaultHang(t *testing.T) {
	t.Parallel()
	e, _, stop := serve(t, demodb.Release{Faults: demodb.Faults{Hang: true}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if in, err := e.Status(ctx); err != nil || !in.Running || in.Healthy {
		t.Errorf("status: got %+v, %v; want it running and not healthy", in, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestFaultsThatEndTheProcess(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault string
		code  int
		say   string
	}{{"noStart", 1, "does not start"}, {"crashAfter=1ms", 3, "crashing"}, {"nonsense", 2, "unknown fault"}, {"crashAfter=soon", 2, "not a duration"}}
	for _, test := range tests {
		var stderr bytes.Buffer
		got := demodb.Main(t.Context(), []string{"serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--fault", test.fault}, &stderr, &stderr)
		if got != test.code || !strings.Contains(stderr.String(), test.say) {
			t.Errorf("%s: got exit code %d and %q; want %d and %q", test.fault, got, &stderr, test.code, test.say)
		}
	}
}

func TestOneProcessADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := demodb.Config{Dir: dir, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- demodb.Serve(ctx, cfg, func(net.Addr) { close(ready) }) }()
	<-ready
	if err := demodb.Serve(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second process: got %v, want it refused", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestArchiveIsDeterministicAndComplete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	release := demodb.Release{Version: "1.1.0", Faults: demodb.Faults{CrashAfter: ferryman.Duration(3 * time.Second)}}
	var archives []ferryman.Archive
	for i := range 2 {
		a, err := release.WriteArchive(filepath.Join(dir, fmt.Sprint(i)), program)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, a)
	}
	if archives[0].SHA256 != archives[1].SHA256 || archives[0].Size == 0 || len(archives[0].SHA256) != 64 {
		t.Errorf("got %+v; want the same digest and a size", archives)
	}
	if info, err := os.Stat(filepath.Join(dir, "0")); err != nil || info.Size() != archives[0].Size {
		t.Errorf("size: got %v, %v; want %d", info, err, archives[0].Size)
	}
	home := filepath.Join(dir, "home")
	unpack(t, filepath.Join(dir, "0"), home)
	if got, err := demodb.ReadRelease(home); err != nil || got != release {
		t.Errorf("release.json: got %+v, %v; want %+v", got, err, release)
	}
	if info, err := os.Stat(filepath.Join(home, "bin", "demodb")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("bin/demodb: got %v, %v; want it executable", info, err)
	}
}
