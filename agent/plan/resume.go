package plan

import (
	"time"

	"ferryman"
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
		if n, ok := x.node(st.Node); ok && !st.Op.ByLeader() && !n.View.Reachable {
			p.wait("unreachable", st.Node, "%s on %s: the node does not answer since %s", st.Op, n.Name(), x.silent(n).Round(time.Second))
		}
	}
	return p
}
