package cluster

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Follow has raft's timings follow the primary's lease while it runs; zero is
// none. Raft cannot change its leader's own lease while it runs, and does not
// take a heartbeat that is shorter: what is left for the next start of the
// agent, Slow says.
func (n *Node) Follow(ttl time.Duration) error {
	want := n.cfg.Pace(ttl)
	heartbeat := max(want.Heartbeat, n.cfg.Lease)
	slow := ""
	if heartbeat > want.Heartbeat {
		slow = fmt.Sprintf("elections take longer than the primary's lease of %s wants (a heartbeat of %s instead of %s), until this agent is restarted: raise agent.restartGeneration in the desired state",
			ttl, heartbeat, want.Heartbeat)
	}
	n.slow.Store(&slow)
	err := n.raft.ReloadConfig(raft.ReloadableConfig{
		TrailingLogs:      n.cfg.SnapshotThreshold,
		SnapshotInterval:  n.cfg.SnapshotInterval,
		SnapshotThreshold: n.cfg.SnapshotThreshold,
		HeartbeatTimeout:  heartbeat,
		ElectionTimeout:   max(want.Election, heartbeat),
	})
	if err != nil {
		return fmt.Errorf("raft's timings for a lease of %s: %w", ttl, err)
	}
	return nil
}

// Slow says why raft's timings are longer than the lease wants; empty when they
// are not.
func (n *Node) Slow() string {
	if s := n.slow.Load(); s != nil {
		return *s
	}
	return ""
}
