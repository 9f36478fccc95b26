package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ferryman"
	"ferryman/agent/cluster"
	"ferryman/agent/state"
)

// found makes a new Raft group if this node may, which is once, by the marker
// that `ferryman init` left. Without it a node only ever joins: also a first
// host that was wiped, and while nobody else can be reached.
func (n *node) found() error {
	hasState, err := n.raft.HasState()
	if err != nil {
		return err
	}
	marker, may, err := cluster.ConsumeMarker(n.cfg.DataDir, hasState)
	switch {
	case errors.Is(err, cluster.ErrMarkerUsed):
		n.log.Warn("this node will not found a cluster again; it looks for one to join", "reason", err)
		return nil
	case err != nil:
		return err
	case !may:
		return nil
	}
	if name := ferryman.ClusterName(n.identity.Self().Cluster); marker.Cluster != "" && marker.Cluster != name && marker.Cluster != n.identity.Self().Cluster {
		return fmt.Errorf("%w: the marker allows to found cluster %s, the certificate is for %s", ferryman.ErrWrongCluster, marker.Cluster, name)
	}
	n.log.Info("founding a cluster", "cluster", n.identity.Self().Cluster)
	err = n.raft.Bootstrap(cluster.Server{ID: string(n.id), Address: n.cfg.Node.Address, Suffrage: cluster.Voter})
	if errors.Is(err, cluster.ErrHasState) {
		return nil
	}
	return err
}

// lead runs the loop whenever this node leads.
func (n *node) lead(ctx context.Context) {
	err := n.raft.Lead(ctx, func(ctx context.Context, l cluster.Leader) error {
		if err := n.establish(ctx, l); err != nil {
			return err
		}
		n.loop.Lead(ctx, leader{l})
		return nil
	})
	if err != nil && ctx.Err() == nil {
		n.end(ending{err: err})
	}
}

// establish commits the cluster's id if there is none. A Raft group whose state
// has no cluster was founded just now, by this node: nothing else can be.
func (n *node) establish(ctx context.Context, l cluster.Leader) error {
	for ctx.Err() == nil {
		s, _ := n.store.State()
		if s.Cluster != "" {
			return nil
		}
		err := n.propose(ctx, l, state.Command{At: time.Now(), Bootstrap: &state.Bootstrap{Cluster: n.identity.Self().Cluster, Format: state.Format, Member: n.self()}})
		if err == nil || errors.Is(err, ferryman.ErrRefused) {
			return err
		}
		n.log.Warn("the new cluster's id is not committed yet", "error", err)
		pause(ctx, retryFirst)
	}
	return nil
}

// self is this node as a member.
func (n *node) self() ferryman.Member {
	return ferryman.Member{
		ID:               n.id,
		Name:             n.cfg.Node.Name,
		Address:          n.cfg.Node.Address,
		Zone:             n.cfg.Node.Zone,
		Witness:          n.cfg.Node.Witness,
		Services:         n.services,
		Want:             ferryman.WantActive,
		LeaveOnTerminate: n.cfg.LeaveOnTerminate,
	}
}

// leader is cluster's leadership in the words of reconcile.
type leader struct{ cluster.Leader }

func (l leader) Group() (map[ferryman.NodeID]ferryman.Suffrage, error) {
	servers, err := l.Configuration()
	if err != nil {
		return nil, err
	}
	group := make(map[ferryman.NodeID]ferryman.Suffrage, len(servers))
	for _, s := range servers {
		group[ferryman.NodeID(s.ID)] = ferryman.Suffrage(s.Suffrage)
	}
	return group, nil
}

// propose commits one command.
func (n *node) propose(ctx context.Context, l cluster.Leader, c state.Command) error {
	s, _ := n.store.State()
	return state.Propose(ctx, s, l, c)
}
