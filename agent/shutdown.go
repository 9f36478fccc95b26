package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"ferryman"
	"ferryman/agent/rpc"
)

// The bounds of the steps of a shutdown. Before each the service manager is asked
// for as much time, and for slack.
const (
	askWithin      = 3 * time.Second
	transferWithin = 6 * time.Second
	handOverWithin = 10 * time.Second
	leaveWithin    = time.Minute
	heardWithin    = 3 * time.Second
	quitWithin     = 10 * time.Second
	slack          = 10 * time.Second
)

// farewell waits, within bounds, until the leader has heard that this node
// departed: what ends before that leaves the leader waiting for an outcome.
func (n *node) farewell() {
	late := time.After(heardWithin)
	for {
		moved := n.store.Changed()
		s, _ := n.store.State()
		open := slices.ContainsFunc(s.Ledger, func(st ferryman.Step) bool {
			return st.Open() && st.Op == ferryman.OpDepart && st.Node == n.id
		})
		if _, member := s.Members[n.id]; !open || !member {
			return
		}
		select {
		case <-moved:
		case <-late:
			return
		}
	}
}

// quitGuard ends the guard of a node that has left, which nobody would look
// after any more.
func (n *node) quitGuard() {
	n.patience(quitWithin + slack)
	ctx, cancel := context.WithTimeout(context.Background(), quitWithin)
	defer cancel()
	if err := n.guard.Quit(ctx); err != nil {
		n.log.Warn("the guard runs on; end it with `systemctl stop ferryman-guard`, or, where it has no unit, `pkill -f 'ferryman guard'` if no other agent of this host has one", "error", err)
	}
}

// leave asks the cluster to let this node go for good and waits until it has,
// within bounds. It returns what ended the node in the meantime.
func (n *node) leave(why ending) error {
	s, _ := n.store.State()
	if len(s.Members) <= 1 {
		n.log.Warn("the last node of a cluster cannot leave it; it only stops")
		return nil
	}
	n.patience(leaveWithin + slack)
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	asked := false
	for ctx.Err() == nil {
		if !asked {
			err := n.atLeader(func(l rpc.Cluster) error {
				return l.Request(ctx, ferryman.Request{Kind: ferryman.RequestLeave, Node: string(n.id), By: n.cfg.Node.Name, Reason: why.why})
			})
			if err != nil {
				n.log.Warn("nobody takes this node's leave yet", "error", err)
			}
			asked = err == nil
		}
		select {
		case e := <-n.ends:
			return e.err
		case <-n.raft.Done():
			return n.raft.Err()
		case <-time.After(retryFirst):
		case <-ctx.Done():
		}
	}
	n.log.Warn("this node was not let go in time; the others carry its leave out without it", "waited", leaveWithin)
	return nil
}

// stepAside leaves nothing for the others to find out by themselves: they hear
// that this node is away on purpose, and leadership is handed over. The loop
// has ended already.
func (n *node) stepAside(why ending) {
	s, _ := n.store.State()
	if len(s.Members) <= 1 {
		return
	}
	n.patience(askWithin + transferWithin + slack)
	told := false
	if why.stop && !why.leave {
		ctx, cancel := context.WithTimeout(context.Background(), askWithin)
		err := n.atLeader(func(l rpc.Cluster) error {
			return l.Request(ctx, ferryman.Request{
				Kind: ferryman.RequestMaintain, Node: string(n.id), By: n.cfg.Node.Name, Reason: why.why,
				For: ferryman.Duration(cmp.Or(why.away, n.cfg.Maintenance.Std())), BootID: n.bootID,
			})
		})
		cancel()
		if err != nil {
			n.log.Warn("the others were not told that this node is away on purpose", "error", err)
		}
		told = err == nil
	}
	n.transferAway()
	if told {
		n.outlast()
	}
}

// outlast waits, within bounds, until the database does not depend on this
// agent for its lease: another became the primary and this one follows it, or
// the lease covers the absence.
func (n *node) outlast() {
	n.patience(handOverWithin + slack)
	late := time.After(handOverWithin)
	for {
		moved := n.store.Changed()
		s, _ := n.store.State()
		p, held := s.Primary, n.holder.Status()
		m := s.Members[n.id].Maintenance
		switch {
		case p.Lease == nil || !p.Lease.Enforced:
			return
		case p.Node != n.id && s.Switchover == nil:
			return
		case p.Node == n.id && m != nil && held != nil && time.Now().Add(held.Length.Std()).After(m.Until.Add(-askWithin)):
			return
		}
		select {
		case <-moved:
		case <-time.After(100 * time.Millisecond): // what is held is not in the state
		case <-late:
			n.log.Warn("the primary's place was not taken over in time; its lease ends while this agent is away", "waited", handOverWithin)
			return
		}
	}
}

// transferAway hands Raft's leadership over, if this node has it.
func (n *node) transferAway() {
	l, ok := n.raft.Leader()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), transferWithin)
	defer cancel()
	for _, id := range n.successors() {
		err := l.Transfer(ctx, string(id))
		if err == nil {
			n.log.Info("leadership was handed over", "to", id)
			return
		}
		if ctx.Err() != nil || errors.Is(err, ferryman.ErrNotLeader) {
			return
		}
		n.log.Warn("leadership was not handed over", "to", id, "error", err)
	}
}

// successors are the other voters, the best first: one that is there on
// purpose, and not beside the primary.
func (n *node) successors() []ferryman.NodeID {
	s, _ := n.store.State()
	var ids []ferryman.NodeID
	for _, server := range n.raft.Configuration() {
		if id := ferryman.NodeID(server.ID); id != n.id && ferryman.Suffrage(server.Suffrage) == ferryman.Voter {
			ids = append(ids, id)
		}
	}
	rank := func(id ferryman.NodeID) int {
		switch m, ok := s.Members[id]; {
		case !ok || m.Want != ferryman.WantActive:
			return 3
		case !n.seen.Nodes[id].Reachable || !n.seen.Nodes[id].CaughtUp:
			return 2
		case s.Primary.Node == id:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(ids, func(a, b ferryman.NodeID) int { return cmp.Compare(rank(a), rank(b)) })
	return ids
}
