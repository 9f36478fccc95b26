package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"ferryman/agent/identity"
)

const (
	// maxMessage limits a message in both directions. gRPC's own 4 MiB are too
	// few for Raft's batches.
	maxMessage = 16 << 20
	// stopWithin is how long calls may go on after Run was told to end, linger
	// how long the last answers have to leave where streams stay open.
	stopWithin = 5 * time.Second
	linger     = 100 * time.Millisecond

	// A dead connection is noticed after keepaliveTime and keepaliveTimeout;
	// both ends look.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 2 * time.Second
	keepaliveMin     = 5 * time.Second
)

// Server serves one of the two services.
type Server struct {
	grpc     *grpc.Server
	stopping chan struct{}
	stopOnce sync.Once
	calls    calls
	within   time.Duration // stopWithin, but in tests
}

// NewPeerServer makes the server of the peer port. Others may register beside
// it (Raft's transport); their calls pass the same authorisation.
func NewPeerServer(id *identity.Identity, backend Peer, authorizer Authorizer, log *slog.Logger, others ...func(grpc.ServiceRegistrar)) *Server {
	g := gate{authorizer}
	s := newServer(g.unary, grpc.Creds(newServerCreds(id, log)), grpc.StreamInterceptor(g.stream))
	registerPeer(s.grpc, backend, s.stopping)
	for _, register := range others {
		register(s.grpc)
	}
	return s
}

func newServer(intercept grpc.UnaryServerInterceptor, options ...grpc.ServerOption) *Server {
	s := &Server{stopping: make(chan struct{}), within: stopWithin}
	s.grpc = grpc.NewServer(append(options,
		grpc.ForceServerCodecV2(newCodec()),
		grpc.ChainUnaryInterceptor(s.calls.count, intercept),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxHeaderListSize(64<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMin, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)...)
	return s
}

// Run serves until ctx ends. Then it takes no new calls, answers the long polls,
// gives the other calls a few seconds, and ends what is left. Raft must be shut
// down before: its handlers wait for it.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(ln) }()
	select {
	case err := <-served:
		s.stop()
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
		s.stop()
		<-served
		return nil
	}
}

func (s *Server) stop() {
	s.stopOnce.Do(func() { close(s.stopping) })
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	// Streams are not waited for: a leader keeps its pipeline to us open for as
	// long as it leads.
	deadline := time.NewTimer(s.within)
	defer deadline.Stop()
	select {
	case <-graceful:
	case <-deadline.C:
	case <-s.calls.idle():
		deadline.Reset(linger)
		select {
		case <-graceful:
		case <-deadline.C:
		}
	}
	s.grpc.Stop()
	<-graceful
}

// calls counts the unary calls that are under way.
type calls struct {
	mu      sync.Mutex
	open    int
	waiting chan struct{} // closed when open is zero; nil if nobody waits
}

func (c *calls) count(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c.add(1)
	defer c.add(-1)
	return handler(ctx, req)
}

func (c *calls) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	c.wake()
}

func (c *calls) idle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = make(chan struct{})
	idle := c.waiting
	c.wake()
	return idle
}

func (c *calls) wake() {
	if c.open == 0 && c.waiting != nil {
		close(c.waiting)
		c.waiting = nil
	}
}
