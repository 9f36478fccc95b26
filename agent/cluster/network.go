package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// memoryTimeout is how long a call in memory waits for its answer.
const memoryTimeout = 500 * time.Millisecond

// Network joins nodes in one process, for tests in virtual time: links can be
// cut, each direction for itself, and lose messages. What is cut or lost looks
// like a silent peer: the caller waits until its time is over. A node that was
// closed refuses at once, as a host without the process does.
type Network struct {
	mu    sync.Mutex
	rng   *rand.Rand
	nodes map[string]*MemoryTransport
	cut   map[link]bool
	loss  float64
	lost  int
	held  int
}

type link struct{ from, to string }

// NewNetwork returns a network without faults that draws the messages to lose
// from rng. It may be nil if none are to be lost.
func NewNetwork(rng *rand.Rand) *Network {
	return &Network{rng: rng, nodes: map[string]*MemoryTransport{}, cut: map[link]bool{}}
}

// Transport puts a node on the network, in the place of one that was there.
func (n *Network) Transport(address string) *MemoryTransport {
	t := &MemoryTransport{
		network: n,
		address: address,
		inbox:   make(chan raft.RPC, 16),
		aborted: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[address] = t
	return t
}

// Cut stops what goes from one address to another, in this direction only.
func (n *Network) Cut(from, to string) { n.set(from, to, true) }

// Heal undoes Cut.
func (n *Network) Heal(from, to string) { n.set(from, to, false) }

func (n *Network) set(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link{from, to}] = cut
}

// Isolate cuts both directions between one address and all that are on the
// network now.
func (n *Network) Isolate(address string) { n.setAll(address, true) }

// Rejoin undoes Isolate.
func (n *Network) Rejoin(address string) { n.setAll(address, false) }

func (n *Network) setAll(address string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.nodes {
		if other != address {
			n.cut[link{address, other}] = cut
			n.cut[link{other, address}] = cut
		}
	}
}

// Lose drops each message with probability p.
func (n *Network) Lose(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = p
}

// Faults says how many messages were lost by chance, and held by a cut.
func (n *Network) Faults() (lost, cut int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost, n.held
}

// Pass reports whether one message from one address to another gets through
// now. Other traffic of the same nodes asks it as well, once for the request
// and once for the answer, so that a cut link is cut for everything.
func (n *Network) Pass(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[link{from, to}] {
		n.held++
		return false
	}
	if n.loss > 0 && n.rng.Float64() < n.loss {
		n.lost++
		return false
	}
	return true
}

func (n *Network) node(address string) (*MemoryTransport, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, ok := n.nodes[address]
	return t, ok
}

func (n *Network) leave(t *MemoryTransport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes[t.address] == t {
		delete(n.nodes, t.address)
	}
}

// MemoryTransport is one node's end of a Network.
type MemoryTransport struct {
	noFastPath
	network *Network
	address string
	inbox   chan raft.RPC

	abortOnce, closeOnce sync.Once
	aborted, closed      chan struct{}
}

var _ Transport = (*MemoryTransport)(nil)

var (
	errRefused = errors.New("connection refused")
	errSilent  = errors.New("no answer in time")
)

// Consumer is where raft takes what came in.
func (t *MemoryTransport) Consumer() <-chan raft.RPC { return t.inbox }

// LocalAddr is the node's address.
func (t *MemoryTransport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.address) }

// Abort ends what is under way.
func (t *MemoryTransport) Abort() { t.abortOnce.Do(func() { close(t.aborted) }) }

// Close takes the node off the network.
func (t *MemoryTransport) Close() error {
	t.Abort()
	t.closeOnce.Do(func() {
		t.network.leave(t)
		close(t.closed)
	})
	return nil
}

// AppendEntriesPipeline is not offered: raft then sends entry by entry, and
// every message passes the same faults.
func (t *MemoryTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries carries raft's message.
func (t *MemoryTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return send(t, to, req, nil, resp)
}

// RequestVote carries raft's message.
func (t *MemoryTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return send(t, to, req, nil, resp)
}

// RequestPreVote carries raft's message.
func (t *MemoryTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return send(t, to, req, nil, resp)
}

// TimeoutNow carries raft's message.
func (t *MemoryTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return send(t, to, req, nil, resp)
}

// InstallSnapshot carries raft's message.
func (t *MemoryTransport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return send(t, to, req, data, resp)
}

// EncodePeer is the address.
func (t *MemoryTransport) EncodePeer(_ raft.ServerID, address raft.ServerAddress) []byte {
	return []byte(address)
}

// DecodePeer undoes EncodePeer.
func (t *MemoryTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// send delivers one request and its answer, unless the network is in the way.
func send[R any](t *MemoryTransport, to raft.ServerAddress, req any, data io.Reader, resp *R) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), memoryTimeout, errSilent)
	defer cancel()
	answer, err := t.exchange(ctx, string(to), req, data)
	if err != nil {
		return fmt.Errorf("%T to %s: %w", req, to, err)
	}
	*resp = *answer.(*R)
	return nil
}

func (t *MemoryTransport) exchange(ctx context.Context, to string, req any, data io.Reader) (any, error) {
	silence := func() error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.aborted:
			return errRefused
		}
	}
	select {
	case <-t.aborted:
		return nil, errRefused
	default:
	}
	if !t.network.Pass(t.address, to) {
		return nil, silence()
	}
	peer, ok := t.network.node(to)
	if !ok {
		return nil, errRefused
	}
	reply := make(chan raft.RPCResponse, 1)
	select {
	case peer.inbox <- raft.RPC{Command: req, Reader: data, RespChan: reply}:
	case <-peer.closed:
		return nil, errRefused
	case <-t.aborted:
		return nil, errRefused
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case r := <-reply:
		if !t.network.Pass(to, t.address) {
			return nil, silence()
		}
		return r.Response, r.Error
	case <-peer.closed:
		return nil, errRefused
	case <-t.aborted:
		return nil, errRefused
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
