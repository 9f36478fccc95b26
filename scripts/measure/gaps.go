package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"ferryman"
	"ferryman/dbhooks/demodb"
	"ferryman/dbhooks/redis"
)

// putter is a client that finds the primary among the instances.
type putter interface {
	Put(ctx context.Context, key, value string) (addr string, err error)
	Close() error
}

// longestGap writes one key after the other, runs f after some writes, goes on for as many, and returns the longest time between two acknowledged
// writes.
func longestGap(ctx context.Context, w putter, f func() error) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var longest time.Duration
	count := 0
	last := time.Now()
	wrote := make(chan struct{}, 1)
	var wg sync.WaitGroup
	var broken error
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, err := w.Put(ctx, fmt.Sprintf("measure-%d", i%100), fmt.Sprint(i))
			if ctx.Err() != nil {
				return
			}
			mu.Lock()
			if err != nil {
				broken = err
			} else {
				now := time.Now()
				if count > 0 {
					longest = max(longest, now.Sub(last))
				}
				last = now
				count++
			}
			mu.Unlock()
			select {
			case wrote <- struct{}{}:
			default:
			}
		}
	})
	more := func(n int) error {
		mu.Lock()
		until := count + n
		mu.Unlock()
		for {
			select {
			case <-wrote:
			case <-ctx.Done():
				return ctx.Err()
			}
			mu.Lock()
			done, err := count >= until, broken
			mu.Unlock()
			if done || err != nil {
				return err
			}
		}
	}
	err := more(50)
	if err == nil {
		err = f()
	}
	if err == nil {
		err = more(50)
	}
	cancel()
	wg.Wait()
	return longest, err
}

// switchovers is the longest write gap of a planned switchover, as `ferryman switchover` asks for one.
func (c *cluster) switchovers(ctx context.Context, out io.Writer, n int) error {
	r, err := c.settled(ctx)
	if err != nil {
		return err
	}
	var addrs []string
	for _, m := range r.State.Members {
		addrs = append(addrs, m.Services[0].Address)
	}
	engine := r.State.Accepted.Document.Database.Engine
	w, err := newPutter(engine, addrs)
	if err != nil {
		return err
	}
	defer w.Close()
	var gaps []float64
	for range n {
		r, err := c.settled(ctx)
		if err != nil {
			return err
		}
		gap, err := longestGap(ctx, w, func() error { return c.switchover(ctx, r) })
		if err != nil {
			return err
		}
		gaps = append(gaps, ms(gap))
	}
	tell(out, engine+": longest write gap of a planned switchover", "ms", gaps)
	return nil
}

func newPutter(engine string, addrs []string) (putter, error) {
	known := func() []string { return addrs }
	switch engine {
	case "demodb":
		return demodb.NewWriter(known), nil
	case "redis":
		return redis.NewWriter(known, "", ""), nil
	}
	return nil, fmt.Errorf("no client of %s is known", engine)
}

// switchover makes a replica the primary, and waits for it.
func (c *cluster) switchover(ctx context.Context, r ferryman.Report) error {
	var target ferryman.Member
	for id, m := range r.State.Members {
		if id != r.State.Primary.Node && (target.ID == "" || m.Name < target.Name) {
			target = m
		}
	}
	client, err := c.dial(r.State.Members[r.View.Self].Name)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Request(ctx, ferryman.Request{Kind: ferryman.RequestSwitchover, Node: target.Name, By: "measure"}); err != nil {
		return err
	}
	_, err = c.until(ctx, func(r ferryman.Report) error {
		if r.State.Primary.Node != target.ID {
			return fmt.Errorf("%s was asked to be the primary, and %s is", target.Name, r.State.Members[r.State.Primary.Node].Name)
		}
		return quiet(r)
	})
	return err
}
