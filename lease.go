package ferryman

import "time"

// Lease is the primary's right to accept writes, as it is committed: what is
// granted, and how long it takes until nothing granted can run any more. How
// often it is renewed is between the two agents and never committed.
type Lease struct {
	// Serial tells it from the leases of before, which ended when failover became
	// manual. Whoever holds one of those may be about to let it go.
	Serial uint64 `json:"serial,omitempty"`
	// Length is what each grant runs for from now on.
	Length Duration `json:"length"`
	// Longest is the longest that a grant given so far may still run: at least
	// Length, and more for a while after Length was made shorter.
	Longest Duration `json:"longest"`
	// Enforced tells that the primary was seen to hold the lease under an armed
	// guard. From then on nothing accepts writes without one, and a primary whose
	// lease ran out is replaced.
	Enforced bool `json:"enforced,omitempty"`
}

// The bounds of failover.leaseTTL.
const (
	MinLeaseTTL = Duration(time.Second)
	MaxLeaseTTL = Duration(time.Minute)
)

// RestartLease is the least length of the lease that a primary takes before its
// agent is restarted on purpose: longer than a restart takes.
const RestartLease = Duration(30 * time.Second)

// Over is how long after its last grant no lease can run any more, as the
// leader counts: a tenth more than the longest. Two clocks whose rates differ
// by less than one part in 21 each from true time agree on that: 22/20 is a tenth
// more. What the guard has to kill, the Allowance, is over before.
func (l Lease) Over() time.Duration { return l.Longest.Std() + l.Longest.Std()/10 }

// Allowance is how long before its end a lease of this length counts as over
// for the guard: the time it has to kill.
func Allowance(length time.Duration) time.Duration { return min(length/10, time.Second) }

// LeaseStatus is the lease as the primary's agent holds it, with its guard armed.
type LeaseStatus struct {
	Epoch uint64 `json:"epoch"`
	// Serial is that of the Lease which the node's own state held when it asked.
	Serial uint64 `json:"serial,omitempty"`
	// Length is that of the newest grant.
	Length Duration `json:"length"`
}

// LeaseView is what a leader knows of the primary's lease, by its own clock
// that also counts while the host sleeps.
type LeaseView struct {
	// Epoch is that of the primary of which the rest is said.
	Epoch uint64 `json:"epoch"`
	// Quiet is how long this leader has given it no grant, at most since it leads
	// and since it first saw the epoch.
	Quiet Duration `json:"quiet"`
	// Steady is how long the committed Length has been Length, at most since this
	// leader leads.
	Steady Duration `json:"steady"`
	Length Duration `json:"length"`
	// Closed is the FirstStep of the failover that was committed when Quiet was
	// read; zero while there was none. Under a failover no grant is given, so that
	// a Quiet which was read under it only grows.
	Closed uint64 `json:"closed,omitempty"`
}
