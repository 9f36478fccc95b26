// Package fake is a database with one primary in memory: replication, positions, histories, epochs, fences, and faults that can be asked for. It is
// deterministic and uses nothing but memory and the time package, so that it runs in virtual time. It keeps the rules of package dbhooks.
package fake

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

// Faults are what is wrong with an instance, or with a version.
type Faults struct {
	NoStart     string        // the process ends at once, having said this
	CrashAfter  time.Duration // it ends this long after it came up
	Hang        bool          // nothing is answered until the caller gives up
	SlowCatchUp time.Duration // a replica receives nothing for this long after its start
	LieHealthy  bool          // a replica receives nothing, and says that all is well
	Unhealthy   string        // it says so itself
	Blockers    []string      // why it must not be stopped
}

func (f Faults) or(o Faults) Faults {
	if f.NoStart == "" {
		f.NoStart = o.NoStart
	}
	if f.Unhealthy == "" {
		f.Unhealthy = o.Unhealthy
	}
	f.CrashAfter = max(f.CrashAfter, o.CrashAfter)
	f.SlowCatchUp = max(f.SlowCatchUp, o.SlowCatchUp)
	f.Hang, f.LieHealthy = f.Hang || o.Hang, f.LieHealthy || o.LieHealthy
	f.Blockers = slices.Concat(f.Blockers, o.Blockers)
	return f
}

// Cluster is the network between instances, and what their clients were promised.
type Cluster struct {
	mu       sync.Mutex
	engines  map[string]*Engine
	lag      time.Duration
	volatile bool
	sync     int
	cut      map[[2]string]bool
	versions map[string]Faults
	acked    []string
}

// NewCluster returns a network without instances.
func NewCluster() *Cluster {
	return &Cluster{engines: map[string]*Engine{}, cut: map[[2]string]bool{}, versions: map[string]Faults{}}
}

// Engine returns the instance at address, which is made on the first call. It is a host's disk and process: it outlives agents.
func (c *Cluster) Engine(address string) *Engine {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.engines[address]
	if e == nil {
		e = &Engine{c: c, address: address, calls: map[ferryman.Op]int{}}
		c.engines[address] = e
	}
	return e
}

// Lag sets how long an entry takes to a replica.
func (c *Cluster) Lag(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag = d
}

// Volatile sets whether the data are in memory only, so that a process that is killed loses them.
func (c *Cluster) Volatile(volatile bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.volatile = volatile
}

// Sync sets how many replicas must have a write before it is acknowledged; 0 by default.
func (c *Cluster) Sync(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sync = n
}

// Cut separates two instances, or joins them again.
func (c *Cluster) Cut(a, b string, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replicate()
	c.cut[[2]string{a, b}], c.cut[[2]string{b, a}] = cut, cut
}

// Version gives every process of that version a fault.
func (c *Cluster) Version(version string, f Faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.versions[version] = f
}

// Write writes to the instance at address. Without an error the write is acknowledged.
func (c *Cluster) Write(address, value string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.engines[address]
	switch {
	case e == nil || !e.running:
		return fmt.Errorf("write to %s: %w: it does not run", address, ferryman.ErrUnavailable)
	case e.bad().Hang:
		return fmt.Errorf("write to %s: %w: it does not answer", address, ferryman.ErrUnavailable)
	case !e.writable:
		return fmt.Errorf("write to %s: %w: it is not the primary", address, ferryman.ErrRefused)
	}
	e.add(entry{value: value})
	c.replicate()
	if has := len(e.replicas()); has < c.sync {
		return fmt.Errorf("write to %s: %w: %d replicas have it, %d must", address, ferryman.ErrUnavailable, has, c.sync)
	}
	c.acked = append(c.acked, value)
	return nil
}

// Primaries are the addresses that accept writes now: never more than one.
func (c *Cluster) Primaries() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, address := range slices.Sorted(maps.Keys(c.engines)) {
		if e := c.engines[address]; e.running && e.writable {
			out = append(out, address)
		}
	}
	return out
}

// Acknowledged is how many writes were.
func (c *Cluster) Acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// Missing are the acknowledged writes that the instance at address does not hold.
func (c *Cluster) Missing(address string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replicate()
	holds := map[string]bool{}
	if e := c.engines[address]; e != nil {
		for _, x := range e.log {
			holds[x.value] = true
		}
	}
	var out []string
	for _, v := range c.acked {
		if !holds[v] {
			out = append(out, v)
		}
	}
	return out
}

// entry is one of a log: a write, or the beginning of a history.
type entry struct {
	value   string
	history string
	at      time.Time
	sum     uint64 // of this entry and all before it: equal sums are equal logs
}

// replicate brings every replica to where it is now. It is called before anything is looked at or changed. c.mu is held.
func (c *Cluster) replicate() {
	addresses := slices.Sorted(maps.Keys(c.engines))
	// A chain of replicas needs a round a link.
	for moved := true; moved; {
		moved = false
		for _, address := range addresses {
			moved = c.engines[address].receive() || moved
		}
	}
}

// receive takes what has arrived from whom it follows.
func (e *Engine) receive() (moved bool) {
	f := e.bad()
	source := e.c.engines[e.marker.From]
	if !e.running || e.primary || source == nil || len(e.log) == 0 {
		e.streaming, e.diverged = false, false
		return false
	}
	switch {
	case !source.running || len(source.log) == 0 || source.bad().Hang || e.c.cut[[2]string{e.address, source.address}], f.Hang, f.LieHealthy,
		time.Since(e.started) < f.SlowCatchUp:
		e.streaming = false
		return false
	case !e.partOf(source):
		e.streaming, e.diverged = false, true
		return false
	}
	e.diverged = false
	for _, x := range source.log[len(e.log):] {
		if e.c.lag > 0 && time.Since(x.at) < e.c.lag {
			break
		}
		e.log = append(e.log, x)
		moved = true
	}
	// Caught up once with what was there when it connected: what came within the lag does not count against it.
	e.streaming = true
	return moved
}

// partOf tells whether the log of e is the beginning of that of o.
func (e *Engine) partOf(o *Engine) bool {
	n := len(e.log)
	return n <= len(o.log) && (n == 0 || e.log[n-1].sum == o.log[n-1].sum)
}

func (e *Engine) add(x entry) {
	h := fnv.New64a()
	var before uint64
	if n := len(e.log); n > 0 {
		before = e.log[n-1].sum
	}
	fmt.Fprintf(h, "%d %q %q", before, x.value, x.history)
	x.sum, x.at = h.Sum64(), time.Now()
	e.log = append(e.log, x)
}

// replicas are the addresses of those that stream from e and hold all that it holds.
func (e *Engine) replicas() []string {
	var out []string
	for _, address := range slices.Sorted(maps.Keys(e.c.engines)) {
		if o := e.c.engines[address]; o.streaming && o.marker.From == e.address && len(o.log) == len(e.log) {
			out = append(out, address)
		}
	}
	return out
}

var _ dbhooks.Engine = (*Engine)(nil)
