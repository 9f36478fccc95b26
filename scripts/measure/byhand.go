package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ferryman/dbhooks/redis"
)

// baseline is the same gap for Redis by hand, in the fastest way known that loses nothing, over connections that are open already: pause the writes, wait
// until the replica has them all, promote it, point the others to it. (FAILOVER takes longer: the old primary comes back as a replica only a second
// later, and until then a write has nobody to confirm it.) Three servers of this machine.
func (c *cluster) baseline(ctx context.Context, out io.Writer, n int) (err error) {
	r, err := c.settled(ctx)
	if err != nil {
		return err
	}
	if r.State.Accepted.Document.Database.Engine != "redis" {
		return nil
	}
	dir, err := os.MkdirTemp("", "ferryman-measure-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var addrs []string
	var servers []*server
	for i := range 3 {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		home := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(home, 0o700); err != nil {
			return err
		}
		host, port, _ := net.SplitHostPort(addr)
		args := []string{"--port", port, "--bind", host, "--dir", home, "--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0"}
		process := exec.CommandContext(ctx, "redis-server", args...)
		if err := process.Start(); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, process.Process.Kill())
			_ = process.Wait()
		}()
		s, err := connect(ctx, addr)
		if err != nil {
			return err
		}
		defer s.conn.Close()
		addrs, servers = append(addrs, addr), append(servers, s)
	}
	for _, s := range servers[1:] {
		if _, err := s.ask("REPLICAOF " + servers[0].place()); err != nil {
			return err
		}
	}
	w := redis.NewWriter(func() []string { return addrs }, "", "")
	defer w.Close()
	var gaps []float64
	for i := range n {
		from, to, third := servers[i%3], servers[(i+1)%3], servers[(i+2)%3]
		if err := from.until(ctx, func(info string) bool { return strings.Count(info, "state=online") == 2 }); err != nil {
			return err
		}
		gap, err := longestGap(ctx, w, func() error { return switchByHand(ctx, from, to, third) })
		if err != nil {
			return fmt.Errorf("switch over by hand: %w", err)
		}
		gaps = append(gaps, ms(gap))
	}
	tell(out, "redis: the same by hand", "ms", gaps)
	return nil
}

func switchByHand(ctx context.Context, from, to, third *server) error {
	if _, err := from.ask("CLIENT PAUSE 10000 WRITE"); err != nil {
		return err
	}
	info, err := from.ask("INFO replication")
	if err != nil {
		return err
	}
	_, offset, _ := strings.Cut(info, "master_repl_offset:")
	offset, _, _ = strings.Cut(offset, "\r\n")
	at, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return fmt.Errorf("no offset in %q: %w", info, err)
	}
	if err := to.until(ctx, func(info string) bool {
		_, got, _ := strings.Cut(info, "slave_repl_offset:")
		got, _, _ = strings.Cut(got, "\r\n")
		n, err := strconv.ParseInt(got, 10, 64)
		return err == nil && n >= at
	}); err != nil {
		return err
	}
	for _, step := range []struct {
		s       *server
		command string
	}{{to, "REPLICAOF NO ONE"}, {third, "REPLICAOF " + to.place()}, {from, "REPLICAOF " + to.place()}, {from, "CLIENT UNPAUSE"}} {
		if _, err := step.s.ask(step.command); err != nil {
			return err
		}
	}
	return nil
}

// server is a connection to one Redis.
type server struct {
	addr   string
	conn   net.Conn
	answer *bufio.Reader
}

// connect waits until the server listens.
func connect(ctx context.Context, addr string) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return &server{addr: addr, conn: conn, answer: bufio.NewReader(conn)}, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) place() string { return strings.Replace(s.addr, ":", " ", 1) }

// ask sends an inline command and returns its answer, a line or a string.
func (s *server) ask(command string) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(s.conn, command+"\r\n"); err != nil {
		return "", err
	}
	line, err := s.answer.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s to %s: %w", command, s.addr, err)
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '+':
		return rest, nil
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", fmt.Errorf("%s to %s: answered %q", command, s.addr, line)
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(s.answer, text)
		return string(text), err
	}
	return "", fmt.Errorf("%s to %s: answered %q", command, s.addr, line)
}

// until asks for the state of replication until f is content.
func (s *server) until(ctx context.Context, f func(info string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		info, err := s.ask("INFO replication")
		if err != nil || f(info) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waited long for %s, which says %q: %w", s.addr, info, ctx.Err())
		}
	}
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
