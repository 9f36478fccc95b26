package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"google.golang.org/grpc"

	"ferryman"
)

// Control is the backend of the control socket: the person on this host.
type Control interface {
	// Report and Request are answered by the leader; other nodes ask it, at the
	// place that NotLeader names.
	Cluster
	// Local is what this node knows by itself.
	Local(context.Context) (LocalReport, error)
	// Debug is what an expert asks for beside that.
	Debug(context.Context) (DebugReport, error)
	// Token makes a join token and returns it as printed.
	Token(context.Context, TokenRequest) (string, error)
	// Stop makes the agent end as on SIGTERM. It answers before it ends.
	Stop(context.Context, StopRequest) error
}

// NewControlServer makes the server of the control socket (ListenControl).
func NewControlServer(backend Control, log *slog.Logger) *Server {
	const s = controlService
	server := newServer(controlErrors, grpc.Creds(socketCreds{log: log}))
	server.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: s,
		HandlerType: (*Control)(nil),
		Methods: []grpc.MethodDesc{
			question(s, callReport, backend.Report),
			command(s, callRequest, func(ctx context.Context, r ferryman.Request) error {
				r.By = userOf(ctx) // who the kernel says it is
				return backend.Request(ctx, r)
			}),
			question(s, callLocal, backend.Local),
			question(s, callDebug, backend.Debug),
			handle(s, callToken, backend.Token),
			command(s, callStop, backend.Stop),
		},
	}, backend)
	return server
}

func controlErrors(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	return resp, toStatus(err)
}

// userOf names the caller on the control socket.
func userOf(ctx context.Context) string {
	uid, ok := uidOf(ctx)
	if !ok {
		return "unknown"
	}
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// ControlClient is the command line's end of the control socket.
type ControlClient struct{ caller }

var _ Control = (*ControlClient)(nil)

// DialControl prepares calls to the agent of this host; it connects on the
// first. Close it after use.
func DialControl(path string) (*ControlClient, error) {
	last := new(failure)
	conn, err := grpc.NewClient("passthrough:///"+path, commonOptions(plainCreds(), "unix", last)...)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return &ControlClient{caller{conn: conn, last: last, service: controlService, whom: path}}, nil
}

// Close ends the connection.
func (c *ControlClient) Close() error { return c.conn.Close() }

// Report implements Cluster.
func (c *ControlClient) Report(ctx context.Context) (ferryman.Report, error) {
	return ask[ferryman.Report](ctx, c, callReport, none{})
}

// Request implements Cluster. The agent fills in By.
func (c *ControlClient) Request(ctx context.Context, r ferryman.Request) error {
	_, err := ask[none](ctx, c, callRequest, r)
	return err
}

// Local implements Control.
func (c *ControlClient) Local(ctx context.Context) (LocalReport, error) {
	return ask[LocalReport](ctx, c, callLocal, none{})
}

// Debug implements Control.
func (c *ControlClient) Debug(ctx context.Context) (DebugReport, error) {
	return ask[DebugReport](ctx, c, callDebug, none{})
}

// Token implements Control.
func (c *ControlClient) Token(ctx context.Context, req TokenRequest) (string, error) {
	return ask[string](ctx, c, callToken, req)
}

// Stop implements Control.
func (c *ControlClient) Stop(ctx context.Context, req StopRequest) error {
	_, err := ask[none](ctx, c, callStop, req)
	return err
}

// ask adds to an error what a person at the console does next.
func ask[Resp any](ctx context.Context, c *ControlClient, call string, req any) (Resp, error) {
	resp, err := invoke[Resp](ctx, c.caller, call, req)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("no agent runs here, or its control socket is elsewhere: %w", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		err = fmt.Errorf("the agent of this socket does not run any more; start it: %w", err)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("user %d may not speak to the agent; be root, the agent's user, or in the socket's group: %w", os.Geteuid(), err)
	}
	return resp, err
}
