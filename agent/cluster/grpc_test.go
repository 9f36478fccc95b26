package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"ferryman/agent/cluster"
)

// mutualTLS returns credentials that trust one certificate, their own.
func mutualTLS(t *testing.T) credentials.TransportCredentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
}

// host is a node with a disk and a port.
type host struct {
	id, dir, address string
	creds            credentials.TransportCredentials
	cfg              cluster.Config
	anonymous        *atomic.Int32 // messages that named no sender
	snapshots        *atomic.Int32 // streams that brought a snapshot

	machine *list
	node    *cluster.Node
	stores  cluster.Stores
	server  *grpc.Server
	served  chan error
	stop    context.CancelFunc
	led     chan error
}

func (h *host) start(t *testing.T) {
	t.Helper()
	listen := h.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
	cfg := h.cfg
	cfg.ID, cfg.Address = h.id, h.address
	transport := cluster.NewGRPCTransport(cfg, grpc.WithTransportCredentials(h.creds))
	h.server = grpc.NewServer(append(cluster.ServerOptions(), grpc.Creds(h.creds),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := h.authorise(req); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			return handle(srv, &watched{ServerStream: s, h: h})
		}))...)
	transport.Register(h.server)
	h.stores = onDisk(t, h.dir)
	h.machine = &list{}
	h.node, err = cluster.Open(cfg, h.machine, cluster.Deps{Transport: transport, Stores: h.stores})
	if err != nil {
		t.Fatal(err)
	}
	h.served, h.led = make(chan error, 1), make(chan error, 1)
	go func() { h.served <- h.server.Serve(l) }()
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() {
		h.led <- h.node.Lead(ctx, func(ctx context.Context, _ cluster.Leader) error {
			<-ctx.Done()
			return nil
		})
	}()
}

func (h *host) halt(t *testing.T) {
	t.Helper()
	if h.node == nil {
		return
	}
	h.stop()
	if err := <-h.led; err != nil {
		t.Errorf("%s: Lead: %v", h.id, err)
	}
	if err := h.node.Close(); err != nil {
		t.Errorf("%s: Close: %v", h.id, err)
	}
	h.server.Stop()
	if err := <-h.served; err != nil {
		t.Errorf("%s: Serve: %v", h.id, err)
	}
	if err := h.stores.Close(); err != nil {
		t.Errorf("%s: Stores: %v", h.id, err)
	}
	h.node = nil
}

func (h *host) authorise(req any) error {
	if _, _, ok := cluster.SenderOf(req); !ok {
		h.anonymous.Add(1)
		return status.Error(codes.PermissionDenied, "no sender")
	}
	return nil
}

// watched checks a stream as an authorising interceptor does.
type watched struct {
	grpc.ServerStream
	h        *host
	received int
}

func (w *watched) RecvMsg(m any) error {
	if err := w.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	w.received++
	if _, snapshot := m.(*pb.InstallSnapshotRequest); snapshot {
		if w.received > 1 {
			return nil // data
		}
		w.h.snapshots.Add(1)
	}
	return w.h.authorise(m)
}

// patient returns timings with which a busy machine does not cost the leader
// its place.
func patient() cluster.Config {
	cfg := cluster.NewConfig()
	cfg.Lease, cfg.Heartbeat, cfg.Election = 2*time.Second, 2*time.Second, 2*time.Second
	return cfg
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// The whole of it with real parts: TLS on loopback, and stores on disk.
func TestOverGRPC(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	creds := mutualTLS(t)
	cfg := patient()
	cfg.SnapshotThreshold, cfg.SnapshotInterval = 20, 50*time.Millisecond
	var anonymous, snapshots atomic.Int32
	var hosts []*host
	for i := range 3 {
		h := &host{id: fmt.Sprintf("n%d", i+1), dir: t.TempDir(), creds: creds, cfg: cfg, anonymous: &anonymous, snapshots: &snapshots}
		h.start(t)
		t.Cleanup(func() { h.halt(t) })
		hosts = append(hosts, h)
	}
	leader := func() (*host, cluster.Leader) {
		t.Helper()
		var at *host
		var l cluster.Leader
		eventually(t, "a leader", func() bool {
			for _, h := range hosts {
				if h.node == nil {
					continue
				}
				if found, ok := h.node.Leader(); ok {
					at, l = h, found
					return true
				}
			}
			return false
		})
		return at, l
	}

	first := hosts[0]
	if err := first.node.Bootstrap(cluster.Server{ID: first.id, Address: first.address}); err != nil {
		t.Fatal(err)
	}
	_, l := leader()
	for _, h := range hosts[1:] {
		index, err := l.AddNonvoter(ctx, h.id, h.address)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.node.WaitApplied(ctx, index); err != nil {
			t.Fatal(err)
		}
		if _, err := l.AddVoter(ctx, h.id); err != nil {
			t.Fatal(err)
		}
	}
	big := strings.Repeat("x", cluster.MaxEntry)
	for range 20 { // more than gRPC's own limit in one message, if it is to catch up
		if _, _, err := l.Propose(ctx, []byte(big)); err != nil {
			t.Fatal(err)
		}
	}

	// A restart from disk: nothing is lost, nothing is founded anew.
	again := hosts[1]
	again.halt(t)
	index, err := l.Barrier(ctx)
	if err != nil {
		t.Fatal(err)
	}
	again.start(t)
	if has, err := again.node.HasState(); err != nil || !has {
		t.Errorf("HasState after a restart: %v, %v", has, err)
	}
	if err := again.node.WaitApplied(ctx, index); err != nil {
		t.Fatal(err)
	}
	if got := again.machine.len(); got != 20 {
		t.Errorf("after a restart %d items, want 20", got)
	}

	// An empty disk in the place of the third, as a new node: the log is gone
	// from the leader by then, so it gets a snapshot.
	lost := hosts[2]
	lost.halt(t)
	if _, err := l.Remove(ctx, lost.id); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, _, err := l.Propose(ctx, fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the leader's log starts at a snapshot", func() bool {
		at, err := first.stores.Logs.FirstIndex()
		return err == nil && at > 20
	})
	lost.id, lost.dir = "n4", t.TempDir()
	lost.start(t)
	index, err = l.AddNonvoter(ctx, lost.id, lost.address)
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.node.WaitApplied(ctx, index); err != nil {
		t.Fatal(err)
	}
	if got := lost.machine.len(); got != 70 || snapshots.Load() == 0 {
		t.Errorf("the new node has %d items after %d snapshots; want 70 after at least one", got, snapshots.Load())
	}

	if err := l.Transfer(ctx, again.id); err != nil {
		t.Fatal(err)
	}
	at, l := leader()
	if at != again {
		t.Errorf("%s leads, want %s", at.id, again.id)
	}
	if _, _, err := l.Propose(ctx, []byte("y")); err != nil {
		t.Error(err)
	}
	if got := anonymous.Load(); got != 0 {
		t.Errorf("raft sent %d messages that name no sender", got)
	}
}

// A peer that takes connections and says nothing delays nobody: not a commit,
// and not the end of the node.
func TestSilentPeer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var anonymous, snapshots atomic.Int32
	h := &host{id: "n1", dir: t.TempDir(), creds: mutualTLS(t), cfg: patient(), anonymous: &anonymous, snapshots: &snapshots}
	h.start(t)
	if err := h.node.Bootstrap(cluster.Server{ID: h.id, Address: h.address}); err != nil {
		t.Fatal(err)
	}
	var leader cluster.Leader
	eventually(t, "a leader", func() (ok bool) { leader, ok = h.node.Leader(); return ok })
	if _, err := leader.AddNonvoter(t.Context(), "silent", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := leader.Propose(t.Context(), []byte("x")); err != nil {
		t.Error(err)
	}
	select {
	case <-h.node.Changes():
	case <-t.Context().Done():
	}
	h.halt(t)
}

func TestSenderOf(t *testing.T) {
	t.Parallel()
	header := &pb.RPCHeader{ProtocolVersion: 3, Id: []byte("n1"), Addr: []byte("h1:1")}
	tests := []struct {
		name string
		msg  any
		ok   bool
	}{
		{"append", &pb.AppendEntriesRequest{RpcHeader: header, Leader: []byte("h1:1")}, true},
		{"vote", &pb.RequestVoteRequest{RpcHeader: header, Candidate: []byte("h1:1")}, true},
		{"pre-vote", &pb.RequestPreVoteRequest{RpcHeader: header}, true},
		{"timeout now", &pb.TimeoutNowRequest{RpcHeader: header}, true},
		{"snapshot", &pb.InstallSnapshotRequest{RpcHeader: header, Leader: []byte("h1:1")}, true},
		{"snapshot's data", &pb.InstallSnapshotRequest{Data: []byte("x")}, false},
		{"no header", &pb.AppendEntriesRequest{Leader: []byte("h1:1")}, false},
		{"no id", &pb.TimeoutNowRequest{RpcHeader: &pb.RPCHeader{Addr: []byte("h1:1")}}, false},
		{"no address", &pb.TimeoutNowRequest{RpcHeader: &pb.RPCHeader{Id: []byte("n1")}}, false},
		{"two leaders", &pb.AppendEntriesRequest{RpcHeader: header, Leader: []byte("h2:1")}, false},
		{"two candidates", &pb.RequestVoteRequest{RpcHeader: header, Candidate: []byte("h2:1")}, false},
		{"an entry that panics", &pb.AppendEntriesRequest{RpcHeader: header, Entries: []*pb.Log{{Type: 99}}}, false},
		{"an answer", &pb.TimeoutNowResponse{RpcHeader: header}, false},
		{"something else", errors.New("x"), false},
		{"nothing", nil, false},
	}
	for _, test := range tests {
		id, address, ok := cluster.SenderOf(test.msg)
		if ok != test.ok || (ok && (id != "n1" || address != "h1:1")) {
			t.Errorf("%s: %q, %q, %v; want %v", test.name, id, address, ok, test.ok)
		}
	}
}
