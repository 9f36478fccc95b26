package demodb

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Writer writes to whichever instance is the primary. It is for one goroutine.
type Writer struct {
	addrs   func() []string
	clients map[string]*Client
	primary string // where the last write was acknowledged, or where it is said to be
}

// NewWriter returns a writer for a cluster whose instances are, at any moment, those that addrs names.
func NewWriter(addrs func() []string) *Writer {
	return &Writer{addrs: addrs, clients: map[string]*Client{}}
}

// Close closes the connections.
func (w *Writer) Close() error {
	var errs []error
	for _, c := range w.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// try is how long one instance may take over a write before another is asked: a hung or fenced-off primary must not hold the writer for ever.
const try = time.Second

// Put writes until an instance acknowledges it, and returns which. The same key and value may be written more than once on the way. When ctx ends first
// the write may have taken place or not.
func (w *Writer) Put(ctx context.Context, key, value string) (addr string, err error) {
	last := errors.New("no instance is known")
	for {
		for _, addr := range w.order() {
			attempt, cancel := context.WithTimeout(ctx, try)
			err := w.client(addr).Put(attempt, key, value)
			cancel()
			if err == nil {
				w.primary = addr
				return addr, nil
			}
			if ctx.Err() != nil {
				return "", fmt.Errorf("write %s: %w; last: %w", key, ctx.Err(), last)
			}
			last = err
			w.primary = ""
			var not *NotPrimaryError
			if errors.As(err, &not) && not.Primary != "" && not.Primary != addr {
				w.primary = not.Primary
			}
		}
		if !pause(ctx, 2*time.Millisecond) {
			return "", fmt.Errorf("write %s: %w; last: %w", key, ctx.Err(), last)
		}
	}
}

// order is who is asked: the supposed primary first, then everybody.
func (w *Writer) order() []string {
	all := w.addrs()
	if w.primary == "" {
		return all
	}
	return append([]string{w.primary}, all...)
}

func (w *Writer) client(addr string) *Client {
	c := w.clients[addr]
	if c == nil {
		c = Dial(addr)
		w.clients[addr] = c
	}
	return c
}
