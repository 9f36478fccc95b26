package agent

import (
	"context"
	"errors"
	"time"

	"ferryman"
	"ferryman/agent/cluster"
	"ferryman/agent/rpc"
	"ferryman/agent/state"
)

// peers are the agents of the cluster as the leader's loop calls them; this
// node is asked directly.
type peers struct{ n *node }

func (p peers) Status(ctx context.Context, m ferryman.Member, since uint64, wait time.Duration) (ferryman.NodeStatus, error) {
	if m.ID == p.n.id {
		return p.n.awaitStatus(ctx, since, wait)
	}
	peer, err := p.n.network.Peer(m.Name, m.Address)
	if err != nil {
		return ferryman.NodeStatus{}, err
	}
	return peer.Status(ctx, since, wait)
}

func (p peers) RunStep(ctx context.Context, m ferryman.Member, step, index, term uint64) (ferryman.Outcome, error) {
	ref := rpc.StepRef{Step: step, Index: index, Term: term}
	if m.ID == p.n.id {
		return p.n.runStep(ctx, ref)
	}
	peer, err := p.n.network.Peer(m.Name, m.Address)
	if err != nil {
		return ferryman.Outcome{}, err
	}
	return peer.RunStep(ctx, ref)
}

// awaitStatus is the long poll for callers in this process.
func (n *node) awaitStatus(ctx context.Context, since uint64, wait time.Duration) (ferryman.NodeStatus, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		s, changed := n.board.look()
		if s.Seq != since || wait <= 0 {
			return s, nil
		}
		select {
		case <-changed:
		case <-over.C:
			return s, nil
		case <-ctx.Done():
			return ferryman.NodeStatus{}, ctx.Err()
		}
	}
}

// leaderNode is who leads as far as this node knows; empty if nobody.
func (n *node) leaderNode() rpc.Node {
	raft := n.raft.Status()
	if raft.LeaderID == "" {
		return rpc.Node{}
	}
	l := rpc.Node{ID: ferryman.NodeID(raft.LeaderID), Address: raft.LeaderAddress}
	s, _ := n.store.State()
	if m, ok := s.Members[l.ID]; ok {
		l.Name, l.Address = m.Name, m.Address
	}
	return l
}

// leads returns this node's leadership, or rpc.NotLeader.
func (n *node) leads() (cluster.Leader, error) {
	if l, ok := n.raft.Leader(); ok {
		return l, nil
	}
	l := n.leaderNode()
	if l.ID == n.id {
		l = rpc.Node{} // elected, and not up to date yet
	}
	return nil, rpc.NotLeader{Leader: l}
}

// atLeader calls f with this node if it leads, and else with the leader.
func (n *node) atLeader(f func(rpc.Cluster) error) error {
	err := f(backend{n})
	var notLeader rpc.NotLeader
	if !errors.As(err, &notLeader) || notLeader.Leader.Address == "" {
		return err
	}
	peer, err := n.network.Peer(notLeader.Leader.Name, notLeader.Leader.Address)
	if err != nil {
		return err
	}
	return f(peer)
}

// membership is the replicated state as the authorisation asks it.
type membership struct{ store *state.Store }

func (m membership) MemberByName(name string) (id, address string, ok bool) {
	s, _ := m.store.State()
	for _, member := range s.Members {
		// A lost node's name may have a new owner already.
		if member.Name == name && !member.Lost {
			return string(member.ID), member.Address, true
		}
	}
	return "", "", false
}

func (m membership) SenderOf(message any) (id, address string, ok bool) {
	return cluster.SenderOf(message)
}

// keep drops connections to nodes that are gone, and renews the certificate in
// time.
func (n *node) keep(ctx context.Context) {
	var looked time.Time
	for {
		moved := n.store.Changed()
		s, _ := n.store.State()
		if s.Cluster != "" {
			places := map[rpc.Place]bool{}
			for _, m := range s.Members {
				places[rpc.Place{Name: m.Name, Address: m.Address}] = true
			}
			n.network.Keep(func(p rpc.Place) bool { return places[p] || p.Name == "" })
		}
		if left := time.Until(n.identity.NotAfter()); left < certificateTTL/3 && time.Since(looked) >= time.Hour {
			looked = time.Now()
			if err := n.identity.Renew(certificateTTL); err != nil {
				n.log.Warn("this node's certificate could not be renewed", "left", left, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		case <-moved:
			pause(ctx, time.Second) // what comes at once is looked at once
		}
	}
}

// certificateTTL is how long a node's certificate lasts. It is renewed when a
// third of that is left.
const certificateTTL = 365 * 24 * time.Hour

// The pauses between tries of what must succeed some time.
const (
	retryFirst = 200 * time.Millisecond
	retryLast  = 3 * time.Second
)

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
