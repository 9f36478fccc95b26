package redis

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

// line is a connection to an address, of which nothing else is asked.
type line struct {
	net.Conn
	to string
}

func (l line) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(l.to), Port: 6379} }

func TestRedisWithoutAPasswordTurnsOthersAway(t *testing.T) {
	t.Parallel()
	reset := &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.ECONNRESET)}
	for _, c := range []struct {
		name, to, password string
		err                error
		want               bool
	}{
		{"closed before it was read", "192.0.2.1", "", reset, true},
		{"read", "192.0.2.1", "", errors.New("DENIED Redis is running in protected mode"), true},
		{"by loopback", "127.0.0.1", "", reset, false},
		{"with a password", "192.0.2.1", "secret", reset, false},
		{"another error", "192.0.2.1", "", errors.New("LOADING Redis is loading the dataset in memory"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := client{goredis.NewClient(&goredis.Options{Password: c.password}), line{to: c.to}}
			got := db.explain(c.err)
			if said := strings.Contains(got.Error(), "database.password_file"); said != c.want || !errors.Is(got, c.err) {
				t.Errorf("got %q; want it to say what to set: %v", got, c.want)
			}
		})
	}
}

// A process is of the release by whose path it was started, where its program is the host's own.
func TestVersionIsThatOfTheRelease(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.WriteFile(home+"/release.json", []byte(`{"version":"7-u10"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, executable := range map[string]string{"7-u10": home + "/bin/redis-server", "7.0.15": "/usr/bin/redis-server"} {
		in := info{"redis_version": "7.0.15", "process_id": "0", "executable": executable}
		if got := in.version(); got != want {
			t.Errorf("started as %s: got %s, want %s", executable, got, want)
		}
	}
}
