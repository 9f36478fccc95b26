package agent

import (
	"context"
	"io"
	"log/slog"
	"time"

	"ferryman"
	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/identity"
	"ferryman/agent/lease"
	"ferryman/agent/reconcile"
	"ferryman/agent/rpc"
	"ferryman/agent/runner"
	"ferryman/agent/source"
)

// Deps is what an agent is made of, beside its configuration. Everything but
// Log and Version may be left out: the agent then takes the real thing.
type Deps struct {
	Log *slog.Logger
	// Version is that of this build.
	Version string
	// Ready is called once the agent serves.
	Ready func()

	// Network joins the agents; the real one is gRPC over mutual TLS.
	Network func(cfg config.Config, id *identity.Identity, members *rpc.Members, log *slog.Logger) (Network, error)
	// Stores hold Raft's log and snapshots; the real ones are in the data directory.
	Stores *cluster.Stores
	// Raft changes how fast Raft reacts.
	Raft func(cluster.Config) cluster.Config
	// Source and Hosts are the control API, or a file; as configured if nil.
	Source source.Source
	Hosts  reconcile.Hosts
	// Services, Units and Releases are the database on this node. They come
	// together: with Units nil, all are made from the configuration.
	Services []runner.Service
	Units    runner.Units
	Releases runner.Store
	// Guard ends the database when its lease does; the real one is a process of
	// its own. With Units it must be given.
	Guard Guard
	// Clock is CLOCK_BOOTTIME.
	Clock func() time.Duration
	// Journal is the runner's; the real one is in the data directory.
	Journal runner.File
	// Rand makes ids; crypto/rand if nil.
	Rand io.Reader
}

// Network carries what agents say to each other.
type Network interface {
	// Transport carries Raft's messages. Raft closes it.
	Transport(cfg cluster.Config) cluster.Transport
	// Peer calls the node of this name at this address; an empty name is any
	// node of the cluster.
	Peer(name, address string) (Peer, error)
	// Serve answers the others' calls until ctx ends, Raft's among them.
	Serve(ctx context.Context, backend rpc.Peer) error
	// Keep drops connections to places that are not wanted any more.
	Keep(keep func(rpc.Place) bool)
	// Close ends all connections. It is called after Serve returned.
	Close() error
}

// Guard ends the database of this node when its lease is over.
type Guard interface {
	lease.Guard
	// Quit ends the guard, whatever else it does: this node has left its cluster
	// and its database is down.
	Quit(ctx context.Context) error
}

// Peer is another agent as this one calls it; *rpc.PeerClient is one.
type Peer interface {
	rpc.Cluster
	Status(ctx context.Context, since uint64, wait time.Duration) (ferryman.NodeStatus, error)
	RunStep(ctx context.Context, ref rpc.StepRef) (ferryman.Outcome, error)
	Renew(ctx context.Context, req rpc.RenewRequest) (rpc.RenewReply, error)
	Join(ctx context.Context, req rpc.JoinRequest) (rpc.JoinReply, error)
	Enroll(ctx context.Context, req rpc.EnrollRequest) (rpc.EnrollReply, error)
}
