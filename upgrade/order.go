package upgrade

import (
	"cmp"
	"slices"

	"ferryman"
)

// Order sorts the nodes that a part has still to carry: those that are down
// already first, since they cost nothing more; then by tier, replicas before
// the primary, and for agents Raft's leader last. Ties go by name, so that a
// new leader chooses the same.
func Order(part ferryman.Part, tiers []string, nodes []Node) {
	rank := func(n Node) int {
		switch {
		case n.Down != "":
			return -1
		case part == ferryman.PartAgents && n.Leader:
			return 1 << 20
		case part == ferryman.PartAgents && n.Suffrage == ferryman.Voter:
			return 1
		case part == ferryman.PartAgents:
			return 0
		}
		r := 0
		for _, s := range n.Member.Services {
			r = max(r, 2*slices.Index(tiers, s.Tier))
		}
		if n.Primary {
			r++
		}
		return r
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name(), b.Name()))
	})
}

// Successor chooses the node that takes the primary's place in a planned
// switchover: streaming and healthy, preferably carried already, then the one
// that has most. It returns false when nobody qualifies now, with the reason.
func Successor(nodes []Node, p ferryman.Primary, primary ferryman.ServiceStatus, goal ferryman.Target) (Node, string, bool) {
	var best Node
	found, why := false, "there is no other node with services"
	score := func(n Node) []int64 {
		s, _ := n.View.Status.Service(p.Slot)
		carried, follower := int64(0), int64(0)
		if Runs(s, goal) {
			carried = 1
		}
		if !n.Leader {
			follower = 1
		}
		return []int64{carried, int64(s.Instance.Position >> 16), follower}
	}
	for _, n := range nodes {
		if n.ID() == p.Node || n.Member.Witness {
			continue
		}
		if reason := CannotSucceed(n, p, primary); reason != "" {
			why = reason
			continue
		}
		if !found || slices.Compare(score(n), score(best)) > 0 {
			best, found = n, true
		}
	}
	return best, why, found
}

// CannotSucceed says why a node cannot become the primary in a planned
// switchover now; empty when it can.
func CannotSucceed(n Node, p ferryman.Primary, primary ferryman.ServiceStatus) string {
	s, ok := n.View.Status.Service(p.Slot)
	switch {
	case n.Member.Want != ferryman.WantActive:
		return n.Name() + " is wanted " + string(n.Member.Want)
	case n.Carried:
		return n.Name() + " is being carried"
	case n.Down != "":
		return n.Name() + ": " + n.Down
	case !ok:
		return n.Name() + " has no service " + p.Slot
	case !s.Instance.Streaming || !Follows(s, primary, p): // it may still stream from an earlier one
		return n.Name() + " does not stream from the primary"
	case p.Lease != nil && s.Unit.Unfit != "":
		return n.Name() + ": " + s.Unit.Unfit
	case s.Instance.Diverged:
		return n.Name() + " has data that the primary does not have"
	}
	return ""
}
