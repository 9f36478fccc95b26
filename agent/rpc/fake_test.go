package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
)

// backend is a node behind the peer port and the control socket. Its function
// fields stand in for answers; every call is counted.
type backend struct {
	join    func(context.Context, rpc.JoinRequest) (rpc.JoinReply, error)
	enroll  func(context.Context, rpc.EnrollRequest) (rpc.EnrollReply, error)
	request func(context.Context, ferryman.Request) error
	runStep func(context.Context, rpc.StepRef) (ferryman.Outcome, error)

	mu      sync.Mutex
	calls   int
	polled  chan struct{} // if set, told of each look at the status
	seq     uint64
	changed chan struct{}
	stopped []rpc.StopRequest
}

func newBackend() *backend { return &backend{seq: 1, changed: make(chan struct{})} }

func (b *backend) called() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

func (b *backend) change() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *backend) Status() (ferryman.NodeStatus, <-chan struct{}) {
	b.called()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.polled != nil {
		b.polled <- struct{}{}
	}
	return ferryman.NodeStatus{Seq: b.seq, Name: "n1"}, b.changed
}

func (b *backend) Renew(context.Context, rpc.RenewRequest) (rpc.RenewReply, error) {
	return rpc.RenewReply{Length: ferryman.MinLeaseTTL}, nil
}

func (b *backend) RunStep(ctx context.Context, ref rpc.StepRef) (ferryman.Outcome, error) {
	b.called()
	if b.runStep != nil {
		return b.runStep(ctx, ref)
	}
	return ferryman.Outcome{Step: ref.Step, Status: ferryman.StatusRunning}, nil
}

func (b *backend) Join(ctx context.Context, req rpc.JoinRequest) (rpc.JoinReply, error) {
	b.called()
	if b.join != nil {
		return b.join(ctx, req)
	}
	return rpc.JoinReply{Cluster: "orders"}, nil
}

func (b *backend) Enroll(ctx context.Context, req rpc.EnrollRequest) (rpc.EnrollReply, error) {
	b.called()
	if b.enroll != nil {
		return b.enroll(ctx, req)
	}
	return rpc.EnrollReply{}, ferryman.ErrUnavailable
}

func (b *backend) Report(context.Context) (ferryman.Report, error) {
	b.called()
	return ferryman.Report{State: ferryman.State{Cluster: "orders"}}, nil
}

func (b *backend) Request(ctx context.Context, r ferryman.Request) error {
	b.called()
	if b.request != nil {
		return b.request(ctx, r)
	}
	return nil
}

func (b *backend) LeaderWithID(context.Context) (rpc.Node, error) {
	b.called()
	return rpc.Node{ID: "id1", Name: "n1", Address: "a:1"}, nil
}

func (b *backend) AddVoter(context.Context, ferryman.NodeID) error     { b.called(); return nil }
func (b *backend) DemoteVoter(context.Context, ferryman.NodeID) error  { b.called(); return nil }
func (b *backend) RemoveServer(context.Context, ferryman.NodeID) error { b.called(); return nil }

func (b *backend) Local(context.Context) (rpc.LocalReport, error) {
	b.called()
	return rpc.LocalReport{Status: ferryman.NodeStatus{Name: "n1"}}, nil
}

func (b *backend) Token(_ context.Context, req rpc.TokenRequest) (string, error) {
	b.called()
	return "token for " + req.TTL.String(), nil
}

func (b *backend) Debug(context.Context) (rpc.DebugReport, error) {
	return rpc.DebugReport{Raft: map[string]string{"term": "7"}, Goroutines: "goroutine 1"}, nil
}

func (b *backend) Stop(_ context.Context, req rpc.StopRequest) error {
	b.called()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = append(b.stopped, req)
	return nil
}

// membership is a table of members; a Raft message of these tests is a struct
// with the sender in it.
type membership struct {
	mu      sync.Mutex
	members map[string]rpc.Node
}

func (m *membership) set(nodes ...rpc.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = make(map[string]rpc.Node)
	for _, n := range nodes {
		m.members[n.Name] = n
	}
}

func (m *membership) MemberByName(name string) (id, address string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.members[name]
	return string(n.ID), n.Address, ok
}

func (*membership) SenderOf(message any) (id, address string, ok bool) {
	s, _ := message.(*structpb.Struct)
	if s == nil || s.Fields["id"] == nil {
		return "", "", false
	}
	return s.Fields["id"].GetStringValue(), s.Fields["address"].GetStringValue(), true
}

func raftMessage(id, address string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"id": structpb.NewStringValue(id), "address": structpb.NewStringValue(address),
	}}
}

// raftService has the names and the shapes of Raft's transport, and remembers
// what reached it.
type raftService struct {
	mu   sync.Mutex
	seen []*structpb.Struct
}

func (r *raftService) saw(m *structpb.Struct) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, m)
}

func (r *raftService) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func (r *raftService) register(reg grpc.ServiceRegistrar) {
	unary := func(name string) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			m := new(structpb.Struct)
			if err := decode(m); err != nil {
				return nil, err
			}
			return intercept(ctx, m, &grpc.UnaryServerInfo{FullMethod: "/RaftTransport/" + name}, func(_ context.Context, m any) (any, error) {
				r.saw(m.(*structpb.Struct))
				return new(structpb.Struct), nil
			})
		}}
	}
	echo := func(_ any, s grpc.ServerStream) error {
		for {
			m := new(structpb.Struct)
			if err := s.RecvMsg(m); err != nil {
				return err
			}
			r.saw(m)
			if err := s.SendMsg(new(structpb.Struct)); err != nil {
				return err
			}
		}
	}
	reg.RegisterService(&grpc.ServiceDesc{
		ServiceName: "RaftTransport",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{unary("AppendEntries"), unary("RequestVote"), unary("RequestPreVote"), unary("TimeoutNow")},
		Streams: []grpc.StreamDesc{
			{StreamName: "AppendEntriesPipeline", Handler: echo, ServerStreams: true, ClientStreams: true},
			{StreamName: "InstallSnapshot", Handler: echo, ServerStreams: true, ClientStreams: true},
		},
	}, r)
}

// world is one served node, n1 of the cluster "orders", and what it knows.
type world struct {
	ca         *identity.CA
	backend    *backend
	raft       *raftService
	membership *membership
	members    *rpc.Members
	address    string
	server     *rpc.Server
	info       map[string]grpc.ServiceInfo
	stop       func() error // ends the server and says how it ended
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := identity.CreateCA("orders")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ca: ca, backend: newBackend(), raft: new(raftService), membership: new(membership)}
	w.members = rpc.NewMembers(w.membership)
	w.membership.set(rpc.Node{ID: "id1", Name: "n1", Address: "a:1"}, rpc.Node{ID: "id2", Name: "n2", Address: "a:2"})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = ln.Addr().String()
	w.server = rpc.NewPeerServer(w.node(t, "n1"), w.backend, w.members, slog.New(slog.DiscardHandler), w.raft.register,
		func(r grpc.ServiceRegistrar) { w.info = r.(*grpc.Server).GetServiceInfo() })
	w.stop = run(t, w.server, ln)
	return w
}

// run serves until the test ends, or until the function it returns is called.
func run(t *testing.T, server *rpc.Server, ln net.Listener) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, ln) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return stop
}

func (w *world) node(t *testing.T, name string) *identity.Identity {
	t.Helper()
	return nodeOf(t, w.ca, name, time.Hour)
}

func nodeOf(t *testing.T, ca *identity.CA, name string, ttl time.Duration) *identity.Identity {
	t.Helper()
	dir := t.TempDir()
	writeNode(t, ca, dir, name, ttl)
	id, err := identity.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func writeNode(t *testing.T, ca *identity.CA, dir, name string, ttl time.Duration) {
	t.Helper()
	req, key, err := identity.NewRequest(name)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(name, req, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteNode(dir, ca.CertPEM(), cert, key); err != nil {
		t.Fatal(err)
	}
}

// client is a client of n1 for the node with this identity.
func (w *world) client(t *testing.T, id *identity.Identity) *rpc.PeerClient {
	t.Helper()
	clients := rpc.NewClients(id)
	t.Cleanup(clients.Close)
	c, err := clients.Peer("n1", w.address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dial is a bare connection to n1, as Raft's transport makes it.
func (w *world) dial(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+w.address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func anyNode(string, identity.Peer) error { return nil }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// everyMethod makes one call to each method of n1 and returns the errors.
func (w *world) everyMethod(t *testing.T, conn *grpc.ClientConn) map[string]error {
	t.Helper()
	ctx := testContext(t)
	errs := make(map[string]error)
	for service, info := range w.info {
		for _, m := range info.Methods {
			full := fmt.Sprintf("/%s/%s", service, m.Name)
			var in, out any = struct{}{}, &struct{}{}
			if service == "RaftTransport" {
				in, out = raftMessage("id2", "a:2"), new(structpb.Struct)
			}
			codec := grpc.ForceCodecV2(rpc.NewCodec())
			if !m.IsClientStream {
				errs[full] = rpc.FromStatus(conn.Invoke(ctx, full, in, out, codec))
				continue
			}
			s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, full, codec)
			if err == nil {
				err = errors.Join(ignoreEOF(s.SendMsg(in)), s.RecvMsg(out))
			}
			errs[full] = rpc.FromStatus(err)
		}
	}
	if len(errs) < 16 {
		t.Fatalf("only %d methods were tried", len(errs))
	}
	return errs
}

// ignoreEOF: a send on a stream that has ended says EOF; the receive says why.
func ignoreEOF(err error) error {
	if err != nil && err.Error() == "EOF" {
		return nil
	}
	return err
}
