package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"

	"ferryman/agent/identity"
)

// nodeInfo is what a connection on the peer port is known by. peer is empty
// where the client showed no certificate.
type nodeInfo struct {
	credentials.TLSInfo
	peer identity.Peer
}

// serverCreds is TLS that remembers who called and logs who was refused.
type serverCreds struct {
	credentials.TransportCredentials
	log *slog.Logger
}

func newServerCreds(id *identity.Identity, log *slog.Logger) serverCreds {
	return serverCreds{credentials.NewTLS(id.ServerConfig()), log}
}

func (c serverCreds) Clone() credentials.TransportCredentials {
	return serverCreds{c.TransportCredentials.Clone(), c.log}
}

func (c serverCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		if !errors.Is(err, io.EOF) { // a port check of some balancer
			c.log.Warn("refused a connection to the peer port", "from", raw.RemoteAddr(), "error", err)
		}
		return nil, nil, err
	}
	node := nodeInfo{TLSInfo: info.(credentials.TLSInfo)}
	if certs := node.State.PeerCertificates; len(certs) > 0 {
		// The handshake has verified it.
		if node.peer, err = identity.ParsePeer(certs[0]); err != nil {
			conn.Close()
			return nil, nil, err
		}
		return conn, node, nil
	}
	return &shortConn{Conn: conn, left: strangerLimit}, node, nil
}

// strangerLimit is all that a client without a certificate may send on one
// connection: an enrolment and little more. gRPC reads messages before any
// interceptor can refuse them.
const strangerLimit = 64 << 10

type shortConn struct {
	net.Conn
	left int // used by gRPC's one reader
}

func (c *shortConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("%w: too much data for an enrolment", ErrUnauthenticated)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// clientCreds is TLS that knows which address was called, so that the node that
// answers there can be compared with the one that is meant, and that remembers
// why a connection failed: gRPC keeps the text only.
type clientCreds struct {
	config func(address string) *tls.Config
	last   *failure
}

// nodeCreds are those of a node that calls another.
func nodeCreds(id *identity.Identity, expect func(address string, p identity.Peer) error) clientCreds {
	return clientCreds{
		config: func(address string) *tls.Config {
			return id.ClientConfig(func(p identity.Peer) error { return expect(address, p) })
		},
		last: new(failure),
	}
}

// tokenCreds are those of a newcomer that has a token only.
func tokenCreds(token identity.Token) clientCreds {
	return clientCreds{config: func(string) *tls.Config { return token.ClientConfig() }, last: new(failure)}
}

func (c clientCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := credentials.NewTLS(c.config(authority)).ClientHandshake(ctx, authority, raw)
	if err == nil {
		conn, err = awaitWelcome(ctx, conn)
	}
	c.last.set(err)
	if err != nil {
		return nil, nil, err
	}
	return conn, info, nil
}

func (clientCreds) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are a client's credentials")
}

func (clientCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (c clientCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing: names of hosts play no part here.
func (clientCreds) OverrideServerName(string) error { return nil }

// awaitWelcome waits for the first byte of the server's settings, which it sends
// by itself once it has accepted our certificate. In TLS 1.3 the client's
// handshake is over before that, and a refusal that comes while the client
// writes is lost in a reset connection.
func awaitWelcome(ctx context.Context, conn net.Conn) (net.Conn, error) {
	giveUp := context.AfterFunc(ctx, func() { conn.Close() })
	first := make([]byte, 1)
	_, err := io.ReadFull(conn, first)
	if !giveUp() && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		err = fmt.Errorf("%w: %s refused this node's certificate (%w); its log says why", ErrUnauthenticated, conn.RemoteAddr(), op.Err)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &startedConn{Conn: conn, first: first}, nil
}

// startedConn gives back what was read from it already.
type startedConn struct {
	net.Conn
	first []byte // used by gRPC's one reader
}

func (c *startedConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// failure is why the newest connection attempt failed; nil if it did not.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
