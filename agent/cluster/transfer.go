package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"ferryman"
)

func (l *leadership) Transfer(ctx context.Context, id string) error {
	if err := l.transfer(ctx, id); err != nil {
		return fmt.Errorf("transfer leadership to %s: %w", id, err)
	}
	return nil
}

func (l *leadership) transfer(ctx context.Context, id string) error {
	n := l.node
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	if id == n.cfg.ID {
		return nil
	}
	s, ok := byID(n.replica.committed().Servers, id)
	if !ok {
		return fmt.Errorf("%w: it is not in the configuration", ferryman.ErrConflict)
	}
	if s.Suffrage != Voter {
		// Raft would give up leadership for it and say nil.
		return fmt.Errorf("%w: it has no vote", ferryman.ErrConflict)
	}

	// The end of leadership is what a transfer is for, so it does not end this
	// wait, also if ctx is the leadership's own. Its other ends do.
	wait, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 5*n.cfg.Election,
		fmt.Errorf("after %v it does not lead", 5*n.cfg.Election))
	defer cancel()
	wait, give := context.WithCancelCause(wait)
	defer give(nil)
	defer context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); !errors.Is(cause, ferryman.ErrNotLeader) {
			give(cause)
		}
	})()
	defer context.AfterFunc(n.ctx, func() { give(n.Err()) })()

	_, err := await(wait, l, func() (struct{}, error) {
		return struct{}{}, n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(s.Address)).Error()
	})
	if err != nil {
		return err
	}
	// Raft's nil means only that this node leads no longer.
	return n.awaitLeader(wait, id, l.term)
}

// awaitLeader returns nil when id is seen to lead in a term after the given
// one, and an error when another node is.
func (n *Node) awaitLeader(ctx context.Context, id string, after uint64) error {
	// Raft does not tell every change of the leader that it knows.
	tick := time.NewTicker(n.cfg.Heartbeat / 4)
	defer tick.Stop()
	for {
		heard := n.turned.heard()
		// Raft forgets the old leader before it takes a new term, so in this
		// order the leader is not the old one.
		if n.raft.CurrentTerm() > after {
			_, leader := n.raft.LeaderWithID()
			switch string(leader) {
			case id:
				return nil
			case "":
			default:
				return fmt.Errorf("%s leads instead", leader)
			}
		}
		select {
		case <-heard:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
