package plan

import (
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// votes keeps an odd number of voters, at most maxVoters, spread over zones;
// one change at a time, and a newcomer's vote before a dead one's is taken.
func (x *situation) votes(p *proposal) {
	if x.v.Limits.MaxVoters == 0 {
		return
	}
	voters, candidates, dead, target := x.seats()
	leavers := 0
	for _, n := range x.nodes {
		if n.Member.Want == ferryman.WantLeaving && n.Suffrage == ferryman.Voter {
			leavers++
		}
	}
	switch {
	case len(voters) < target:
		best := candidates[0]
		for _, n := range candidates[1:] {
			if x.zoneVoters(n, voters) < x.zoneVoters(best, voters) {
				best = n
			}
		}
		x.again(p, ferryman.Step{Op: ferryman.OpVote, Node: best.ID(), Deadline: ferryman.Duration(time.Minute)}, 0)
	case len(voters) > target && len(dead) == 0 && leavers == 0 && len(x.passages()) == 0:
		x.demoteOne(p, voters)
	case len(dead) > 0 && len(voters) >= 3 && len(voters)+len(dead) > target:
		n := dead[0]
		if g := upgrade.WithoutVote(x.nodes, n.ID()); g.Open() {
			x.again(p, ferryman.Step{Op: ferryman.OpDemote, Node: n.ID(), Deadline: ferryman.Duration(time.Minute)}, 0)
		}
	}
}

// seats are the votes that stay and live, those that could have one, the dead
// that still have theirs, and how many there should be.
func (x *situation) seats() (voters, candidates, dead []upgrade.Node, target int) {
	for _, n := range x.stay {
		pg, carried := x.passages()[n.ID()]
		switch {
		case n.Suffrage == ferryman.Voter && x.dead(n):
			dead = append(dead, n)
		case n.Suffrage == ferryman.Voter || carried && pg.Part == ferryman.PartAgents && pg.Voter:
			voters = append(voters, n) // a vote lent for a restart still counts
		case x.votable(n):
			candidates = append(candidates, n)
		}
	}
	target = min(x.v.Limits.MaxVoters, len(voters)+len(candidates))
	if target%2 == 0 {
		target--
	}
	return voters, candidates, dead, target
}

// demoteOne takes the vote of one voter too many: neither the leader nor one
// in a zone with fewer voters than another.
func (x *situation) demoteOne(p *proposal, voters []upgrade.Node) {
	var best *upgrade.Node
	for i, n := range voters {
		if n.Leader || !n.View.Reachable {
			continue
		}
		if best == nil || x.zoneVoters(n, voters) > x.zoneVoters(*best, voters) ||
			x.zoneVoters(n, voters) == x.zoneVoters(*best, voters) && n.Member.Joined.After(best.Member.Joined) {
			best = &voters[i]
		}
	}
	if best != nil {
		x.again(p, ferryman.Step{Op: ferryman.OpDemote, Node: best.ID(), Deadline: ferryman.Duration(time.Minute)}, 0)
	}
}

// votable tells whether a non-voter may get a vote: caught up and reachable.
func (x *situation) votable(n upgrade.Node) bool {
	return n.Suffrage == ferryman.Nonvoter && n.Member.Want == ferryman.WantActive && n.View.CaughtUp && n.View.Reachable && !x.carried(n.ID())
}

func (x *situation) zoneVoters(n upgrade.Node, voters []upgrade.Node) (count int) {
	for _, v := range voters {
		if v.Member.Zone == n.Member.Zone {
			count++
		}
	}
	return count
}
