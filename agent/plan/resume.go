package plan

import (
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// resume looks after the open steps: what ran out of time failed, whoever led
// when it began. A step's time is measured by this leader, from the intent or
// from the beginning of its own term, whichever came later.
func resume(x *situation) (p proposal) {
	for _, st := range x.s.Ledger {
		if !st.Open() {
			continue
		}
		began := st.Since
		if x.v.Since.After(began) {
			began = x.v.Since
		}
		if elapsed := x.now.Sub(began); elapsed >= st.Deadline.Std() {
			p.cancel = append(p.cancel, ferryman.Outcome{Step: st.ID, Status: ferryman.StatusTimedOut, Ended: x.now,
				Reason: "no outcome within " + st.Deadline.String()})
			continue
		}
		if why := x.costly(st); why != "" {
			p.cancel = append(p.cancel, ferryman.Outcome{Step: st.ID, Status: ferryman.StatusFailed, Ended: x.now, Reason: "it was begun under another leader, and now " + why})
			continue
		}
		if n, ok := x.node(st.Node); ok && !st.Op.ByLeader() && !n.View.Reachable {
			p.wait("unreachable", st.Node, "%s on %s: the node does not answer since %s", st.Op, n.Name(), x.silent(n).Round(time.Second))
		}
	}
	return p
}

// costly tells why a vote must not be taken that an earlier leader was about to
// take: who answered it may not answer this one.
func (x *situation) costly(st ferryman.Step) string {
	n, ok := x.node(st.Node)
	if st.Op != ferryman.OpDemote && st.Op != ferryman.OpRemove || !x.v.Since.After(st.Since) || !ok || n.Suffrage != ferryman.Voter {
		return ""
	}
	return upgrade.WithoutVote(x.nodes, st.Node).Reason
}
