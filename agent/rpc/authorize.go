package rpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"ferryman/agent/identity"
)

// Call is one message that a verified node of this cluster has sent.
type Call struct {
	Peer   identity.Peer
	Method string // /service/method
	// First is false for what follows the first message of a stream.
	First   bool
	Message any
}

// Authorizer decides on each call and on each message of a stream, before the
// handler sees it. The caller's certificate is verified already.
type Authorizer interface {
	Authorize(Call) error
}

// gate is the interceptors: nothing reaches a handler past them.
type gate struct{ authorizer Authorizer }

func (g gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	caller, err := authenticate(ctx)
	switch {
	case info.FullMethod == fullMethod(peerService, callEnroll):
		// The one call that a node may make before it has a certificate; its
		// token is the proof.
	case err != nil:
		return nil, toStatus(err)
	default:
		call := Call{Peer: caller, Method: info.FullMethod, First: true, Message: req}
		if err := g.authorizer.Authorize(call); err != nil {
			return nil, toStatus(err)
		}
		ctx = WithCaller(ctx, caller)
	}
	resp, err := handler(ctx, req)
	return resp, toStatus(err)
}

func (g gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	caller, err := authenticate(ss.Context())
	if err != nil {
		return toStatus(err)
	}
	return toStatus(handler(srv, &gatedStream{
		ServerStream: ss,
		authorizer:   g.authorizer,
		call:         Call{Peer: caller, Method: info.FullMethod, First: true},
	}))
}

// gatedStream authorises each message that is received. After a refusal it
// receives nothing more.
type gatedStream struct {
	grpc.ServerStream
	authorizer Authorizer
	call       Call
	refused    error
}

func (s *gatedStream) RecvMsg(m any) error {
	if s.refused != nil {
		return s.refused
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	s.call.Message = m
	s.refused = toStatus(s.authorizer.Authorize(s.call))
	s.call.First = false
	return s.refused
}

// authenticate is who the connection's certificate says the caller is.
func authenticate(ctx context.Context) (identity.Peer, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(nodeInfo); ok && info.peer != (identity.Peer{}) {
			return info.peer, nil
		}
	}
	return identity.Peer{}, fmt.Errorf("%w: this call needs a certificate of the cluster; get one with a join token", ErrUnauthenticated)
}
