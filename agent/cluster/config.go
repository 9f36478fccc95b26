package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// MaxEntry is the most bytes that one proposal may have, and so what bounds a
// message between nodes.
const MaxEntry = 256 << 10

// maxEntriesPerMessage bounds an AppendEntries message to 4 MiB.
const maxEntriesPerMessage = 16

// commitTimeout is how long (up to twice as long: raft adds chance) a leader
// without anything to append waits before it tells the others how far is
// committed, and before it tries again to reach one that it lost. Raft's default
// of 50 ms was the greater part of what an idle leader did. It can be rare,
// because spread tells of each commit at once.
const commitTimeout = 500 * time.Millisecond

// enqueueTimeout is how long raft's main loop may take to accept a request.
const enqueueTimeout = 5 * time.Second

// Config is what a node is and how fast it reacts.
type Config struct {
	// ID is the node's identity for all time; an empty disk gets a new one.
	ID string
	// Address is where the other nodes reach this one, host:port.
	Address string

	// Heartbeat is how long a follower waits for its leader before it asks for
	// an election (up to twice as long: raft adds chance).
	Heartbeat time.Duration
	// Election is how long a candidate waits before it tries again.
	Election time.Duration
	// Lease is how long a leader may be without contact to a majority before
	// it steps down. Always Lease ≤ Heartbeat ≤ Election.
	Lease time.Duration

	// SnapshotThreshold is the number of entries after which the log is
	// replaced by a snapshot; as many stay in the log for followers that lag.
	SnapshotThreshold uint64
	// SnapshotInterval is how often that is looked at (up to twice as long).
	SnapshotInterval time.Duration
}

// NewConfig returns every default; ID and Address have none.
func NewConfig() Config {
	return Config{
		Heartbeat:         time.Second,
		Election:          time.Second,
		Lease:             500 * time.Millisecond,
		SnapshotThreshold: 1024,
		SnapshotInterval:  time.Minute,
	}
}

// ForLease returns c with timings under which the usual election ends in less
// than half of ttl, the lease of the database's primary: a follower notices
// within three heartbeats (its timer runs for one to two, and starts anew if
// the leader was heard in the meantime), and one split vote costs two more.
// The timings are never slower than the defaults. A leader may be without
// contact for as long as a follower is: less would let it step down for a
// moment's lack of processor, and each new leader waits for the whole lease.
func (c Config) ForLease(ttl time.Duration) Config {
	d := NewConfig()
	c.Heartbeat = min(ttl/10, d.Heartbeat)
	c.Election = c.Heartbeat
	c.Lease = c.Heartbeat
	return c
}

// Pace is ForLease for the lease of an enforced automatic failover, and the
// defaults where there is none (zero).
func (c Config) Pace(ttl time.Duration) Config {
	if ttl > 0 {
		return c.ForLease(ttl)
	}
	d := NewConfig()
	c.Heartbeat, c.Election, c.Lease = d.Heartbeat, d.Election, d.Lease
	return c
}

// Validate reports everything that cannot work.
func (c Config) Validate() error {
	var errs []error
	if c.ID == "" {
		errs = append(errs, errors.New("the node has no id"))
	}
	if c.Address == "" {
		errs = append(errs, errors.New("the node has no address that others can reach"))
	}
	if c.Lease < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("lease %v: less than 10ms is shorter than a network's own delays", c.Lease))
	}
	if c.Lease > c.Heartbeat || c.Heartbeat > c.Election {
		errs = append(errs, fmt.Errorf("lease %v, heartbeat %v, election %v: each must be at most the next", c.Lease, c.Heartbeat, c.Election))
	}
	if c.SnapshotThreshold == 0 || c.SnapshotInterval < 5*time.Millisecond {
		errs = append(errs, fmt.Errorf("snapshots every %d entries, looked at every %v: both must be more than nothing", c.SnapshotThreshold, c.SnapshotInterval))
	}
	return errors.Join(errs...)
}

// raft is the configuration in raft's own words.
func (c Config) raft() *raft.Config {
	r := raft.DefaultConfig()
	r.ProtocolVersion = 3
	r.LocalID = raft.ServerID(c.ID)
	r.HeartbeatTimeout = c.Heartbeat
	r.ElectionTimeout = c.Election
	r.LeaderLeaseTimeout = c.Lease
	r.CommitTimeout = commitTimeout
	r.MaxAppendEntries = maxEntriesPerMessage
	r.SnapshotThreshold = c.SnapshotThreshold
	r.SnapshotInterval = c.SnapshotInterval
	r.TrailingLogs = c.SnapshotThreshold
	// A node that was removed goes on as a node without a vote and says so; it
	// does not vanish.
	r.ShutdownOnRemove = false
	r.NoLegacyTelemetry = true
	return r
}
