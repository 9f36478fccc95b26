package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"ferryman"
)

// ListenControl listens on a unix socket of mode 0660 at path. A socket that an
// agent left behind is replaced; one that answers is not.
func ListenControl(path string) (net.Listener, error) {
	ln, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		conn, dialErr := net.Dial("unix", path)
		if dialErr == nil {
			conn.Close()
			return nil, fmt.Errorf("control socket %s: %w: another agent answers there", path, ferryman.ErrConflict)
		}
		info, statErr := os.Lstat(path)
		if !errors.Is(dialErr, syscall.ECONNREFUSED) || statErr != nil || info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("control socket: %w", err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: remove what an earlier agent left: %w", err)
		}
		ln, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Until here others could at most connect; socketCreds still judges them.
	if err := os.Chmod(path, 0o660); err != nil {
		ln.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return ln, nil
}

// process is who is at the other end of a unix socket, as the kernel says.
type process struct {
	uid, gid uint32
	groups   []uint32
}

// mayControl is the rule of the control socket: root, the agent's own user, and
// the members of the socket's group.
func (p process) mayControl(self, socketGroup uint32) bool {
	return p.uid == 0 || p.uid == self || p.gid == socketGroup || slices.Contains(p.groups, socketGroup)
}

// socketInfo is what a connection on the control socket is known by.
type socketInfo struct {
	credentials.CommonAuthInfo
	uid uint32
}

// AuthType implements credentials.AuthInfo.
func (socketInfo) AuthType() string { return "unix" }

func uidOf(ctx context.Context) (uint32, bool) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(socketInfo); ok {
			return info.uid, true
		}
	}
	return 0, false
}

// socketCreds refuses connections by the credentials of the process that made
// them, whatever the socket's mode has become.
type socketCreds struct{ log *slog.Logger }

func (c socketCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p, group, err := inspect(raw)
	if err == nil && !p.mayControl(uint32(os.Geteuid()), group) {
		err = fmt.Errorf("%w: user %d is neither root nor the agent's user nor in group %d of the socket", fs.ErrPermission, p.uid, group)
	}
	if err != nil {
		c.log.Warn("refused a connection to the control socket", "error", err)
		return nil, nil, err
	}
	// The socket does not leave the host.
	return raw, socketInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, p.uid}, nil
}

func (socketCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are a server's credentials")
}

func (socketCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

func (c socketCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing: there is no name.
func (socketCreds) OverrideServerName(string) error { return nil }

func plainCreds() credentials.TransportCredentials { return insecure.NewCredentials() }
