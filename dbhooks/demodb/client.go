package demodb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"ferryman/dbhooks"
)

// Client talks to one demodb over one connection, which is opened when it is needed and kept. It is safe for concurrent use; requests take turns.
type Client struct {
	addr  string
	bound bool          // to the process at the other end of conn: no other connection is opened
	turn  chan struct{} // holds one token

	conn net.Conn
	r    *bufio.Reader
}

// Dial returns a client of the demodb at addr, host:port. It connects with the first request.
func Dial(addr string) *Client {
	return &Client{addr: addr, turn: make(chan struct{}, 1)}
}

// bind connects, and returns a client of the process that it found: when that is gone all requests fail.
func bind(ctx context.Context, addr string) (*Client, error) {
	c := Dial(addr)
	if err := c.connect(ctx); err != nil {
		return nil, fmt.Errorf("demodb %s: %w", addr, err)
	}
	c.bound = true
	return c, nil
}

func (c *Client) connect(ctx context.Context) error {
	if c.bound {
		return dbhooks.ErrGone
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.conn, c.r = conn, bufio.NewReaderSize(conn, maxLine)
	return nil
}

// Close closes the connection; the next request would open another.
func (c *Client) Close() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	return c.hangUp()
}

func (c *Client) hangUp() error {
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn, c.r = nil, nil
	return conn.Close()
}

// Put writes, and returns nil once the write is acknowledged. A *NotPrimaryError says that nothing was written. Any other error may hide a write that
// took place (errors.Is ErrUnknown when the server said so itself).
func (c *Client) Put(ctx context.Context, key, value string) error {
	_, err := c.do(ctx, request{Op: "put", Key: key, Value: value})
	return err
}

// Get reads from this instance, which may be behind its primary.
func (c *Client) Get(ctx context.Context, key string) (value string, found bool, err error) {
	res, err := c.do(ctx, request{Op: "get", Key: key})
	return res.Value, res.Found, err
}

// GetFromPrimary reads what the primary holds, and only what is acknowledged: no failover takes it back. A *NotPrimaryError says that this instance does
// not accept writes.
func (c *Client) GetFromPrimary(ctx context.Context, key string) (value string, found bool, err error) {
	res, err := c.do(ctx, request{Op: "get", Key: key, Primary: true})
	return res.Value, res.Found, err
}

// Status asks the instance for what it says about itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	res, err := c.do(ctx, request{Op: "status"})
	if err == nil && res.Status == nil {
		err = fmt.Errorf("demodb %s: an answer without a status", c.addr)
	}
	if err != nil {
		return Status{}, err
	}
	return *res.Status, nil
}

// do sends one request and reads its response. The connection is given up after any failure of either, so that no answer is taken for another's.
func (c *Client) do(ctx context.Context, req request) (response, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return response{}, fmt.Errorf("demodb %s: %w", c.addr, ctx.Err())
	}
	if deadline, ok := ctx.Deadline(); ok {
		req.Timeout = max(1, time.Until(deadline).Milliseconds())
	}
	var res response
	again := c.conn != nil && !c.bound && req.Op != "put"
	err := c.exchange(ctx, req, &res)
	if err != nil && again && ctx.Err() == nil {
		// The server may have restarted since the last request, which a kept connection only shows now. A write may have taken place all the same; whether
		// it is to be written twice is for who wants it.
		c.hangUp()
		res = response{}
		err = c.exchange(ctx, req, &res)
	}
	if err != nil {
		c.hangUp()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return response{}, fmt.Errorf("demodb %s: %s: %w", c.addr, req.Op, err)
	}
	if res.Error != "" {
		return res, fmt.Errorf("demodb %s: %w", c.addr, res.err())
	}
	return res, nil
}

func (c *Client) exchange(ctx context.Context, req request, res *response) error {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return err
		}
	}
	conn := c.conn
	// The server is told the same deadline and may answer just in time, so the connection outlives it a little.
	var grace sync.WaitGroup
	grace.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer grace.Done()
		wait := time.Duration(0)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			wait = 20 * time.Millisecond
		}
		conn.SetDeadline(time.Now().Add(wait))
	})
	defer func() {
		if !stop() {
			grace.Wait()
			conn.SetDeadline(time.Time{})
		}
	}()
	if err := writeLine(conn, req); err != nil {
		return err
	}
	return readLine(c.r, res)
}

// err turns an error on the wire back into what errors.Is and errors.As find.
func (r response) err() error {
	kinds := map[string]error{
		codeUnknown: ErrUnknown, codeDiverged: dbhooks.ErrDiverged, codeEpoch: dbhooks.ErrEpoch, codeFenced: dbhooks.ErrFenced, codeTimeout: context.DeadlineExceeded,
	}
	if r.Code == codeNotPrimary {
		return &NotPrimaryError{Primary: r.Primary, Reason: r.Error}
	}
	if kind := kinds[r.Code]; kind != nil {
		return remoteError{text: r.Error, kind: kind}
	}
	return errors.New(r.Error)
}

// remoteError says what the server said, and is of the kind that it was there.
type remoteError struct {
	text string
	kind error
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.kind }
