package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"ferryman/dbhooks"
)

// info is what INFO says, by field: https://redis.io/docs/latest/commands/info/
type info map[string]string

func parseInfo(text string) info {
	in := info{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			in[name] = value
		}
	}
	return in
}

func (in info) number(name string) uint64 {
	n, err := strconv.ParseInt(in[name], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return uint64(n)
}

func (in info) master() bool     { return in["role"] == "master" }
func (in info) history() string  { return in["master_replid"] }
func (in info) position() uint64 { return in.number("master_repl_offset") }
func (in info) loading() bool    { return in["loading"] == "1" || in["async_loading"] == "1" }

// streaming: connected to its master and not in the middle of a full copy.
func (in info) streaming() bool {
	return !in.master() && in["master_link_status"] == "up" && in["master_sync_in_progress"] == "0"
}

// upstream is whom the server was told to replicate from; empty for a master and for the address where nobody is.
func (in info) upstream() string {
	addr := net.JoinHostPort(in["master_host"], in["master_port"])
	if in.master() || addr == nobody {
		return ""
	}
	return addr
}

// contains says whether the server's data include that position of that history: its own, or the one that it continued.
func (in info) contains(history string, position uint64) bool {
	if history == in.history() {
		return position <= in.position()
	}
	// second_repl_offset is the first position that the earlier history does not share.
	return history == in["master_replid2"] && position < in.number("second_repl_offset") && position <= in.position()
}

// hasKeys: INFO lists only databases that hold some.
func (in info) hasKeys() bool {
	for i := range 16 {
		if in["db"+strconv.Itoa(i)] != "" {
			return true
		}
	}
	return false
}

// replicas are the addresses of those that are connected, and a blocker for each that receives a full copy just now.
func (in info) replicas() (addrs, blockers []string) {
	for i := range int(in.number("connected_slaves")) {
		fields := map[string]string{}
		for part := range strings.SplitSeq(in["slave"+strconv.Itoa(i)], ",") {
			name, value, _ := strings.Cut(part, "=")
			fields[name] = value
		}
		addr := net.JoinHostPort(fields["ip"], fields["port"])
		addrs = append(addrs, addr)
		if fields["state"] != "online" {
			blockers = append(blockers, fmt.Sprintf("replica %s receives a full copy (%s)", addr, fields["state"]))
		}
	}
	return addrs, blockers
}

// version is that of the release that the process runs: of release.json two levels above its executable, and else what the server calls itself. Builds
// of one version differ only in the former. Where /proc may not be read (a unit with a user namespace of its own), or leads to a program of the host's,
// which has no release.json, it is the path by which the server was started: a release of the host's package is started through a directory of its own.
func (in info) version() string {
	exe, err := os.Readlink("/proc/" + in["process_id"] + "/exe")
	if err != nil {
		exe = ""
	}
	for _, path := range []string{exe, in["executable"]} {
		if !filepath.IsAbs(path) {
			continue
		}
		if r, err := ReadRelease(filepath.Dir(filepath.Dir(path))); err == nil && r.Version != "" {
			return r.Version
		}
	}
	if v := in["valkey_version"]; v != "" {
		return v
	}
	return in["redis_version"]
}

// client talks to one process: over the connection that was made first, and none after it.
type client struct {
	*goredis.Client
	conn net.Conn
}

// connect makes a client whose contexts are obeyed. Its pool gets the one connection that is made here, and an error whenever it would make another:
// go-redis connects through the dialer alone.
func connect(ctx context.Context, addr, username, password string) (*client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	var taken atomic.Bool
	dialer := func(context.Context, string, string) (net.Conn, error) {
		if taken.Swap(true) {
			return nil, dbhooks.ErrGone
		}
		return conn, nil
	}
	pool := goredis.NewClient(&goredis.Options{
		Addr: addr, Dialer: dialer, Username: username, Password: password, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaxRetries: -1, DialerRetries: 1, PoolSize: 1, ReadTimeout: time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return &client{pool, conn}, nil
}

// Close closes the connection, also when no command ever used it.
func (c *client) Close() error {
	err := c.Client.Close()
	c.conn.Close()
	return err
}

// explain says what is wrong where the server lets in nobody from another host: it says so too, and closes, and mostly only the latter is seen.
func (c *client) explain(err error) error {
	at, ok := c.conn.RemoteAddr().(*net.TCPAddr)
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || strings.HasPrefix(err.Error(), "DENIED")
	if !closed || !ok || at.IP.IsLoopback() || c.Options().Password != "" {
		return err
	}
	return fmt.Errorf("%w: without a password Redis lets in nobody but by loopback: set database.password_file, on every node", err)
}

func ask(ctx context.Context, c *client) (info, error) {
	text, err := c.Info(ctx).Result()
	if err != nil {
		return nil, c.explain(err)
	}
	in := parseInfo(text)
	if in["role"] == "" {
		return nil, errors.New("INFO has no role: is this user allowed to see it?")
	}
	return in, nil
}
