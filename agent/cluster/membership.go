package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"

	"ferryman"
)

// A change looks at the committed configuration and returns the call that
// changes it, given the index to compare with; nil if nothing is to be done.
type change func(now configuration) (func(prev uint64) raft.IndexFuture, error)

func (l *leadership) Configuration() ([]Server, error) {
	if l.ctx.Err() != nil {
		return nil, context.Cause(l.ctx)
	}
	return l.node.replica.committed().Servers, nil
}

func (l *leadership) AddNonvoter(ctx context.Context, id, address string) (uint64, error) {
	return l.change(ctx, "add "+id+" at "+address, func(now configuration) (func(uint64) raft.IndexFuture, error) {
		if id == "" || address == "" {
			return nil, fmt.Errorf("%w: a node needs an id and an address", ferryman.ErrInvalid)
		}
		if other, ok := byAddress(now.Servers, address); ok && other.ID != id {
			return nil, fmt.Errorf("%w: the address is that of %s; remove that node first", ferryman.ErrConflict, other.ID)
		}
		if s, ok := byID(now.Servers, id); ok {
			if s.Suffrage == Voter {
				return nil, fmt.Errorf("%w: it is a voter already, at %s; adding it would not take its vote", ferryman.ErrConflict, s.Address)
			}
			if s.Address == address {
				return nil, nil
			}
		}
		return func(prev uint64) raft.IndexFuture {
			return l.node.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), prev, enqueueTimeout)
		}, nil
	})
}

func (l *leadership) AddVoter(ctx context.Context, id string) (uint64, error) {
	return l.change(ctx, "give a vote to "+id, func(now configuration) (func(uint64) raft.IndexFuture, error) {
		s, ok := byID(now.Servers, id)
		if !ok {
			return nil, fmt.Errorf("%w: it is not in the configuration; add it without a vote first and let it catch up", ferryman.ErrConflict)
		}
		if s.Suffrage == Voter {
			return nil, nil
		}
		return func(prev uint64) raft.IndexFuture {
			return l.node.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(s.Address), prev, enqueueTimeout)
		}, nil
	})
}

func (l *leadership) DemoteVoter(ctx context.Context, id string) (uint64, error) {
	return l.change(ctx, "demote "+id, func(now configuration) (func(uint64) raft.IndexFuture, error) {
		if id == l.node.cfg.ID {
			return nil, fmt.Errorf("%w: it is the leader; transfer leadership first", ferryman.ErrConflict)
		}
		s, ok := byID(now.Servers, id)
		if !ok {
			return nil, fmt.Errorf("%w: it is not in the configuration", ferryman.ErrConflict)
		}
		if s.Suffrage != Voter {
			return nil, nil
		}
		return func(prev uint64) raft.IndexFuture {
			return l.node.raft.DemoteVoter(raft.ServerID(id), prev, enqueueTimeout)
		}, nil
	})
}

func (l *leadership) Remove(ctx context.Context, id string) (uint64, error) {
	return l.change(ctx, "remove "+id, func(now configuration) (func(uint64) raft.IndexFuture, error) {
		if id == l.node.cfg.ID {
			return nil, fmt.Errorf("%w: it is the leader; transfer leadership first", ferryman.ErrConflict)
		}
		if _, ok := byID(now.Servers, id); !ok {
			return nil, nil
		}
		return func(prev uint64) raft.IndexFuture {
			return l.node.raft.RemoveServer(raft.ServerID(id), prev, enqueueTimeout)
		}, nil
	})
}

// change makes one change at a time, each on exactly the configuration that it
// was judged by: raft refuses it if that is no longer the newest. What is so
// already succeeds, with the index of the present configuration.
func (l *leadership) change(ctx context.Context, what string, decide change) (uint64, error) {
	n := l.node
	select {
	case n.changing <- struct{}{}:
		defer func() { <-n.changing }()
	case <-ctx.Done():
		return 0, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if l.ctx.Err() != nil {
		return 0, fmt.Errorf("%s: %w", what, context.Cause(l.ctx))
	}
	now := n.replica.committed()
	if now.Index == 0 {
		// Zero would turn raft's comparison off without a word.
		return 0, fmt.Errorf("%s: %w: the committed configuration is not known here yet", what, ferryman.ErrConflict)
	}
	call, err := decide(now)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if call == nil {
		return now.Index, nil
	}
	index, err := await(ctx, l, func() (uint64, error) {
		f := call(now.Index)
		if err := f.Error(); err != nil {
			return 0, err
		}
		return f.Index(), nil
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	l.spread()
	n.log.Info("changed the configuration", "change", what, "index", index)
	return index, nil
}
