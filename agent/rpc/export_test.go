package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// NewCodec lets tests speak to the server without a client of ours.
var NewCodec = newCodec

// FromStatus lets them read its errors.
var FromStatus = fromStatus

// ToStatus lets them make such errors.
var ToStatus = toStatus

// MayControl is the control socket's rule.
func MayControl(uid, gid uint32, groups []uint32, self, socketGroup uint32) bool {
	return process{uid, gid, groups}.mayControl(self, socketGroup)
}

// InvokeControl makes a call of any name.
func (c *ControlClient) InvokeControl(ctx context.Context, method string, req, resp any) error {
	return fromStatus(c.conn.Invoke(ctx, method, req, resp, grpc.ForceCodecV2(newCodec())))
}

// StopWithin sets how long calls may go on at the end.
func (s *Server) StopWithin(d time.Duration) { s.within = d }
