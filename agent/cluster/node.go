package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"ferryman/agent/telemetry"
)

// Stores is where a node keeps its log, its votes and its snapshots. Whoever
// opened them closes them, after the node.
type Stores struct {
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	close     func() error
}

// Close releases the files. In memory it does nothing: the stores can be given
// to a new node, which is a restart.
func (s Stores) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// InMemory returns empty stores for tests.
func InMemory() Stores {
	store := raft.NewInmemStore()
	return Stores{Logs: store, Stable: store, Snapshots: raft.NewInmemSnapshotStore()}
}

// Deps is what a node is made of, beside its configuration.
type Deps struct {
	Transport Transport // closed by the node
	Stores    Stores    // not closed by the node
	Logger    *slog.Logger
}

// Node is this agent's part of the group.
type Node struct {
	cfg     Config
	log     *slog.Logger
	deps    Deps
	replica *replica
	raft    *raft.Raft
	opened  uint64 // the last entry of the log that it was opened with

	// ctx ends when the node is closed, or halted; its cause says which.
	ctx    context.Context
	cancel context.CancelCauseFunc

	calls     inflight
	leading   sync.Mutex                 // held by Lead
	changing  chan struct{}              // held by the one change of the configuration
	current   atomic.Pointer[leadership] // nil when another leads
	turned    bell                       // rings when leadership or the known leader changes
	changes   chan struct{}
	notify    chan bool
	observed  chan raft.Observation
	stop      chan struct{}
	watching  sync.WaitGroup
	slow      atomic.Pointer[string] // see Slow
	closeOnce sync.Once
	closeErr  error
}

// Open starts the node with what its stores hold. A node without state waits
// until a leader adds it, or until Bootstrap.
func Open(cfg Config, machine Machine, deps Deps) (_ *Node, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cluster configuration: %w", err)
	}
	if got := string(deps.Transport.LocalAddr()); got != cfg.Address {
		return nil, fmt.Errorf("cluster configuration: the node's address is %s and its transport's is %s", cfg.Address, got)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		cfg:      cfg,
		log:      deps.Logger,
		deps:     deps,
		changing: make(chan struct{}, 1),
		changes:  make(chan struct{}, 1),
		notify:   make(chan bool),
		observed: make(chan raft.Observation, 64),
		stop:     make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.replica = &replica{machine: machine, halt: n.halt}

	rc := cfg.raft()
	rc.Logger = telemetry.HCLog(deps.Logger, "raft")
	rc.NotifyCh = n.notify
	// The reader of NotifyCh is there before raft, which blocks on it.
	n.watching.Go(n.watch)
	n.raft, err = start(rc, n.replica, deps)
	if err != nil {
		if halted := n.Err(); halted != nil {
			err = halted // raft only says that no snapshot could be loaded
		}
		n.cancel(ErrClosed)
		close(n.stop)
		n.watching.Wait()
		return nil, err
	}
	n.opened = n.raft.LastIndex()
	n.raft.RegisterObserver(raft.NewObserver(n.observed, false, worthWaking))
	return n, nil
}

// start turns the panics of raft.NewRaft about a log with holes into errors.
func start(rc *raft.Config, fsm raft.FSM, deps Deps) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("%w: start raft: %v; %s", ErrCorrupt, p, rejoin)
		}
	}()
	r, err = raft.NewRaft(rc, fsm, deps.Stores.Logs, deps.Stores.Stable, deps.Stores.Snapshots, deps.Transport)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w; if the store is corrupt: %s", err, rejoin)
	}
	return r, nil
}

// worthWaking lets those observations pass that the leader's loop wants to look
// around for. None of them is proof of anything.
func worthWaking(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.LeaderObservation, raft.PeerObservation, raft.RaftState,
		raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
		return true
	}
	return false
}

// watch is the one reader of what raft tells, for as long as raft runs.
func (n *Node) watch() {
	for {
		select {
		case leads := <-n.notify:
			n.turn(leads)
		case <-n.observed:
		case <-n.stop:
			return
		}
		n.turned.ring()
		select {
		case n.changes <- struct{}{}:
		default: // a wake-up is waiting already
		}
	}
}

// Changes wakes its one reader after something may have changed: the leader,
// the peers, a heartbeat that failed or came again. Wake-ups are dropped and
// doubled, and a peer that restarts fast causes none: look at the world
// whenever woken, and from time to time without.
func (n *Node) Changes() <-chan struct{} { return n.changes }

// Done is closed when the node was closed or cannot go on; Err says why.
func (n *Node) Done() <-chan struct{} { return n.ctx.Done() }

// Err is nil while the node runs, ErrClosed after Close, and otherwise why the
// machine could not carry out an entry.
func (n *Node) Err() error { return context.Cause(n.ctx) }

func (n *Node) halt(err error) {
	n.log.Error("the replicated state cannot go on; this node stops", "error", err)
	n.cancel(fmt.Errorf("node %s cannot go on: %w", n.cfg.ID, err))
}

// HasState reports whether the node was ever part of a cluster: it has a log, a
// term or a snapshot.
func (n *Node) HasState() (bool, error) {
	s := n.deps.Stores
	has, err := raft.HasExistingState(s.Logs, s.Stable, s.Snapshots)
	if err != nil {
		return false, fmt.Errorf("look for raft's state: %w", err)
	}
	return has, nil
}

// Bootstrap founds a cluster of the given members, this node among them, all of
// them voters. It belongs once in the life of a cluster, on one node, and only
// after ConsumeMarker allowed it. ErrHasState is harmless: nothing changed.
func (n *Node) Bootstrap(members ...Server) error {
	var conf raft.Configuration
	for _, m := range members {
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Address)})
	}
	if _, ok := byID(members, n.cfg.ID); !ok {
		return fmt.Errorf("found a cluster: this node, %s, is not among its members", n.cfg.ID)
	}
	err := n.raft.BootstrapCluster(conf).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrHasState
	}
	if err != nil {
		return fmt.Errorf("found a cluster: %w", err)
	}
	return nil
}

// Status is what a node knows of itself. That Applied equals LastIndex proves
// nothing (a wiped node has zero and zero): compare with a barrier of the
// leader's.
type Status struct {
	ID, Address string
	// State is raft's: Follower, Candidate, Leader or Shutdown.
	State string
	Term  uint64
	// LeaderID and LeaderAddress are empty while no leader is known.
	LeaderID, LeaderAddress string
	// Applied is the last entry that the machine has carried out.
	Applied uint64
	// LastIndex is the last entry in the log, committed or not. Under a leader
	// that has much to append Applied may never reach it: that an entry is
	// committed is told with the next one.
	LastIndex uint64
	// Opened is what LastIndex was when the node was opened, or less if a leader
	// had others in the place of the last ones.
	Opened uint64
	// LastContact is when a leader was last heard; now, on the leader; zero if
	// never.
	LastContact time.Time
}

// Status returns what this node knows now.
func (n *Node) Status() Status {
	address, id := n.raft.LeaderWithID()
	s := Status{
		ID:            n.cfg.ID,
		Address:       n.cfg.Address,
		State:         n.raft.State().String(),
		Term:          n.raft.CurrentTerm(),
		LeaderID:      string(id),
		LeaderAddress: string(address),
		Applied:       n.replica.at(),
		LastIndex:     n.raft.LastIndex(),
		LastContact:   n.raft.LastContact(),
	}
	s.Opened = min(n.opened, s.LastIndex)
	if s.State == raft.Leader.String() {
		s.LastContact = time.Now()
	}
	return s
}

// Stats are raft's own figures, as text, for a person who knows raft.
func (n *Node) Stats() map[string]string { return n.raft.Stats() }

// Configuration returns the newest configuration that this node has in its log,
// committed or not, as raft itself uses it; empty before the node was added.
func (n *Node) Configuration() []Server {
	return serversOf(n.raft.GetConfiguration().Configuration())
}

// WaitApplied returns once this node's machine has applied index, which must be
// that of a proposal, a barrier or a change of the configuration: raft's own
// entries are not seen by the machine.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	return n.replica.wait(ctx, n.ctx, index)
}

// Close stops the node and waits for its goroutines. Leadership ends with it;
// end Lead and transfer leadership before, if others shall not wait for an
// election. What is under way gets a moment to finish.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.cancel(ErrClosed)
		n.calls.close(n.cfg.Election)
		done := n.raft.Shutdown()
		n.deps.Transport.Abort()
		n.closeErr = done.Error() // waits for raft, then closes the transport
		close(n.stop)
		n.watching.Wait()
	})
	return n.closeErr
}
