package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"ferryman"
	"ferryman/agent/identity"
)

// DialOptions are how this node calls a peer port; Raft's transport uses them as
// well. expect decides whether the node that answers at an address is the one
// that is meant (Members.ExpectAt); its certificate is verified before.
func DialOptions(id *identity.Identity, expect func(address string, p identity.Peer) error) []grpc.DialOption {
	return dialOptions(nodeCreds(id, expect))
}

func dialOptions(creds clientCreds) []grpc.DialOption {
	return append(commonOptions(creds, "tcp", creds.last),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
	)
}

// commonOptions are those of both services. The dialer bypasses the proxies of
// the environment, and starts each attempt with a clean record.
func commonOptions(creds credentials.TransportCredentials, network string, last *failure) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, address)
			last.set(err)
			return conn, err
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
	}
}

// caller makes calls to one service at one place.
type caller struct {
	conn    *grpc.ClientConn
	last    *failure
	service string
	whom    string // for errors
}

// invoke calls and brings the answer or the error's meaning back.
func invoke[Resp any](ctx context.Context, c caller, call string, req any) (Resp, error) {
	var resp Resp
	err := c.conn.Invoke(ctx, fullMethod(c.service, call), req, &resp, grpc.ForceCodecV2(newCodec()))
	if err == nil {
		return resp, nil
	}
	err = fromStatus(err)
	if why := c.last.get(); why != nil && errors.Is(err, ferryman.ErrUnavailable) {
		// gRPC repeats the reason in many words; once is enough.
		err = fmt.Errorf("%w: %w", ferryman.ErrUnavailable, why)
	}
	return resp, fmt.Errorf("%s from %s: %w", call, c.whom, err)
}

// Clients holds this node's connections to the others, one for each address and
// name; they connect on use, and again after a failure. It is safe for
// concurrent use.
type Clients struct {
	id *identity.Identity

	mu     sync.Mutex
	peers  map[Place]*PeerClient
	closed bool
}

// Place is where a node is expected: who, at which address.
type Place struct{ Name, Address string }

// NewClients makes calls with this identity.
func NewClients(id *identity.Identity) *Clients {
	return &Clients{id: id, peers: make(map[Place]*PeerClient)}
}

// Peer is the client for the node of this name at this address (host:port of
// its peer port). An empty name is any node of this cluster: for a newcomer,
// which knows addresses only. If another node answers, calls fail with
// identity.ErrWrongPeer.
func (c *Clients) Peer(name, address string) (*PeerClient, error) {
	place := Place{name, address}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("call %s at %s: %w: this agent is stopping", name, address, ferryman.ErrUnavailable)
	}
	if p := c.peers[place]; p != nil {
		return p, nil
	}
	expect := identity.AnyNode
	if name != "" {
		expect = identity.OnlyNode(name)
	}
	creds := nodeCreds(c.id, func(_ string, p identity.Peer) error { return expect(p) })
	// passthrough leaves the resolution of names to each dial; gRPC's own
	// resolver would look again after 30 s only.
	conn, err := grpc.NewClient("passthrough:///"+address, dialOptions(creds)...)
	if err != nil {
		return nil, fmt.Errorf("call %s at %q: %w", name, address, err)
	}
	p := &PeerClient{caller{conn: conn, last: creds.last, service: peerService, whom: whom(place)}}
	c.peers[place] = p
	return p, nil
}

// Keep closes the connections to places that keep does not want any more.
func (c *Clients) Keep(keep func(Place) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for place, p := range c.peers {
		if !keep(place) {
			p.conn.Close()
			delete(c.peers, place)
		}
	}
}

// Close ends all connections and the calls on them.
func (c *Clients) Close() {
	c.Keep(func(Place) bool { return false })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func whom(p Place) string {
	if p.Name == "" {
		return p.Address
	}
	return p.Name + " (" + p.Address + ")"
}

// PeerClient calls one node. Errors tell who was called; their meaning is told
// with errors.Is, and errors.As finds a NotLeader.
type PeerClient struct{ caller }

var _ Cluster = (*PeerClient)(nil)

// Status waits up to wait for a status whose Seq is another than since; with a
// wait of zero it answers at once. The deadline of ctx should lie beyond the wait.
func (p *PeerClient) Status(ctx context.Context, since uint64, wait time.Duration) (ferryman.NodeStatus, error) {
	return invoke[ferryman.NodeStatus](ctx, p.caller, callStatus, StatusRequest{Since: since, Wait: ferryman.Duration(wait)})
}

// RunStep has the node start a step, or says how far it is.
func (p *PeerClient) RunStep(ctx context.Context, ref StepRef) (ferryman.Outcome, error) {
	return invoke[ferryman.Outcome](ctx, p.caller, callRunStep, ref)
}

// Renew asks the leader for the primary's lease.
func (p *PeerClient) Renew(ctx context.Context, req RenewRequest) (RenewReply, error) {
	return invoke[RenewReply](ctx, p.caller, callRenew, req)
}

// Join asks to be a member.
func (p *PeerClient) Join(ctx context.Context, req JoinRequest) (JoinReply, error) {
	return invoke[JoinReply](ctx, p.caller, callJoin, req)
}

// Enroll passes a newcomer's request on to the leader.
func (p *PeerClient) Enroll(ctx context.Context, req EnrollRequest) (EnrollReply, error) {
	return invoke[EnrollReply](ctx, p.caller, callEnroll, req)
}

// Report implements Cluster.
func (p *PeerClient) Report(ctx context.Context) (ferryman.Report, error) {
	return invoke[ferryman.Report](ctx, p.caller, callReport, none{})
}

// Request implements Cluster.
func (p *PeerClient) Request(ctx context.Context, r ferryman.Request) error {
	_, err := invoke[none](ctx, p.caller, callRequest, r)
	return err
}

// LeaderWithID asks who leads; the answer is empty if the node does not know.
func (p *PeerClient) LeaderWithID(ctx context.Context) (Node, error) {
	return invoke[Node](ctx, p.caller, callLeaderWithID, none{})
}

// AddVoter gives a member its vote.
func (p *PeerClient) AddVoter(ctx context.Context, id ferryman.NodeID) error {
	_, err := invoke[none](ctx, p.caller, callAddVoter, id)
	return err
}

// DemoteVoter takes a member's vote and leaves it in the group.
func (p *PeerClient) DemoteVoter(ctx context.Context, id ferryman.NodeID) error {
	_, err := invoke[none](ctx, p.caller, callDemoteVoter, id)
	return err
}

// RemoveServer takes a node out of the Raft group.
func (p *PeerClient) RemoveServer(ctx context.Context, id ferryman.NodeID) error {
	_, err := invoke[none](ctx, p.caller, callRemoveServer, id)
	return err
}
