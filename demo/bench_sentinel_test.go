package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"ferryman/dbhooks/redis"
	"ferryman/demo/port"
)

// Redis Sentinel, as Debian has it, on the same machine, with the same servers,
// the same writers and the same count of what is lost.

// timings are what a Sentinel and its servers are set to.
type timings struct {
	name              string
	downAfter         time.Duration
	failoverTimeout   time.Duration
	minReplicas       int // to write, and the greatest lag of one that counts, in seconds; 0 is Redis's default
	minReplicasMaxLag int
}

// What is compared. A primary that is cut off goes on writing for its clients
// unless it is told to stop without replicas: what it takes from then on is lost.
// Lowest is one second: a replica reports once a second, and Redis counts whole
// ones, so that it stops within three seconds after the cut (a report just
// before it, a lag of less than two seconds by its own clock, a look once a
// second).
//
//   - default: as sentinel.conf and redis.conf are shipped. Nothing stops it.
//   - fast: it stops, and Sentinel calls it down after one second without an
//     answer, the pace of its own pings. For up to two seconds there can be two
//     that take writes.
//   - safe: it is called down only after those three seconds, so that it has
//     stopped before another is made. That is what safe means here, by clocks as
//     a lease is; what it took within them is lost all the same.
//
// failover-timeout has no part in a failover that goes well. It says when one
// that failed, as after a vote without a majority, is tried again: after twice as
// long. A promoted replica is asked whether it is one once a second, within the
// same time, so that it has to be several seconds.
var (
	sentinelDefault = timings{name: "default", downAfter: 30 * time.Second, failoverTimeout: 180 * time.Second}
	sentinelFast    = timings{name: "fast", downAfter: time.Second, failoverTimeout: 5 * time.Second, minReplicas: 1, minReplicasMaxLag: 1}
	sentinelSafe    = timings{name: "safe", downAfter: 3 * time.Second, failoverTimeout: 5 * time.Second, minReplicas: 1, minReplicasMaxLag: 1}
)

// sentinels are three Redis servers, three Sentinels, and those who write.
type sentinels struct {
	b       *testing.B
	dir     string
	timings timings
	servers []*daemon
	guards  []*daemon // the Sentinels; one is on each server's host
	scribes []*scribes
	deeds   []deeds
	named   deeds // of those writes alone that went to the instance that Sentinels named

	mu    sync.Mutex
	names []naming
}

// naming is what a Sentinel said from then on.
type naming struct {
	at   time.Time
	addr string
}

// daemon is a server that the benchmark runs.
type daemon struct {
	addr, program, conf, log string
	cmd                      *exec.Cmd
	client                   *goredis.Client
}

const watchedName = "bench"

// sentinel starts all of it, and ends it with the benchmark.
func sentinel(b *testing.B, tm timings) *sentinels {
	b.Helper()
	for _, program := range []string{"redis-server", "redis-sentinel"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skip(err)
		}
	}
	w := &sentinels{b: b, dir: b.TempDir(), timings: tm}
	b.Cleanup(func() {
		for _, d := range append(w.servers, w.guards...) {
			d.kill()
		}
	})
	for i := range 3 {
		d := w.daemon("redis-server", i, "repl-diskless-sync-delay 0\nsave \"\"\n"+
			fmt.Sprintf("min-replicas-to-write %d\n", tm.minReplicas))
		if tm.minReplicas > 0 {
			d.append(b, fmt.Sprintf("min-replicas-max-lag %d\n", tm.minReplicasMaxLag))
		}
		if i > 0 {
			d.append(b, w.servers[0].follow())
		}
		w.servers = append(w.servers, d)
		d.start(b)
	}
	host, port, _ := net.SplitHostPort(w.servers[0].addr)
	for i := range 3 {
		d := w.daemon("redis-sentinel", i, fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s %[4]d\nsentinel failover-timeout %[1]s %[5]d\nsentinel parallel-syncs %[1]s 1\n",
			watchedName, host, port, tm.downAfter.Milliseconds(), tm.failoverTimeout.Milliseconds()))
		w.guards = append(w.guards, d)
		d.start(b)
	}
	primary := w.ready()
	var addrs []string
	for _, d := range w.servers {
		addrs = append(addrs, d.addr)
	}
	for _, kind := range redisWrites {
		w.scribes = append(w.scribes, scribe(b, kind.name, addrs, func(addr string) unique { return redisUnique(kind.replicas)(b, addr) }))
	}
	w.deeds = make([]deeds, len(w.scribes))
	w.listen(primary)
	return w
}

func (w *sentinels) daemon(program string, i int, conf string) *daemon {
	addr := port.Free()
	host, port, _ := net.SplitHostPort(addr)
	dir := filepath.Join(w.dir, fmt.Sprintf("%s-%d", program, i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.b.Fatal(err)
	}
	d := &daemon{addr: addr, program: program, conf: filepath.Join(dir, "conf"), log: filepath.Join(dir, "log"), client: redisClient(addr)}
	w.b.Cleanup(func() { d.client.Close() })
	d.append(w.b, fmt.Sprintf("bind %s\nport %s\ndir %s\ndaemonize no\n", host, port, dir)+conf)
	return d
}

// append adds to the configuration; Redis rewrites it, and takes the last word.
func (d *daemon) append(b *testing.B, text string) {
	b.Helper()
	f, err := os.OpenFile(d.conf, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (d *daemon) follow() string {
	host, port, _ := net.SplitHostPort(d.addr)
	return fmt.Sprintf("replicaof %s %s\n", host, port)
}

func (d *daemon) start(b *testing.B) {
	b.Helper()
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(d.program, d.conf)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	d.cmd = cmd
}

// kill returns when the process is gone.
func (d *daemon) kill() {
	if d.cmd != nil {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		d.cmd = nil
	}
}

// until waits until f is content.
func (w *sentinels) until(f func() error) {
	w.b.Helper()
	var err error
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	w.b.Fatalf("%v\n%s", err, w.story(time.Time{}))
}

// ready waits until all Sentinels see the same primary, two replicas and two
// other Sentinels, all of them up, and both replicas stream.
func (w *sentinels) ready() *daemon {
	w.b.Helper()
	var primary *daemon
	w.until(func() error {
		addr := ""
		for _, g := range w.guards {
			a, err := g.content(w.b.Context())
			if err != nil {
				return err
			}
			if addr != "" && a != addr {
				return errors.New("the Sentinels name two primaries")
			}
			addr = a
		}
		i := slices.IndexFunc(w.servers, func(d *daemon) bool { return d.addr == addr })
		if i < 0 {
			return fmt.Errorf("%q is no server", addr)
		}
		primary = w.servers[i]
		for _, d := range w.servers {
			role, err := d.client.Do(w.b.Context(), "role").Slice()
			if err != nil {
				return err
			}
			if want := map[bool]string{true: "master", false: "slave"}[d == primary]; role[0] != want {
				return fmt.Errorf("%s is a %v, not a %s", d.addr, role[0], want)
			}
		}
		return nil
	})
	awaitReplicas(w.b, primary.client, 2)
	return primary
}

// content returns the primary that a Sentinel names, if it misses nothing.
func (d *daemon) content(ctx context.Context) (string, error) {
	m, err := flat(d.client.Do(ctx, "sentinel", "master", watchedName).Result())
	if err != nil {
		return "", err
	}
	if m["flags"] != "master" || m["num-slaves"] != "2" || m["num-other-sentinels"] != "2" {
		return "", fmt.Errorf("Sentinel %s sees a primary that is %s, %s replicas, %s others", d.addr, m["flags"], m["num-slaves"], m["num-other-sentinels"])
	}
	for _, of := range []struct{ what, want string }{{"replicas", "slave"}, {"sentinels", "sentinel"}} {
		list, err := d.client.Do(ctx, "sentinel", of.what, watchedName).Slice()
		if err != nil {
			return "", err
		}
		for _, one := range list {
			if r, err := flat(one, nil); err != nil || r["flags"] != of.want {
				return "", fmt.Errorf("Sentinel %s sees one of the %s as %s (%v)", d.addr, of.what, r["flags"], err)
			}
		}
	}
	return net.JoinHostPort(m["ip"], m["port"]), nil
}

// flat makes a map of Redis's list of names and values.
func flat(answer any, err error) (map[string]string, error) {
	list, ok := answer.([]any)
	if err == nil && (!ok || len(list)%2 != 0) {
		err = fmt.Errorf("%v is no list of pairs", answer)
	}
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for i := 0; i < len(list); i += 2 {
		m[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
	}
	return m, nil
}

// listen keeps asking all Sentinels who the primary is: the newest answer of any
// is what a client that asks them, or hears of a switch, would know.
func (w *sentinels) listen(primary *daemon) {
	w.names = []naming{{time.Time{}, primary.addr}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.b.Context()))
	var owned sync.WaitGroup
	w.b.Cleanup(func() { cancel(); owned.Wait() })
	for _, g := range w.guards {
		said := primary.addr
		client := redisClient(g.addr)
		w.b.Cleanup(func() { client.Close() })
		owned.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(5 * time.Millisecond)
				pair, err := client.Do(ctx, "sentinel", "get-master-addr-by-name", watchedName).StringSlice()
				if err != nil || len(pair) != 2 {
					continue
				}
				if addr := net.JoinHostPort(pair[0], pair[1]); addr != said {
					said = addr
					w.mu.Lock()
					if w.names[len(w.names)-1].addr != addr {
						w.names = append(w.names, naming{time.Now(), addr})
					}
					w.mu.Unlock()
				}
			}
		})
	}
}

// followed are the writes that began at the instance that was named then.
func (w *sentinels) followed(all []written) (out []written) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range all {
		named := ""
		for _, n := range w.names {
			if n.at.After(one.began) {
				break
			}
			named = n.addr
		}
		if one.addr == named {
			out = append(out, one)
		}
	}
	return out
}

// round strikes, waits until another is the primary, mends, and reads back once
// all is as before.
func (w *sentinels) round(strike func(primary *daemon), mend func(lost, primary *daemon)) {
	w.b.Helper()
	primary := w.ready()
	for _, s := range w.scribes {
		s.take()
	}
	time.Sleep(200 * time.Millisecond) // writes before
	began := time.Now()
	strike(primary)
	var next *daemon
	w.until(func() error {
		w.mu.Lock()
		now := w.names[len(w.names)-1].addr
		w.mu.Unlock()
		if now == primary.addr {
			return errors.New("no other primary is named")
		}
		next = w.servers[slices.IndexFunc(w.servers, func(d *daemon) bool { return d.addr == now })]
		for _, s := range w.scribes {
			if !s.at(next.addr, began) {
				return fmt.Errorf("no write is %s by the new primary: %v", s.kind, s.last)
			}
		}
		return nil
	})
	if mend != nil {
		mend(primary, next)
	}
	next = w.ready()
	time.Sleep(50 * time.Millisecond)
	var lines []string
	for i, s := range w.scribes {
		all := s.take()
		read := func(keys []string) (map[string]string, error) {
			return redis.Read(w.b.Context(), next.addr, "", "", keys)
		}
		d, err := reckon(all, read)
		if err != nil {
			w.b.Fatal(err)
		}
		w.deeds[i] = append(w.deeds[i], d)
		lines = append(lines, s.kind+": "+d.String())
		if i == 0 {
			if d, err = reckon(w.followed(all), read); err != nil {
				w.b.Fatal(err)
			}
			w.named = append(w.named, d)
			lines = append(lines, "by the named: "+d.String())
		}
	}
	if os.Getenv("FERRYMAN_BENCH_TRACE") != "" {
		w.b.Logf("%s\n%s", strings.Join(lines, "; "), w.story(began))
	}
}

// at tells whether a write that began later was acknowledged by that instance.
func (s *scribes) at(addr string, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(w written) bool { return w.addr == addr && w.began.After(since) })
}

// story is what the Sentinels said since then, with the milliseconds that have
// passed.
func (w *sentinels) story(since time.Time) string {
	var lines []string
	for i, g := range w.guards {
		raw, _ := os.ReadFile(g.log)
		for line := range strings.Lines(string(raw)) {
			// 1234:X 25 Nov 2026 19:21:31.123 # +sdown master bench 127.0.0.1 1234
			f := strings.Fields(line)
			if len(f) < 7 || !strings.HasPrefix(f[6], "+") && !strings.HasPrefix(f[6], "-") {
				continue
			}
			at, err := time.ParseInLocation("2 Jan 2006 15:04:05.000", strings.Join(f[1:5], " "), time.Local)
			if err != nil || at.Before(since) || strings.HasPrefix(f[6], "+sentinel") {
				continue
			}
			lines = append(lines, fmt.Sprintf("  %7d Sentinel %d %s", at.Sub(since).Milliseconds(), i, strings.Join(f[6:], " ")))
		}
	}
	if !since.IsZero() {
		slices.Sort(lines)
	}
	return strings.Join(lines, "\n")
}

func (w *sentinels) tell() {
	w.b.Helper()
	for i, s := range w.scribes {
		w.deeds[i].tell(w.b, s.kind)
		w.deeds[i] = nil
	}
	w.named.tell(w.b, "named")
	w.named = nil
}

// host is the Sentinel beside a server.
func (w *sentinels) host(d *daemon) *daemon { return w.guards[slices.Index(w.servers, d)] }

// sentinelRounds are the three events. What is started again follows the new
// primary from the start, as a person would have it; by itself it would come up
// as an empty primary, and Sentinel would turn it only after some ten seconds.
func sentinelRounds(b *testing.B, tm timings) {
	w := sentinel(b, tm)
	for _, program := range []string{"redis-server", "redis-sentinel"} {
		if out, err := exec.Command(program, "--version").Output(); err == nil {
			b.Logf("%s: %s", program, strings.TrimSpace(string(out)))
		}
	}
	back := func(lost, primary *daemon) {
		lost.append(b, primary.follow())
		lost.start(b)
	}
	for _, e := range []struct {
		name   string
		strike func(primary *daemon)
		mend   func(lost, primary *daemon)
	}{
		{"process", func(p *daemon) { p.kill() }, back},
		{"host", func(p *daemon) {
			// At once: who is left must not hear from one of the two alone.
			host := w.host(p)
			_ = host.cmd.Process.Kill()
			p.kill()
			host.kill()
		}, func(lost, primary *daemon) {
			w.host(lost).start(b)
			back(lost, primary)
		}},
		{"planned", func(*daemon) {
			if err := w.guards[0].client.Do(b.Context(), "sentinel", "failover", watchedName).Err(); err != nil {
				w.b.Fatal(err)
			}
		}, nil},
	} {
		ok := b.Run(e.name, func(b *testing.B) {
			w.b = b
			for b.Loop() {
				w.round(e.strike, e.mend)
			}
			w.tell()
		})
		if w.b = b; !ok {
			b.FailNow()
		}
	}
}

// BenchmarkSentinelDefault is with the settings that it is shipped with. A round
// takes more than half a minute.
func BenchmarkSentinelDefault(b *testing.B) { sentinelRounds(b, sentinelDefault) }

// BenchmarkSentinelFast is with its fastest; see above.
func BenchmarkSentinelFast(b *testing.B) { sentinelRounds(b, sentinelFast) }

// BenchmarkSentinelSafe is with the fastest under which a primary that is cut
// off stops before another is made.
func BenchmarkSentinelSafe(b *testing.B) { sentinelRounds(b, sentinelSafe) }
