package rpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"ferryman"
	"ferryman/agent/identity"
)

// Cluster is what the leader answers for the whole cluster. On the peer port a
// node that is not the leader answers NotLeader; on the control socket it asks
// the leader.
type Cluster interface {
	// Report is everything the leader knows, and what it would do next.
	Report(context.Context) (ferryman.Report, error)
	// Request commits a person's (or a stopping node's) wish.
	Request(context.Context, ferryman.Request) error
}

// Peer is the backend of the peer port. CallerFrom tells who called.
type Peer interface {
	Cluster

	// Status is the node's status now, and a channel that is closed when it has
	// changed. Package rpc does the waiting.
	Status() (ferryman.NodeStatus, <-chan struct{})
	// RunStep starts a step whose intent this node holds, or returns how far it
	// is; it does not wait for the end.
	RunStep(context.Context, StepRef) (ferryman.Outcome, error)
	// Renew grants the primary's lease to the caller, which must be the primary
	// of that epoch. Only the leader does, after a barrier; others answer
	// NotLeader.
	Renew(context.Context, RenewRequest) (RenewReply, error)
	// Join makes the caller a member. Only the leader does; others answer
	// NotLeader. The name is the caller's own, which is verified already.
	Join(context.Context, JoinRequest) (JoinReply, error)
	// Enroll gives a caller without a certificate one, for a token that was not
	// used yet. The token is used up, in replicated state, before the answer
	// leaves; hence only the leader answers.
	Enroll(context.Context, EnrollRequest) (EnrollReply, error)

	// LeaderWithID says who leads, as far as this node knows; empty if nobody.
	LeaderWithID(context.Context) (Node, error)
	// AddVoter, DemoteVoter and RemoveServer change the Raft group. Only the
	// leader does, by the same rules as its own steps; others answer NotLeader.
	AddVoter(context.Context, ferryman.NodeID) error
	DemoteVoter(context.Context, ferryman.NodeID) error
	RemoveServer(context.Context, ferryman.NodeID) error
}

// maxWait is the longest that a status may be waited for, whatever the caller says.
const maxWait = time.Minute

// registerPeer serves the backend; stopping ends the long polls.
func registerPeer(r grpc.ServiceRegistrar, b Peer, stopping <-chan struct{}) {
	const s = peerService
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: s,
		HandlerType: (*Peer)(nil),
		Methods: []grpc.MethodDesc{
			handle(s, callStatus, func(ctx context.Context, req StatusRequest) (ferryman.NodeStatus, error) {
				return awaitStatus(ctx, b, req, stopping)
			}),
			handle(s, callRunStep, b.RunStep),
			handle(s, callRenew, b.Renew),
			handle(s, callJoin, func(ctx context.Context, req JoinRequest) (JoinReply, error) {
				return join(ctx, b, req)
			}),
			handle(s, callEnroll, b.Enroll),
			question(s, callReport, b.Report),
			command(s, callRequest, b.Request),
			question(s, callLeaderWithID, b.LeaderWithID),
			command(s, callAddVoter, b.AddVoter),
			command(s, callDemoteVoter, b.DemoteVoter),
			command(s, callRemoveServer, b.RemoveServer),
		},
	}, b)
}

func awaitStatus(ctx context.Context, b Peer, req StatusRequest, stopping <-chan struct{}) (ferryman.NodeStatus, error) {
	over := time.NewTimer(min(req.Wait.Std(), maxWait))
	defer over.Stop()
	for {
		st, changed := b.Status()
		if st.Seq != req.Since || req.Wait <= 0 {
			return st, nil
		}
		select {
		case <-changed:
		case <-over.C:
			return st, nil
		case <-stopping:
			return st, nil
		case <-ctx.Done():
			return ferryman.NodeStatus{}, ctx.Err()
		}
	}
}

// join lets a node speak for itself only.
func join(ctx context.Context, b Peer, req JoinRequest) (JoinReply, error) {
	caller, _ := CallerFrom(ctx)
	if caller.Name != req.Name {
		return JoinReply{}, fmt.Errorf("%w: the certificate is that of %s, the request says %q", ErrWrongSender, caller, req.Name)
	}
	if req.ID == "" || req.Address == "" {
		return JoinReply{}, fmt.Errorf("join of %s: %w: a node needs an id and an address, got %q and %q", req.Name, ferryman.ErrInvalid, req.ID, req.Address)
	}
	return b.Join(ctx, req)
}

type callerKey struct{}

// WithCaller returns a context of a call that comes from that node.
func WithCaller(ctx context.Context, p identity.Peer) context.Context {
	return context.WithValue(ctx, callerKey{}, p)
}

// CallerFrom is the node that a call on the peer port comes from; false for an
// enrolment.
func CallerFrom(ctx context.Context) (identity.Peer, bool) {
	p, ok := ctx.Value(callerKey{}).(identity.Peer)
	return p, ok
}
