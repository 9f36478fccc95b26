package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent"
	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
	"ferryman/agent/runner"
	fakedb "ferryman/dbhooks/fake"
	"ferryman/demo/port"
	fakeunits "ferryman/systemd/fake"
	fakestore "ferryman/upgrade/install/fake"
)

// wired is an agent on the real network and the real disk, with a database in
// memory.
type wired struct {
	cfg    config.Config
	cancel context.CancelFunc
	done   chan error
}

func startWired(t testing.TB, db *fakedb.Cluster, doc string, name, join string, prepare func(config.Config)) *wired {
	t.Helper()
	// A unix socket's path must be short.
	dir, err := os.MkdirTemp("", "fm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Address = name, port.Free()
	cfg.Node.Listen = cfg.Node.Address
	cfg.DataDir, cfg.TLS.Dir, cfg.ControlSocket = dir, filepath.Join(dir, "tls"), filepath.Join(dir, "sock")
	cfg.Source.File = doc
	if join != "" {
		cfg.Join = []string{join}
		cfg.JoinTokenFile = filepath.Join(dir, "token")
	}
	prepare(cfg)
	units := fakeunits.New()
	engine := db.Engine(name + ":5000")
	units.Install("db", engine)
	a, err := agent.New(cfg, agent.Deps{
		Version:  "0.1.0",
		Services: []runner.Service{{Service: ferryman.Service{Slot: "db", Engine: "fake", Address: name + ":5000"}, Engine: engine, Unit: "db"}},
		Units:    units,
		Releases: &fakestore.Store{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &wired{cfg: cfg, cancel: cancel, done: make(chan error, 1)}
	go func() { w.done <- a.Run(ctx) }()
	t.Cleanup(func() { w.stop(t) })
	return w
}

func (w *wired) stop(t testing.TB) {
	w.cancel()
	if err, ok := <-w.done; ok {
		close(w.done)
		if err != nil {
			t.Errorf("%s: %v", w.cfg.Node.Name, err)
		}
	}
}

// wait repeats f until it succeeds; the test's own deadline is the limit.
func wait(t testing.TB, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// startThree starts three agents on loopback: one founds the cluster, the others
// come with a join token each; certificates, disks, sockets and gRPC are real.
func startThree(t testing.TB) (agents []*wired, socket *rpc.ControlClient, formed ferryman.Report) {
	t.Helper()
	db := fakedb.NewCluster()
	doc := filepath.Join(t.TempDir(), "desired.yaml")
	if err := os.WriteFile(doc, []byte(document(3, 1, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	first := startWired(t, db, doc, "w1", "", func(cfg config.Config) {
		ca, err := identity.CreateCA(clusterID)
		if err != nil {
			t.Fatal(err)
		}
		req, key, err := identity.NewRequest("w1")
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Sign("w1", req, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(ca.Save(cfg.TLS.Dir), identity.WriteNode(cfg.TLS.Dir, ca.CertPEM(), cert, key),
			cluster.WriteMarker(cfg.DataDir, cluster.Marker{Cluster: "orders"})); err != nil {
			t.Fatal(err)
		}
	})
	socket, err := rpc.DialControl(first.cfg.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	agents = []*wired{first}
	for _, name := range []string{"w2", "w3"} {
		var token string
		wait(t, "a join token", func(ctx context.Context) (err error) {
			token, err = socket.Token(ctx, rpc.TokenRequest{TTL: ferryman.Duration(time.Hour)})
			return err
		})
		agents = append(agents, startWired(t, db, doc, name, first.cfg.Node.Address, func(cfg config.Config) {
			if err := os.WriteFile(cfg.JoinTokenFile, []byte(token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}))
	}
	wait(t, "one cluster", func(ctx context.Context) error {
		r, err := socket.Report(ctx)
		if err == nil && !settled(3)(r) {
			err = fmt.Errorf("not settled: %s", describe(r, true))
		}
		formed = r
		return err
	})
	return agents, socket, formed
}

func TestAgentsOnTheWire(t *testing.T) {
	t.Parallel()
	agents, _, formed := startThree(t)

	// Any agent answers the person on its host, and forwards to the leader.
	last, err := rpc.DialControl(agents[2].cfg.ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if err := last.Request(context.Background(), ferryman.Request{Kind: ferryman.RequestPause, Reason: "tried"}); err != nil {
		t.Errorf("pause by way of a follower: %v", err)
	}
	wait(t, "the pause", func(ctx context.Context) error {
		local, err := last.Local(ctx)
		if err == nil && local.State.Paused == nil {
			err = errors.New("the follower's own state does not hold it")
		}
		return err
	})

	// The founder stops; the others go on without it.
	agents[0].stop(t)
	wait(t, "another leader", func(ctx context.Context) error {
		r, err := last.Report(ctx)
		if err == nil && r.View.Term <= formed.View.Term {
			err = fmt.Errorf("term %d", r.View.Term)
		}
		if err == nil && r.State.Paused == nil {
			t.Error("the pause was forgotten")
		}
		return err
	})
}

// BenchmarkIdle is what agents that have nothing to do cost: each iteration is a
// second of three of them.
func BenchmarkIdle(b *testing.B) {
	startThree(b)
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	took := time.Since(began)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(100*used.Seconds()/took.Seconds()/3, "%core/agent")
}
