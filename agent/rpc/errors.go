package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ferryman"
)

// Refusals that belong to the wire; the rest are ferryman's own errors.
var (
	// ErrUnauthenticated means that the caller showed no certificate, or that
	// the other side refused ours.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrWrongSender means that a Raft message names another sender than the
	// node that its certificate belongs to.
	ErrWrongSender = errors.New("the message's sender is not the caller")
)

// NotLeader is ferryman.ErrNotLeader with who is. Backends return it where only
// the leader answers; it crosses the wire.
type NotLeader struct {
	Leader Node // empty while no leader is known
}

func (e NotLeader) Error() string {
	if e.Leader.ID == "" {
		return ferryman.ErrNotLeader.Error() + ", and no leader is known now"
	}
	return fmt.Sprintf("%v; ask %s (%s) at %s", ferryman.ErrNotLeader, e.Leader.Name, e.Leader.ID, e.Leader.Address)
}

// Unwrap makes it a ferryman.ErrNotLeader.
func (e NotLeader) Unwrap() error { return ferryman.ErrNotLeader }

// meaning is one error that crosses the wire.
type meaning struct {
	err    error
	reason string // on the wire; never changes
	code   codes.Code
}

// meanings lists them; where an error has several, the first gives the code.
func meanings() []meaning {
	return []meaning{
		{ErrUnauthenticated, "UNAUTHENTICATED", codes.Unauthenticated},
		{ErrWrongSender, "WRONG_SENDER", codes.PermissionDenied},
		{ferryman.ErrNotMember, "NOT_MEMBER", codes.PermissionDenied},
		{ferryman.ErrWrongCluster, "WRONG_CLUSTER", codes.PermissionDenied},
		{ferryman.ErrNotLeader, "NOT_LEADER", codes.FailedPrecondition},
		{ferryman.ErrInvalid, "INVALID", codes.InvalidArgument},
		{ferryman.ErrConflict, "CONFLICT", codes.Aborted},
		{ferryman.ErrRefused, "REFUSED", codes.FailedPrecondition},
		{ferryman.ErrUnsupported, "UNSUPPORTED", codes.Unimplemented},
		{ferryman.ErrUnavailable, "UNAVAILABLE", codes.Unavailable},
	}
}

const errorDomain = "ferryman"

// toStatus turns a handler's error into what goes over the wire.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err // it is one already
	}
	code := codes.Unknown
	switch {
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	}
	var reasons []string
	for _, m := range meanings() {
		if errors.Is(err, m.err) {
			if len(reasons) == 0 {
				code = m.code
			}
			reasons = append(reasons, m.reason)
		}
	}
	st := status.New(code, err.Error())
	if len(reasons) == 0 {
		return st.Err()
	}
	info := &errdetails.ErrorInfo{Domain: errorDomain, Reason: strings.Join(reasons, ",")}
	var notLeader NotLeader
	if errors.As(err, &notLeader) {
		l := notLeader.Leader
		info.Metadata = map[string]string{"id": string(l.ID), "name": l.Name, "address": l.Address}
	}
	if detailed, err := st.WithDetails(info); err == nil {
		st = detailed
	}
	return st.Err()
}

// callError is an error that came over the wire, with its meanings.
type callError struct {
	text string
	is   []error
}

func (e *callError) Error() string   { return e.text }
func (e *callError) Unwrap() []error { return e.is }

// fromStatus is the reverse of toStatus.
func fromStatus(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	e := &callError{text: st.Message()}
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.Domain != errorDomain {
			continue
		}
		for reason := range strings.SplitSeq(info.Reason, ",") {
			for _, m := range meanings() {
				if m.reason == reason {
					e.is = append(e.is, m.err)
				}
			}
			if reason == "NOT_LEADER" {
				e.is = append(e.is, NotLeader{Node{
					ID:      ferryman.NodeID(info.Metadata["id"]),
					Name:    info.Metadata["name"],
					Address: info.Metadata["address"],
				}})
			}
		}
	}
	// These may also come from gRPC itself.
	switch st.Code() {
	case codes.Unavailable:
		e.is = append(e.is, ferryman.ErrUnavailable)
	case codes.DeadlineExceeded:
		e.is = append(e.is, context.DeadlineExceeded)
	case codes.Canceled:
		e.is = append(e.is, context.Canceled)
	case codes.Unimplemented:
		e.is = append(e.is, ferryman.ErrUnsupported)
	}
	return e
}
