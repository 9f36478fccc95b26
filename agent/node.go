package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ferryman"
	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/guard"
	"ferryman/agent/identity"
	"ferryman/agent/lease"
	"ferryman/agent/reconcile"
	"ferryman/agent/rpc"
	"ferryman/agent/runner"
	"ferryman/agent/state"
	"ferryman/systemd"
)

// node is an agent that was opened: it holds its data directory, its port and
// its part of the Raft group.
type node struct {
	cfg      config.Config
	deps     Deps
	log      *slog.Logger
	id       ferryman.NodeID
	bootID   string
	identity *identity.Identity
	trust    *trust
	members  *rpc.Members
	contacts contacts // as written down; see contactsFile
	network  Network
	store    *state.Store
	raft     *cluster.Node
	runner   *runner.Runner
	services []ferryman.Service
	hosts    reconcile.Hosts
	granter  *lease.Granter
	holder   *lease.Holder
	guard    *watchedGuard
	loop     *reconcile.Loop
	board    *board
	wake     chan struct{} // hints for the loop

	monitored  net.Listener  // nil where telemetry.listen is not set
	leaseMoved chan struct{} // hints for the board
	installed  atomic.Value  // string; the version that waits for a restart
	caughtUp   atomic.Bool   // the state is as new as what this node knew before it started

	seen ferryman.View // by this node as the leader, at the end

	// ends is told why the node is to end; the first reason counts.
	ends    chan ending
	closers []func() error
}

// ending is why an agent ends, and how.
type ending struct {
	err   error  // what Run returns
	stop  bool   // it comes back: maintenance, leadership away
	stay  bool   // not before a person starts it
	leave bool   // it leaves for good first
	why   string // for a person
	away  time.Duration
}

// open makes a node out of the data directory. What was opened is closed again
// when a later part fails.
func open(ctx context.Context, cfg config.Config, deps Deps) (_ *node, err error) {
	n := &node{
		cfg:  cfg,
		deps: deps,
		log:  deps.Log.With("node", cfg.Node.Name),
		wake: make(chan struct{}, 1),
		ends: make(chan ending, 1),

		leaseMoved: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	n.installed.Store("")
	if n.deps.Rand == nil {
		n.deps.Rand = rand.Reader
	}
	if n.deps.Clock == nil {
		n.deps.Clock = guard.Boottime
	}

	if err := makeDir(cfg.DataDir); err != nil {
		return nil, err
	}
	lock, err := cluster.Lock(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, lock.Close)
	if err := n.openTelemetry(); err != nil {
		return nil, err
	}
	if n.id, err = nodeID(cfg.DataDir, n.deps.Rand); err != nil {
		return nil, err
	}
	if n.bootID, err = randomID(n.deps.Rand); err != nil {
		return nil, err
	}

	if err := n.openRunner(ctx); err != nil {
		return nil, err
	}
	if why := n.runner.Departed(); why != "" {
		return nil, fmt.Errorf("%w: %s; to make this host a new node, move %s away", ErrDeparted, why, cfg.DataDir)
	}
	if err := n.openIdentity(ctx); err != nil {
		return nil, err
	}
	if n.trust, err = openTrust(cfg, n.identity.Self().Cluster); err != nil {
		return nil, err
	}
	if err := n.openRaft(); err != nil {
		return nil, err
	}
	n.board = newBoard(n)
	if err := n.openLoop(); err != nil {
		return nil, err
	}
	return n, nil
}

// openRunner makes what runs the database of this node.
func (n *node) openRunner(ctx context.Context) error {
	g := n.deps.Guard
	d := runner.Deps{
		Services: n.deps.Services,
		Units:    n.deps.Units,
		Store:    n.deps.Releases,
		Journal:  n.deps.Journal,
		Exit:     n.exit,
		Hold:     n.holdLease,
		Leased:   n.leased,
		Log:      n.log,
	}
	if d.Units == nil {
		host, err := openHost(ctx, n.cfg, n.deps.Version, n.envelope, n.log)
		if err != nil {
			return err
		}
		n.closers = append(n.closers, host.close)
		d.Services, d.Units, d.Store, d.Release = host.services, host.units, host.releases, runningRelease(host.releases)
		if g == nil {
			g = host.guard
		}
	}
	if d.Journal == nil {
		d.Journal = openJournal(n.cfg)
	}
	for _, s := range d.Services {
		n.services = append(n.services, s.Service)
	}
	if g == nil {
		g = unguarded{}
	}
	n.guard = &watchedGuard{Guard: g}
	n.openLease()
	var err error
	n.runner, err = runner.New(d)
	return err
}

// envelope is what the document in force came in; nil where it is not signed.
func (n *node) envelope() []byte {
	s, _ := n.store.State()
	if s.Accepted == nil {
		return nil
	}
	return s.Accepted.Envelope
}

// openIdentity reads the node's certificate, or gets one with a join token.
func (n *node) openIdentity(ctx context.Context) error {
	if err := n.enrol(ctx); err != nil {
		return err
	}
	id, err := identity.Open(n.cfg.TLS.Dir, n.log)
	if err != nil {
		return err
	}
	if id.Self().Name != n.cfg.Node.Name {
		return fmt.Errorf("the certificate in %s is that of %s, but node.name is %s: %w", n.cfg.TLS.Dir, id.Self().Name, n.cfg.Node.Name, ferryman.ErrConflict)
	}
	n.identity = id
	return nil
}

// openRaft opens the port, the stores and Raft itself.
func (n *node) openRaft() error {
	n.store = state.NewStore(n.log, func(err error) { n.end(ending{err: err}) })
	n.members = rpc.NewMembers(membership{n.store})
	if err := n.recall(); err != nil {
		return err
	}
	makeNetwork := n.deps.Network
	if makeNetwork == nil {
		makeNetwork = newWire
	}
	var err error
	if n.network, err = makeNetwork(n.cfg, n.identity, n.members, n.log); err != nil {
		return err
	}
	n.closers = append(n.closers, n.network.Close)

	var stores cluster.Stores
	if n.deps.Stores != nil {
		stores = *n.deps.Stores
	} else {
		if stores, err = cluster.OnDisk(n.cfg.DataDir, n.log); err != nil {
			return err
		}
		n.closers = append(n.closers, stores.Close)
	}
	cc := cluster.NewConfig().Pace(n.contacts.LeaseTTL.Std())
	if n.deps.Raft != nil {
		cc = n.deps.Raft(cc)
	}
	cc.ID, cc.Address = string(n.id), n.cfg.Node.Address
	n.raft, err = cluster.Open(cc, n.store, cluster.Deps{Transport: n.network.Transport(cc), Stores: stores, Logger: n.log})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.raft.Close)
	if s, _ := n.store.State(); s.Cluster != "" && s.Cluster != n.identity.Self().Cluster {
		return fmt.Errorf("%w: the data in %s belong to cluster %s, the certificate to %s", ferryman.ErrWrongCluster, n.cfg.DataDir, s.Cluster, n.identity.Self().Cluster)
	}
	return n.found()
}

// openLoop makes the loop that runs while this node leads.
func (n *node) openLoop() error {
	src := n.deps.Source
	n.hosts = n.deps.Hosts
	if src == nil && n.hosts == nil {
		var err error
		if src, n.hosts, err = controlAPI(n.cfg.Source); err != nil {
			return err
		}
	}
	n.loop = reconcile.New(reconcile.Config{
		Self:   n.id,
		Limits: n.cfg.Cluster.Limits(),
		Store:  n.store,
		Peers:  peers{n},
		Source: src,
		Parse:  n.trust.parse,
		Renews: n.trust.renews,
		Allows: n.trust.allows,
		Hosts:  n.hosts,
		Lease:  n.granter,
		Wake:   n.wake,
		Log:    n.log,
	})
	return nil
}

// close closes what was opened, the last first. What is closed already is no
// error.
func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}

// end has the node end for this reason, unless there was one before.
func (n *node) end(e ending) {
	select {
	case n.ends <- e:
	default:
	}
}

// exit is the runner's: a step ends the agent.
func (n *node) exit(why string) {
	if n.runner.Departed() != "" {
		n.end(ending{err: ErrDeparted, why: why})
		return
	}
	n.end(ending{err: ErrRestart, why: why})
}

// run runs the node's parts until one fails, ctx ends, or a step ends it. The
// order of the end is what the contexts below are for.
func (n *node) run(ctx context.Context) error {
	ctx, stopped := context.WithCancel(ctx)
	defer stopped()
	var leading, working, serving group
	leading.open()
	working.open()
	serving.open()

	serving.start(func(ctx context.Context) { n.serve(ctx) })
	serving.start(func(ctx context.Context) { n.control(ctx) })
	serving.start(n.board.run)
	serving.start(n.telemetry)
	serving.start(n.notify)
	serving.start(n.watchInstalled)
	working.start(func(ctx context.Context) {
		if err := n.runner.Loop(ctx); err != nil {
			n.end(ending{err: fmt.Errorf("the runner: %w", err)})
		}
	})
	working.start(n.holder.Run)
	working.start(n.withdraw)
	working.start(n.prove)
	working.start(n.join)
	working.start(n.keep)
	leading.start(n.lead)
	if n.deps.Ready != nil {
		n.deps.Ready()
	}
	n.log.Info("the agent runs", "id", n.id, "address", n.cfg.Node.Address, "version", n.deps.Version, "cluster", n.identity.Self().Cluster)

	var why ending
	select {
	case why = <-n.ends:
	case <-n.raft.Done():
		why = ending{err: n.raft.Err()}
	case <-ctx.Done():
		why = ending{stop: true, leave: n.cfg.LeaveOnTerminate, why: "the agent was told to stop"}
	}
	n.log.Info("the agent ends", "why", cmp.Or(why.why, fmt.Sprint(why.err)))
	if err := systemd.Stopping(); err != nil {
		n.log.Debug("the service manager was not told that the agent ends", "error", err)
	}

	// To leave takes a leader that carries it out, which may be this node.
	if why.leave {
		why.err = n.leave(why)
	}
	if r, ok := n.loop.Report(); ok {
		n.seen = r.View
	}
	if errors.Is(why.err, ErrDeparted) {
		n.farewell()
	}
	leading.close()
	if why.err == nil || errors.Is(why.err, ErrRestart) || errors.Is(why.err, ErrDeparted) {
		n.stepAside(why)
	}
	working.close()
	if errors.Is(why.err, ErrDeparted) {
		n.quitGuard()
	}
	if err := n.raft.Close(); err != nil {
		n.log.Warn("raft did not close in order", "error", err)
	}
	if why.err == nil || errors.Is(why.err, ErrRestart) || errors.Is(why.err, ErrDeparted) {
		if err := n.runner.EndStart(); err != nil {
			n.log.Warn("that the agent ends in order could not be written down", "error", err)
		}
	}
	serving.close()
	if why.err == nil && why.stay {
		return ErrStopped
	}
	return why.err
}

// group is goroutines that end together.
type group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func (g *group) open() { g.ctx, g.cancel = context.WithCancel(context.Background()) }

func (g *group) start(f func(context.Context)) { g.wait.Go(func() { f(g.ctx) }) }

// close ends the goroutines and waits for them.
func (g *group) close() {
	g.cancel()
	g.wait.Wait()
}
