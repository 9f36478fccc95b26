package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc"

	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
)

// wire is the real Network: one port, gRPC over mutual TLS, Raft's messages and
// our own side by side.
type wire struct {
	id        *identity.Identity
	members   *rpc.Members
	clients   *rpc.Clients
	listener  net.Listener
	transport *cluster.GRPCTransport
	log       *slog.Logger
}

func newWire(cfg config.Config, id *identity.Identity, members *rpc.Members, log *slog.Logger) (Network, error) {
	ln, err := net.Listen("tcp", cfg.Node.Listen)
	if err != nil {
		return nil, fmt.Errorf("node.listen: %w", err)
	}
	return &wire{id: id, members: members, clients: rpc.NewClients(id), listener: ln, log: log}, nil
}

// Transport implements Network.
func (w *wire) Transport(cfg cluster.Config) cluster.Transport {
	w.transport = cluster.NewGRPCTransport(cfg, rpc.DialOptions(w.id, w.members.ExpectAt)...)
	return w.transport
}

// Peer implements Network.
func (w *wire) Peer(name, address string) (Peer, error) { return w.clients.Peer(name, address) }

// Serve implements Network.
func (w *wire) Serve(ctx context.Context, backend rpc.Peer) error {
	server := rpc.NewPeerServer(w.id, backend, w.members, w.log, func(r grpc.ServiceRegistrar) { w.transport.Register(r) })
	return server.Run(ctx, w.listener)
}

// Keep implements Network.
func (w *wire) Keep(keep func(rpc.Place) bool) { w.clients.Keep(keep) }

// Close implements Network.
func (w *wire) Close() error {
	w.clients.Close()
	_ = w.listener.Close() // the server has closed it, if it ran
	return nil
}
