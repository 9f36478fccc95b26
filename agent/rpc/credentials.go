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
	c.last.set(err)
	if err != nil {
		return nil, nil, err
	}
	return &heedfulConn{conn, c.last}, info, nil
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

// heedfulConn notices that the server refused our certificate: in TLS 1.3 the
// client hears of it only after the handshake, at its first read.
type heedfulConn struct {
	net.Conn
	last *failure
}

func (c *heedfulConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		c.last.set(fmt.Errorf("%w: %s refused this node's certificate (%v); its log says why", ErrUnauthenticated, c.RemoteAddr(), op.Err))
	}
	return n, err
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
