package demo

import (
	"bufio"
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// A write to Redis is accepted when SET says so, and acknowledged when WAIT saw
// it on a replica. A replica that has just turned to another primary confirms
// nothing for up to a second, by Redis's own clock, whoever makes the switchover;
// so both gaps are measured.

// redisProbes write to every instance; a write counts when it is accepted, or,
// with replicas, when that many have it.
func redisProbes(b *testing.B, addrs []string, replicas int) []put {
	var puts []put
	for _, addr := range addrs {
		client := redisClient(addr)
		b.Cleanup(func() { client.Close() })
		puts = append(puts, func(ctx context.Context, n int) error {
			// WAIT speaks of its own connection.
			conn := client.Conn()
			defer conn.Close()
			if err := conn.Set(ctx, "probe", key(n), 0).Err(); err != nil || replicas == 0 {
				return err
			}
			for {
				got, err := conn.Wait(ctx, replicas, 20*time.Millisecond).Result()
				if err != nil || int(got) >= replicas {
					return err
				}
			}
		})
	}
	return puts
}

func redisClient(addr string) *goredis.Client {
	return goredis.NewClient(&goredis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 4, ReadTimeout: time.Second})
}

func formRedis(b *testing.B) *troupe {
	eng, err := newRedisEngine()
	if err != nil {
		b.Skip(err)
	}
	return form(b, eng, byPerson)
}

// replicas are the two ways to count a write; see above.
var redisWrites = []struct {
	name     string
	replicas int
}{{"accepted", 0}, {"acknowledged", 1}}

// BenchmarkSwitchoverRedis is the longest time without a write around a planned
// switchover of three Redis servers. Compare with BenchmarkByHandRedis, and run
// both with -benchtime=20x or more.
func BenchmarkSwitchoverRedis(b *testing.B) {
	for _, w := range redisWrites {
		b.Run(w.name, func(b *testing.B) {
			c := formRedis(b)
			p := probe(b.Context(), redisProbes(b, services(c.settle()), w.replicas)...)
			defer p.stop()
			c.switchovers(p)
		})
	}
}

// BenchmarkByHandRedis does to the same servers what the fastest person could,
// while the agents are stopped: pause writes, wait until the successor has all,
// promote it, turn the others to it. Nothing is written down, nothing agreed.
func BenchmarkByHandRedis(b *testing.B) {
	for _, w := range redisWrites {
		b.Run(w.name, func(b *testing.B) {
			c := formRedis(b)
			r := c.settle()
			addrs := services(r)
			primary := r.State.Members[r.State.Primary.Node].Services[0].Address
			for _, pid := range c.agents() {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					b.Fatal(err)
				}
				defer syscall.Kill(pid, syscall.SIGCONT)
			}
			servers := map[string]*goredis.Client{}
			for _, addr := range addrs {
				servers[addr] = redisClient(addr)
				defer servers[addr].Close()
				if err := servers[addr].Ping(b.Context()).Err(); err != nil {
					b.Fatal(err)
				}
			}
			p := probe(b.Context(), redisProbes(b, addrs, w.replicas)...)
			defer p.stop()
			var gaps series
			for b.Loop() {
				awaitReplicas(b, servers[primary], len(addrs)-1)
				time.Sleep(50 * time.Millisecond)
				p.restart()
				to := addrs[0]
				if to == primary {
					to = addrs[1]
				}
				byHand(b, servers, primary, to)
				primary = to
				awaitReplicas(b, servers[primary], len(addrs)-1)
				time.Sleep(50 * time.Millisecond)
				gap, _ := p.longest()
				gaps = append(gaps, gap)
			}
			gaps.tell(b, "gap")
		})
	}
}

func byHand(b *testing.B, servers map[string]*goredis.Client, from, to string) {
	b.Helper()
	ctx := b.Context()
	do := func(addr string, args ...any) {
		if err := servers[addr].Do(ctx, args...).Err(); err != nil {
			b.Fatal(errors.New(addr), args, err)
		}
	}
	offset := func(addr string) int64 {
		n, err := strconv.ParseInt(redisInfo(b, servers[addr])["master_repl_offset"], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	do(from, "client", "pause", 30000, "write")
	for at := offset(from); offset(to) < at; {
	}
	do(to, "replicaof", "no", "one")
	host, port, _ := strings.Cut(to, ":")
	for addr := range servers {
		if addr != to {
			do(addr, "replicaof", host, port)
		}
	}
	do(from, "client", "unpause")
}

func redisInfo(b *testing.B, c *goredis.Client) map[string]string {
	b.Helper()
	text, err := c.Info(b.Context(), "replication").Result()
	if err != nil {
		b.Fatal(err)
	}
	in := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		in[name] = value
	}
	return in
}

// awaitReplicas waits until n replicas stream from the server, and confirm.
func awaitReplicas(b *testing.B, c *goredis.Client, n int) {
	b.Helper()
	until := time.Now().Add(patience)
	for {
		in, online := redisInfo(b, c), 0
		for i := range n {
			if strings.Contains(in["slave"+strconv.Itoa(i)], "state=online") && strings.Contains(in["slave"+strconv.Itoa(i)], "lag=0") {
				online++
			}
		}
		if online == n {
			return
		}
		if time.Now().After(until) {
			b.Fatalf("%d of %d replicas stream: %v", online, n, in)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
