package cluster

import (
	"context"
	"time"

	transport "github.com/Jille/raft-grpc-transport"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

const (
	// appendTimeout bounds the delivery of entries; the transport has no
	// deadlines of its own.
	appendTimeout = 10 * time.Second
	// maxMessage holds maxEntriesPerMessage entries of MaxEntry bytes, and
	// what is around them; gRPC's own limit is 4 MiB.
	maxMessage = 2 * maxEntriesPerMessage * MaxEntry
	// raftService is the transport's gRPC service.
	raftService = "/RaftTransport/"
)

// GRPCTransport carries raft's messages over gRPC. It knows nothing of who may
// speak: the credentials in its dial options, and the interceptors of the
// server that it is registered with, must see to that, with SenderOf.
type GRPCTransport struct {
	noFastPath
	rpcs
	manager *transport.Manager
	ctx     context.Context // ends with Abort
	abort   context.CancelFunc
}

type rpcs interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

var _ Transport = (*GRPCTransport)(nil)

// NewGRPCTransport returns the transport of the node that cfg describes. The
// dial options must carry credentials; keepalive, back-off, limits and
// deadlines are set here.
func NewGRPCTransport(cfg Config, dial ...grpc.DialOption) *GRPCTransport {
	t := &GRPCTransport{}
	t.ctx, t.abort = context.WithCancel(context.Background())
	votes := max(cfg.Election, 100*time.Millisecond)
	options := []grpc.DialOption{
		// A peer that returns is reached within a second; gRPC's own back-off
		// grows to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithChainUnaryInterceptor(t.unary(votes)),
		grpc.WithChainStreamInterceptor(t.stream),
	}
	t.manager = transport.New(raft.ServerAddress(cfg.Address), append(options, dial...),
		// Without it a peer behind a black hole goes unnoticed for many seconds.
		transport.WithHeartbeatTimeout(cfg.Lease))
	t.rpcs = t.manager.Transport().(rpcs)
	return t
}

// ServerOptions are what a gRPC server needs to let the transport's keepalive
// and messages pass.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
	}
}

// Register offers the transport's service on s. Every call to it, unary and
// stream, must be authorised by s's interceptors: whoever reaches it can
// otherwise depose the leader.
func (t *GRPCTransport) Register(s grpc.ServiceRegistrar) { t.manager.Register(s) }

// SetHeartbeatHandler is that of noFastPath.
func (t *GRPCTransport) SetHeartbeatHandler(f func(raft.RPC)) { t.noFastPath.SetHeartbeatHandler(f) }

// Abort ends the calls that are under way, and every later one.
func (t *GRPCTransport) Abort() { t.abort() }

// Close aborts and closes the connections.
func (t *GRPCTransport) Close() error {
	t.abort()
	return t.rpcs.Close()
}

// unary gives each call a deadline and ends it with Abort.
func (t *GRPCTransport) unary(votes time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		limit := votes
		if method == raftService+"AppendEntries" {
			limit = appendTimeout
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		defer context.AfterFunc(t.ctx, cancel)()
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// stream ends a stream with Abort.
func (t *GRPCTransport) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	context.AfterFunc(s.Context(), func() {
		stop()
		cancel()
	})
	return s, nil
}
