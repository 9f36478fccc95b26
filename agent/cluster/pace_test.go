package cluster_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferryman/agent/cluster"
)

func TestPace(t *testing.T) {
	t.Parallel()
	d := cluster.NewConfig()
	for _, tt := range []struct {
		name                       string
		from                       cluster.Config
		ttl                        time.Duration
		heartbeat, election, lease time.Duration
	}{
		{"without a lease", d, 0, d.Heartbeat, d.Election, d.Lease},
		{"without one any more", d.ForLease(time.Second), 0, d.Heartbeat, d.Election, d.Lease},
		{"the shortest", d, time.Second, 100 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond},
		{"an ordinary one", d, 5 * time.Second, 500 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond},
		{"a long one is no reason to be slow", d, time.Minute, d.Heartbeat, d.Heartbeat, d.Heartbeat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.from.Pace(tt.ttl)
			if got.Heartbeat != tt.heartbeat || got.Election != tt.election || got.Lease != tt.lease {
				t.Errorf("got %v, %v, %v; want %v, %v, %v", got.Heartbeat, got.Election, got.Lease, tt.heartbeat, tt.election, tt.lease)
			}
			got.ID, got.Address = "n1", "n1:7400"
			if err := got.Validate(); err != nil {
				t.Error(err)
			}
			if tt.ttl > 0 && 5*got.Heartbeat > tt.ttl/2 { // see ForLease
				t.Errorf("an election may take %v, more than half of %v", 5*got.Heartbeat, tt.ttl)
			}
		})
	}
}

// TestFollow has raft's timings follow a lease while it runs, and says what is
// left for the next start.
func TestFollow(t *testing.T) {
	t.Parallel()
	d := cluster.NewConfig()
	for _, tt := range []struct {
		name   string
		starts time.Duration // the lease that it was started for
		ttls   []time.Duration
		slow   string
	}{
		{"none", 0, []time.Duration{0}, ""},
		{"an ordinary one", 0, []time.Duration{5 * time.Second}, ""},
		{"one that asks for more than raft can change", 0, []time.Duration{time.Second}, "agent.restartGeneration"},
		{"it was started for", time.Second, []time.Duration{time.Second}, ""},
		{"until that is over", 0, []time.Duration{time.Second, 0}, ""},
		{"and again", 0, []time.Duration{time.Second, 10 * time.Second, time.Second}, "a heartbeat of 500ms instead of 100ms"},
		{"a longer one than it was started for", time.Second, []time.Duration{10 * time.Second}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newPacedGroup(t, d.Pace(tt.starts), 3, 3)
				g.leader()
				for _, m := range g.members {
					if m.node.Slow() != "" {
						t.Errorf("before: %s", m.node.Slow())
					}
					for _, ttl := range tt.ttls {
						if err := m.node.Follow(ttl); err != nil {
							t.Fatal(err)
						}
					}
					if got := m.node.Slow(); (got == "") != (tt.slow == "") || !strings.Contains(got, tt.slow) {
						t.Errorf("got %q, want %q", got, tt.slow)
					}
				}
				_, l := g.leader()
				g.propose(l, "it still commits")
			})
		})
	}
}

// A lost leader is missed as soon as the lease wants, without a restart.
func TestFollowHastensElections(t *testing.T) {
	t.Parallel()
	const ttl = 6 * time.Second
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, 3)
		old, _ := g.leader()
		for _, m := range g.members {
			if err := m.node.Follow(ttl); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second) // the timers that run end first
		g.network.Isolate(old.address)
		began := time.Now()
		g.leader(old)
		if took := time.Since(began); took >= ttl/2 {
			t.Errorf("the election took %v, with a lease of %v", took, ttl)
		}
	})
}
