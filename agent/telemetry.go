package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ferryman/agent/cluster"
	"ferryman/agent/telemetry"
)

// openTelemetry binds the port that monitoring asks, where there is to be one.
func (n *node) openTelemetry() error {
	if n.cfg.Telemetry.Listen == "" {
		return nil
	}
	var err error
	if n.monitored, err = telemetry.Listen(n.cfg.Telemetry.Listen); err == nil {
		n.closers = append(n.closers, n.monitored.Close)
	}
	return err
}

// telemetry answers monitoring until ctx ends.
func (n *node) telemetry(ctx context.Context) {
	if n.monitored == nil {
		return
	}
	self := telemetry.Self{Cluster: n.identity.Self().Cluster, ID: n.id, Node: n.cfg.Node.Name, Version: n.deps.Version}
	server := telemetry.NewServer(self)
	n.log.Info("monitoring is answered", "listen", n.monitored.Addr())
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { n.introspect(ctx, server) })
	if err := server.Run(ctx, n.monitored, n.log); err != nil && ctx.Err() == nil {
		n.end(ending{err: fmt.Errorf("telemetry.listen %s: %w", n.monitored.Addr(), err)})
	}
}

// introspectEvery is how often the agent looks at itself for monitoring. That it
// does is what /livez goes by.
const introspectEvery = time.Second

// introspect shows the server what this agent knows, again and again.
func (n *node) introspect(ctx context.Context, server *telemetry.Server) {
	var held uint64
	var certificate, looked time.Time
	for ctx.Err() == nil {
		raft := n.raft.Status()
		if time.Since(looked) >= time.Minute { // it reads the files' times
			certificate, looked = n.identity.NotAfter(), time.Now()
		}
		f := n.facts(raft)
		f.Raft.Held, f.CertificateEnds = held, certificate
		server.Show(f)
		held = raft.LastIndex
		pause(ctx, introspectEvery)
	}
}

// facts are what this agent knows now.
func (n *node) facts(raft cluster.Status) telemetry.Facts {
	f := telemetry.Facts{At: time.Now(), Raft: telemetry.Raft{LastContact: raft.LastContact}}
	f.Status, _ = n.board.look()
	f.State, _ = n.store.State()
	for _, s := range n.raft.Configuration() {
		if s.Suffrage == cluster.Voter {
			f.Raft.Voters++
		}
	}
	_, f.Raft.Leads = n.raft.Leader()
	if r, ok := n.loop.Report(); ok {
		f.Report = &r
	}
	f.Guarded = f.State.Primary.Lease != nil && len(n.services) > 0
	f.GuardFails = n.guard.fails()
	return f
}

// watchedGuard remembers why the guard did not answer when it was last asked.
type watchedGuard struct {
	Guard
	mu  sync.Mutex
	why string
}

// Check implements lease.Guard.
func (g *watchedGuard) Check(ctx context.Context) error { return g.note(g.Guard.Check(ctx)) }

// Arm implements lease.Guard.
func (g *watchedGuard) Arm(ctx context.Context, epoch uint64, deadline time.Duration) error {
	return g.note(g.Guard.Arm(ctx, epoch, deadline))
}

func (g *watchedGuard) note(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.why = ""
	if err != nil {
		g.why = err.Error()
	}
	return err
}

// fails says why the guard did not answer; empty when it did.
func (g *watchedGuard) fails() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}
