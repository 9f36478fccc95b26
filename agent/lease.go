package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ferryman"
	"ferryman/agent/lease"
	"ferryman/agent/rpc"
)

// Renew grants the primary's lease, as the leader.
func (b backend) Renew(ctx context.Context, req rpc.RenewRequest) (rpc.RenewReply, error) {
	caller, ok := rpc.CallerFrom(ctx)
	if !ok {
		return rpc.RenewReply{}, fmt.Errorf("renew the lease: %w: nobody says who asks", ferryman.ErrInvalid)
	}
	id, _, _ := membership{b.n.store}.MemberByName(caller.Name)
	length, err := b.n.grant(ctx, ferryman.NodeID(id), req.Epoch)
	return rpc.RenewReply{Length: length}, err
}

// grant answers a primary that wants its lease. The barrier comes after the
// request: a leader that was deposed without knowing grants nothing.
func (n *node) grant(ctx context.Context, to ferryman.NodeID, epoch uint64) (ferryman.Duration, error) {
	l, err := n.leads()
	if err != nil {
		return 0, err
	}
	if _, err := l.Barrier(ctx); err != nil {
		return 0, fmt.Errorf("confirm leadership before the lease is granted: %w", err)
	}
	return n.granter.Grant(func() (uint64, ferryman.Duration, error) {
		s, _ := n.store.State()
		p := s.Primary
		switch {
		case p.Node != to || p.Epoch != epoch:
			return 0, 0, fmt.Errorf("the lease of epoch %d: %w: the primary of epoch %d is %s", epoch, ferryman.ErrRefused, p.Epoch, s.Members[p.Node].Name)
		case p.Lease == nil:
			return 0, 0, fmt.Errorf("the lease of epoch %d: %w: failover is manual, and no lease is needed", epoch, ferryman.ErrRefused)
		case s.Failover != nil:
			return 0, 0, fmt.Errorf("the lease of epoch %d: %w: a failover is under way: %s", epoch, ferryman.ErrRefused, s.Failover.Why)
		}
		return p.Epoch, p.Lease.Length, nil
	})
}

// openLease makes both ends of the primary's lease.
func (n *node) openLease() {
	n.granter = lease.NewGranter(n.deps.Clock)
	n.holder = lease.NewHolder(lease.Config{
		Clock:   n.deps.Clock,
		Wanted:  n.wantedLease,
		Renew:   n.renew,
		Guard:   n.guard,
		Safe:    n.safe,
		Expired: n.expired,
		Changed: n.nudge,
		Log:     n.log,
	})
}

// nudge has the board look again.
func (n *node) nudge() {
	select {
	case n.leaseMoved <- struct{}{}:
	default:
	}
}

// wantedLease is what this node's state says of its own lease.
func (n *node) wantedLease() (lease.Wanted, <-chan struct{}) {
	moved := n.store.Changed()
	// After a restart the state is older than what this node knew, until a leader
	// has told it what is committed. It is read after that was found.
	if !n.caughtUp.Load() {
		if s, _ := n.store.State(); s.Cluster == "" || !n.informed() {
			return lease.Wanted{}, moved
		}
		n.caughtUp.Store(true)
	}
	s, _ := n.store.State()
	p := s.Primary
	w := lease.Wanted{Known: true, Soon: p.Lease != nil && len(n.services) > 0}
	if p.Node == n.id && p.Lease != nil {
		w.Epoch, w.Serial, w.Length = p.Epoch, p.Lease.Serial, p.Lease.Length
	}
	return w, moved
}

// renew asks the leader, which may be this node. Nothing is asked for while the
// service manager could give the database writes behind the guard's back.
func (n *node) renew(ctx context.Context, epoch uint64) (ferryman.Duration, error) {
	for _, svc := range n.runner.Status().Services {
		if svc.Unit.Unfit != "" {
			return 0, errors.New(svc.Unit.Unfit)
		}
	}
	length, err := n.grant(ctx, n.id, epoch)
	var not rpc.NotLeader
	if !errors.As(err, &not) {
		return length, err
	}
	if not.Leader.Address == "" {
		return 0, errors.New("no leader is known: fewer than a majority of the agents reach each other")
	}
	peer, err := n.network.Peer(not.Leader.Name, not.Leader.Address)
	if err != nil {
		return 0, err
	}
	reply, err := peer.Renew(ctx, rpc.RenewRequest{Epoch: epoch})
	return reply.Length, err
}

// safe makes sure that the database of this node, which is no primary with a
// lease any more, accepts no writes; in manual mode the primary's may, and what
// stood on this host before there was a primary.
func (n *node) safe(ctx context.Context) error {
	s, _ := n.store.State()
	if s.Primary.Epoch == 0 || s.Primary.Node == n.id && s.Primary.Lease == nil {
		return nil
	}
	writable, err := n.runner.Writable(ctx)
	switch {
	case !writable:
		return nil
	case err != nil && s.Primary.Lease == nil: // nothing is fenced on a guess in manual mode; a guard that is armed does it in time
		return fmt.Errorf("it is not known whether the database accepts writes: %w", err)
	}
	n.log.Warn("the database may accept writes and is not the primary any more; it is ended", "error", err)
	return n.runner.Fence(ctx, s.Primary.Epoch)
}

// fenceRetry is how soon the agent tries again to end its database.
const fenceRetry = 100 * time.Millisecond

// expired is what the guard does too, unless that is why the lease ran out. It
// tries until the database has ended, or may accept writes again, or this node
// is the primary of that epoch no more, which is for safe.
func (n *node) expired(ctx context.Context, epoch uint64) {
	for ctx.Err() == nil {
		err := n.runner.Fence(ctx, epoch)
		if s, _ := n.store.State(); err == nil || n.holder.Status() != nil || s.Primary.Node != n.id || s.Primary.Epoch != epoch {
			return
		}
		n.log.Error("the database whose lease ran out was not ended by the agent, which tries again; its guard does it as well", "epoch", epoch, "error", err)
		pause(ctx, fenceRetry)
	}
}

// holdLease is the runner's: what may make the database writable waits for the
// lease, and ends with it, once failover is automatic in force.
func (n *node) holdLease(ctx context.Context, epoch uint64) (context.Context, context.CancelFunc, error) {
	s, _ := n.store.State()
	if l := s.Primary.Lease; l == nil || !l.Enforced {
		return ctx, func() {}, nil
	}
	return n.holder.Hold(ctx, epoch)
}

// leased tells that failover is automatic, or about to be.
func (n *node) leased() bool {
	s, _ := n.store.State()
	return s.Primary.Lease != nil
}

// unguarded stands in where there is nothing to guard.
type unguarded struct{}

var errUnguarded = errors.New("this agent has no guard, without which no lease is asked for")

func (unguarded) Check(context.Context) error                      { return errUnguarded }
func (unguarded) Arm(context.Context, uint64, time.Duration) error { return errUnguarded }
func (unguarded) Disarm(context.Context) error                     { return nil }
func (unguarded) Dismiss(context.Context) error                    { return nil }
func (unguarded) Quit(context.Context) error                       { return nil }
