package demo

import (
	"context"
	"errors"
	"syscall"
	"time"

	"ferryman/dbhooks/redis"

	goredis "github.com/redis/go-redis/v9"
)

// locked is Redis on a network, which takes no connection without a password.
type locked struct{ engine }

const password = "of a test"

func (locked) writer(addrs func() []string) keyWriter { return redis.NewWriter(addrs, "", password) }

func (locked) read(ctx context.Context, addr string, keys []string) (map[string]string, error) {
	return redis.Read(ctx, addr, "", password, keys)
}

// lockedPutter writes to one Redis. A write is acknowledged once a replica has
// it, and accepted before: Redis takes it either way.
type lockedPutter struct{ client *goredis.Client }

func openLocked(addr string) putter {
	return lockedPutter{goredis.NewClient(&goredis.Options{Addr: addr, Password: password, PoolSize: 1, MaxRetries: -1, DialTimeout: tooLong, ContextTimeoutEnabled: true, DisableIdentity: true})}
}

func (p lockedPutter) close() { p.client.Close() }

// forReplica is how long a client waits for a replica to have its write: less
// than a lease, so that it writes on while the primary is cut off.
const forReplica = 100 * time.Millisecond

func (p lockedPutter) put(ctx context.Context, key, value string) (outcome, time.Time) {
	conn := p.client.Conn() // WAIT speaks of the writes of its own connection
	defer conn.Close()
	err := conn.Set(ctx, key, value, 0).Err()
	at := time.Now()
	var answer goredis.Error
	switch {
	case err == nil:
	case errors.As(err, &answer) || errors.Is(err, syscall.ECONNREFUSED):
		return refused, at
	default:
		return unknown, at
	}
	if n, err := conn.Wait(ctx, 1, forReplica).Result(); err == nil && n > 0 {
		return acknowledged, at
	}
	return accepted, at
}
