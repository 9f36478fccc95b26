package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Writer writes to whichever instance is the primary; a write is acknowledged once WAIT saw it on a replica. It is for one goroutine.
type Writer struct {
	addrs              func() []string
	username, password string

	primary string // where the last write was acknowledged
	client  *client
	conn    *goredis.Conn // to primary: WAIT speaks of the writes of its own connection
}

// NewWriter returns a writer for a cluster whose instances are, at any moment, those that addrs names.
func NewWriter(addrs func() []string, username, password string) *Writer {
	return &Writer{addrs: addrs, username: username, password: password}
}

// Close closes the connection.
func (w *Writer) Close() error {
	if w.client == nil {
		return nil
	}
	err := errors.Join(w.conn.Close(), w.client.Close())
	w.client, w.conn, w.primary = nil, nil, ""
	return err
}

const (
	// try is how long one instance may take over a write before another is asked: a fenced primary holds its clients.
	try = 250 * time.Millisecond
	// waitReplica is how long one WAIT lasts. Each asks the replicas anew; a replica that only just came back answers nothing older for a second.
	waitReplica = 20 * time.Millisecond
	// between is the pause after every instance was asked in vain.
	between = 2 * time.Millisecond
)

// Put writes until an instance acknowledges it, and returns which. The same key and value may be written more than once on the way. When ctx ends first
// the write may have taken place or not.
func (w *Writer) Put(ctx context.Context, key, value string) (addr string, err error) {
	last := errors.New("no instance is known")
	ticker := time.NewTicker(between)
	defer ticker.Stop()
	for {
		addrs := w.addrs()
		if w.primary != "" {
			addrs = append([]string{w.primary}, addrs...)
		}
		for _, addr := range addrs {
			err := w.put(ctx, addr, key, value)
			if err == nil {
				return addr, nil
			}
			if w.Close(); ctx.Err() == nil {
				last = fmt.Errorf("%s: %w", addr, err)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", fmt.Errorf("write %s: %w; last: %w", key, ctx.Err(), last)
		}
	}
}

func (w *Writer) put(ctx context.Context, addr, key, value string) error {
	ctx, cancel := context.WithTimeout(ctx, try)
	defer cancel()
	if w.primary != addr {
		w.Close()
		client, err := connect(ctx, addr, w.username, w.password)
		if err != nil {
			return err
		}
		w.client, w.conn, w.primary = client, client.Conn(), addr
	}
	if err := w.conn.Set(ctx, key, value, 0).Err(); err != nil {
		return err
	}
	return waitForReplica(ctx, w.conn)
}

func waitForReplica(ctx context.Context, conn *goredis.Conn) error {
	for {
		n, err := conn.Wait(ctx, 1, waitReplica).Result()
		if err != nil || n > 0 {
			return err
		}
	}
}
