package demo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"ferryman"
)

// redisPutter writes to one Redis. A write is accepted when SET says so, and
// acknowledged when WAIT saw it on a replica.
type redisPutter struct {
	wait   bool
	client *goredis.Client
	conn   *goredis.Conn // WAIT speaks of its own connection
}

func openRedis(wait bool) func(addr string) putter {
	return func(addr string) putter {
		p := &redisPutter{wait: wait, client: redisClient(addr)}
		p.conn = p.client.Conn()
		return p
	}
}

func (p *redisPutter) close() {
	p.conn.Close()
	p.client.Close()
}

func (p *redisPutter) put(ctx context.Context, key, value string) (outcome, time.Time) {
	err := p.conn.Set(ctx, key, value, 0).Err()
	at := time.Now()
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), err != nil && slices.Contains(redisRefusals, firstWord(err.Error())):
		p.again()
		return refused, at
	case err != nil:
		p.again()
		return unknown, at
	case !p.wait:
		return accepted, at
	}
	for ctx.Err() == nil {
		n, err := p.conn.Wait(ctx, 1, 20*time.Millisecond).Result()
		if err == nil && n > 0 {
			return acknowledged, at
		}
		if err != nil {
			break
		}
	}
	p.again()
	return accepted, at
}

// again takes another connection: one that has failed stays so.
func (p *redisPutter) again() {
	p.conn.Close()
	p.conn = p.client.Conn()
}

// redisRefusals are the first words of the answers after which nothing was
// written.
var redisRefusals = []string{"READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED"}

func firstWord(text string) string {
	first, _, _ := strings.Cut(text, " ")
	return first
}

func realRedis(t *testing.T) engine {
	t.Helper()
	eng, err := newRedisEngine()
	if err != nil {
		t.Skipf("%v; scripts/lab/test installs one and runs this", err)
	}
	return eng
}

// Real Redis servers lose their primary in every way, while one client asks
// WAIT for a replica and another takes Redis at its word. Of what WAIT confirmed
// nothing may be lost with the primary alone; of the other, in each epoch at most
// maxLagBytes, counted as the bytes of the commands that the primary passes on.
func TestRedisKeepsItsPromises(t *testing.T) {
	t.Parallel()
	c, e := watchedOf(t, realRedis(t), 2*time.Second, backOnDisk, openRedis(true))
	c.doc.Database.Failover.MaxLagBytes = 64 << 10 // what its client writes in half a second, and several looks of the leader
	c.change(t)
	c.guard(t)
	plain := c.recording(t, "b", accepted, openRedis(false))
	for _, s := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"hosts are lost", func(t *testing.T) { c.hostsLost(t, e, rounds(2, 10)) }}, // the first primary of all among them
		{"switchovers", func(t *testing.T) { c.switchovers(t, e, rounds(2, 10)) }},
		{"databases are killed", func(t *testing.T) { c.databasesKilled(t, e, rounds(1, 5)) }},
	} {
		if !t.Run(s.name, s.do) {
			return
		}
	}
	e.verdict(t, c)
	_, lost := plain.verdict(t, c)
	writes, reigns := plain.record(t)
	found, _ := unlawful(writes, reigns)
	limit, most := int(c.doc.WithDefaults().Database.Failover.MaxLagBytes), 0
	for epoch, n := range lostBytes(writes, found, reigns, lost) {
		if most = max(most, n); n > limit {
			t.Errorf("with epoch %d %d bytes of accepted writes are lost, and maxLagBytes is %d", epoch, n, limit)
		}
	}
	t.Logf("of the writes that Redis alone vouched for, %d are lost, at most %d bytes in an epoch; maxLagBytes is %s", len(lost), most, ferryman.Bytes(limit))
	c.checkWrites(t)
}

// What docs/decisions/0004-one-primary.md leaves out is done on purpose: agent,
// guard and standby are all stopped while the database goes on. Redis takes
// writes without a replica, and so there are two primaries, which the client must
// find. It ends when any of the three goes on.
func TestTheClientFindsASecondPrimary(t *testing.T) {
	t.Parallel()
	c, e := watchedFor(t, accepted, realRedis(t), 2*time.Second, backOnDisk, openRedis(false))
	before := c.guard(t)
	host := primaryHost(before)
	old := before.State.Members[before.State.Primary.Node].Services[0].Address
	e.lawful(t)
	w := c.strike(t, host, stops(theStandby), stops(theGuard), stops(theAgent))
	after, _ := c.succeededBy(t, e, before)
	eventually(t, "the old primary takes a write, too", func() error {
		writes := e.written()
		if !slices.ContainsFunc(writes, func(w attempt) bool { return w.taken() && w.instance == old && w.sent.After(after.State.Primary.Since) }) {
			return errors.New("it has not")
		}
		return nil
	})
	_, problems := unlawful(e.record(t))
	if !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, old+" took ") }) {
		t.Errorf("two primaries took writes, and the checker found %d problems, and none of the old primary's: %q", len(problems), problems[:min(1, len(problems))])
	} else {
		t.Logf("the checker found %d writes that were not to be taken, the first: %s", len(problems), problems[0])
	}
	w.heal(t)
	c.guard(t)
	healed := time.Now()
	c.write(t)
	for _, w := range e.written() {
		if w.taken() && w.instance == old && w.sent.After(healed) {
			t.Fatalf("%s still takes writes: %s", old, w.key)
		}
	}
}
