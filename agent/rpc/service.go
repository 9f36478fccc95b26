package rpc

import (
	"context"

	"google.golang.org/grpc"
)

const (
	peerService    = "ferryman.Peer"
	controlService = "ferryman.Control"
)

// Names of calls. They are on the wire and never change their meaning.
const (
	callStatus       = "Status"
	callRunStep      = "RunStep"
	callRenew        = "Renew"
	callJoin         = "Join"
	callEnroll       = "Enroll"
	callLeaderWithID = "LeaderWithID"
	callAddVoter     = "AddVoter"
	callDemoteVoter  = "DemoteVoter"
	callRemoveServer = "RemoveServer"
	callReport       = "Report"
	callRequest      = "Request"
	callLocal        = "Local"
	callDebug        = "Debug"
	callToken        = "Token"
	callStop         = "Stop"
)

func fullMethod(service, call string) string { return "/" + service + "/" + call }

// handle makes a service's row for a function of ours.
func handle[Req, Resp any](service, call string, f func(context.Context, Req) (Resp, error)) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: call,
		Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			req := new(Req)
			if err := decode(req); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod(service, call)}
			return intercept(ctx, req, info, func(ctx context.Context, req any) (any, error) {
				return f(ctx, *req.(*Req))
			})
		},
	}
}

// command is handle for a function that answers nothing.
func command[Req any](service, call string, f func(context.Context, Req) error) grpc.MethodDesc {
	return handle(service, call, func(ctx context.Context, req Req) (none, error) { return none{}, f(ctx, req) })
}

// question is handle for a function that is asked nothing.
func question[Resp any](service, call string, f func(context.Context) (Resp, error)) grpc.MethodDesc {
	return handle(service, call, func(ctx context.Context, _ none) (Resp, error) { return f(ctx) })
}
