package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ferryman"
	"ferryman/agent"
	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
)

// memory joins agents in one process. Raft's messages and ours pass the same
// links, with the same faults, and the same authorisation as on the wire.
type memory struct {
	links *cluster.Network

	mu   sync.Mutex
	ends map[string]*end
	// open are addresses whose links are cut for Raft only.
	open map[string]bool
}

func newMemory(links *cluster.Network) *memory {
	return &memory{links: links, ends: map[string]*end{}, open: map[string]bool{}}
}

// pass is the links' word, except where only Raft is cut.
func (m *memory) pass(from, to string) bool {
	m.mu.Lock()
	open := m.open[from] || m.open[to]
	m.mu.Unlock()
	return open || m.links.Pass(from, to)
}

// onlyRaft has cuts of the address concern Raft's messages only, or not.
func (m *memory) onlyRaft(address string, only bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[address] = only
}

// end is one agent on the network.
type end struct {
	m       *memory
	name    string
	address string
	members *rpc.Members

	backend rpc.Peer // while it serves
	calls   sync.WaitGroup
}

// join is an agent's Deps.Network.
func (m *memory) join(cfg config.Config, _ *identity.Identity, members *rpc.Members, _ *slog.Logger) (agent.Network, error) {
	return &end{m: m, name: cfg.Node.Name, address: cfg.Node.Address, members: members}, nil
}

func (e *end) Transport(cluster.Config) cluster.Transport { return e.m.links.Transport(e.address) }
func (e *end) Keep(func(rpc.Place) bool)                  {}
func (e *end) Close() error                               { return nil }

func (e *end) Serve(ctx context.Context, backend rpc.Peer) error {
	e.m.mu.Lock()
	e.backend = backend
	e.m.ends[e.address] = e
	e.m.mu.Unlock()
	<-ctx.Done()
	e.m.mu.Lock()
	if e.m.ends[e.address] == e {
		delete(e.m.ends, e.address)
	}
	e.m.mu.Unlock()
	e.calls.Wait()
	return nil
}

func (e *end) Peer(name, address string) (agent.Peer, error) {
	return &line{from: e, name: name, address: address}, nil
}

// line is how one agent calls another.
type line struct {
	from          *end
	name, address string
}

// call passes the network there and back; what is lost looks like a silent peer.
func call[T any](ctx context.Context, l *line, method string, message any, f func(context.Context, rpc.Peer) (T, error)) (T, error) {
	var none T
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m := l.from.m
	silent := func() (T, error) {
		<-ctx.Done()
		return none, fmt.Errorf("%s from %s: %w: no answer", method, l.address, ferryman.ErrUnavailable)
	}
	if !m.pass(l.from.address, l.address) {
		return silent()
	}
	m.mu.Lock()
	to, ok := m.ends[l.address]
	if ok {
		to.calls.Add(1)
	}
	m.mu.Unlock()
	if !ok {
		return none, fmt.Errorf("%s from %s: %w: connection refused", method, l.address, ferryman.ErrUnavailable)
	}
	defer to.calls.Done()
	if l.name != "" && l.name != to.name {
		return none, fmt.Errorf("%s: %w: %s answered", method, identity.ErrWrongPeer, to.name)
	}
	caller := rpc.Call{Peer: identity.Peer{Cluster: clusterID, Name: l.from.name}, Method: "/ferryman.Peer/" + method, First: true, Message: message}
	if err := to.members.Authorize(caller); err != nil {
		return none, err
	}
	got, err := f(ctx, to.backend)
	if !m.pass(l.address, l.from.address) {
		return silent()
	}
	if err != nil {
		return none, err
	}
	return travel(got), nil
}

// travel is what the wire does to a value: nothing is shared afterwards.
func travel[T any](v T) (out T) {
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		panic(err)
	}
	return out
}

func (l *line) Status(ctx context.Context, since uint64, wait time.Duration) (ferryman.NodeStatus, error) {
	return call(ctx, l, "Status", nil, func(ctx context.Context, b rpc.Peer) (ferryman.NodeStatus, error) {
		over := time.NewTimer(wait)
		defer over.Stop()
		for {
			s, changed := b.Status()
			if s.Seq != since || wait <= 0 {
				return s, nil
			}
			select {
			case <-changed:
			case <-over.C:
				return s, nil
			case <-ctx.Done():
				return s, ctx.Err()
			}
		}
	})
}

func (l *line) RunStep(ctx context.Context, ref rpc.StepRef) (ferryman.Outcome, error) {
	return call(ctx, l, "RunStep", ref, func(ctx context.Context, b rpc.Peer) (ferryman.Outcome, error) { return b.RunStep(ctx, ref) })
}

func (l *line) Renew(ctx context.Context, req rpc.RenewRequest) (rpc.RenewReply, error) {
	return call(rpc.WithCaller(ctx, identity.Peer{Cluster: clusterID, Name: l.from.name}), l, "Renew", req,
		func(ctx context.Context, b rpc.Peer) (rpc.RenewReply, error) { return b.Renew(ctx, req) })
}

func (l *line) Join(ctx context.Context, req rpc.JoinRequest) (rpc.JoinReply, error) {
	return call(ctx, l, "Join", req, func(ctx context.Context, b rpc.Peer) (rpc.JoinReply, error) { return b.Join(ctx, req) })
}

func (l *line) Enroll(context.Context, rpc.EnrollRequest) (rpc.EnrollReply, error) {
	return rpc.EnrollReply{}, errors.New("nobody enrols here")
}

func (l *line) Report(ctx context.Context) (ferryman.Report, error) {
	return call(ctx, l, "Report", nil, func(ctx context.Context, b rpc.Peer) (ferryman.Report, error) { return b.Report(ctx) })
}

func (l *line) Request(ctx context.Context, r ferryman.Request) error {
	_, err := call(ctx, l, "Request", r, func(ctx context.Context, b rpc.Peer) (struct{}, error) { return struct{}{}, b.Request(ctx, r) })
	return err
}
