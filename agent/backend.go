package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
	"ferryman/agent/state"
)

// backend answers the other agents.
type backend struct{ n *node }

var _ rpc.Peer = backend{}

// Report is what this node knows as the leader.
func (b backend) Report(context.Context) (ferryman.Report, error) {
	if _, err := b.n.leads(); err != nil {
		return ferryman.Report{}, err
	}
	r, ok := b.n.loop.Report()
	if !ok {
		return ferryman.Report{}, rpc.NotLeader{}
	}
	// Who asked for something and then looks sees at least that: the loop may
	// not have turned since.
	r.State, _ = b.n.store.State()
	return r, nil
}

// Request commits somebody's wish.
func (b backend) Request(ctx context.Context, r ferryman.Request) error {
	l, err := b.n.leads()
	if err != nil {
		return err
	}
	return b.n.propose(ctx, l, state.Command{At: time.Now(), Request: &r})
}

// Status is this node's.
func (b backend) Status() (ferryman.NodeStatus, <-chan struct{}) { return b.n.board.look() }

// RunStep carries out what this node's own state says.
func (b backend) RunStep(ctx context.Context, ref rpc.StepRef) (ferryman.Outcome, error) {
	if caller, ok := rpc.CallerFrom(ctx); ok && caller.Name != b.n.leaderNode().Name {
		return ferryman.Outcome{}, fmt.Errorf("step %d: %w: %s asks, and this node's leader is %q", ref.Step, ferryman.ErrRefused, caller.Name, b.n.leaderNode().Name)
	}
	return b.n.runStep(ctx, ref)
}

// intentWait is how long a node waits for an intent to reach its own state.
const intentWait = 5 * time.Second

// runStep starts a step, or says how far it is. Nothing of it comes from the
// call: the node waits until its own state holds the intent, still open and
// under the caller's term, and reads the step there. So what is not committed
// cannot run, and neither can what a deposed leader asks for, or what rests on a
// document that this node does not trust.
func (n *node) runStep(ctx context.Context, ref rpc.StepRef) (ferryman.Outcome, error) {
	fail := func(format string, args ...any) (ferryman.Outcome, error) {
		return ferryman.Outcome{}, fmt.Errorf("step %d: %w: %s", ref.Step, ferryman.ErrRefused, fmt.Sprintf(format, args...))
	}
	wait, cancel := context.WithTimeout(ctx, intentWait)
	defer cancel()
	if err := n.raft.WaitApplied(wait, ref.Index); err != nil {
		return ferryman.Outcome{}, fmt.Errorf("step %d: its intent has not reached this node: %w", ref.Step, err)
	}
	if term := n.raft.Status().Term; term != ref.Term {
		return fail("it is asked for under term %d, and this node is in term %d", ref.Term, term)
	}
	s, _ := n.store.State()
	st, ok := s.Step(ref.Step)
	switch {
	case !ok:
		return fail("this node's state does not hold it")
	case st.Node != n.id:
		return fail("it is for node %s, and this is %s", st.Node, n.id)
	case !st.Open():
		return fail("it is closed (%s)", st.Outcome.Status)
	}
	if err := n.trust.allows(s, st); err != nil {
		return fail("%v", err)
	}
	return n.runner.Run(st)
}

// LeaderWithID says who leads.
func (b backend) LeaderWithID(context.Context) (rpc.Node, error) { return b.n.leaderNode(), nil }

// AddVoter gives a member its vote once it has caught up.
func (b backend) AddVoter(ctx context.Context, id ferryman.NodeID) error {
	l, err := b.n.leads()
	if err != nil {
		return err
	}
	r, _ := b.n.loop.Report()
	if v := r.View.Nodes[id]; !v.CaughtUp {
		return fmt.Errorf("give %s a vote: %w: it has not caught up with this leader", id, ferryman.ErrConflict)
	}
	if voters(r.View) >= b.n.cfg.Cluster.MaxVoters && r.View.Raft[id] != ferryman.Voter {
		return fmt.Errorf("give %s a vote: %w: there are %d voters, as many as max_voters allows", id, ferryman.ErrConflict, voters(r.View))
	}
	_, err = l.AddVoter(ctx, string(id))
	return err
}

// DemoteVoter takes a vote, if the others are enough without it.
func (b backend) DemoteVoter(ctx context.Context, id ferryman.NodeID) error {
	l, err := b.n.leads()
	if err != nil {
		return err
	}
	if err := b.n.spare(id); err != nil {
		return fmt.Errorf("demote %s: %w", id, err)
	}
	_, err = l.DemoteVoter(ctx, string(id))
	return err
}

// RemoveServer takes a node out of the Raft group that is leaving, or no member.
func (b backend) RemoveServer(ctx context.Context, id ferryman.NodeID) error {
	l, err := b.n.leads()
	if err != nil {
		return err
	}
	s, _ := b.n.store.State()
	if m, ok := s.Members[id]; ok && m.Want != ferryman.WantLeaving {
		return fmt.Errorf("remove %s: %w: it is a member that does not leave; `ferryman leave %s` comes first", id, ferryman.ErrConflict, m.Name)
	}
	if err := b.n.spare(id); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	_, err = l.Remove(ctx, string(id))
	return err
}

// spare refuses to take a voter away if the others could not decide without it.
func (n *node) spare(id ferryman.NodeID) error {
	r, ok := n.loop.Report()
	if !ok {
		return rpc.NotLeader{}
	}
	if r.View.Raft[id] != ferryman.Voter {
		return nil
	}
	left, alive := 0, 0
	for other, s := range r.View.Raft {
		if s != ferryman.Voter || other == id {
			continue
		}
		left++
		if r.View.Nodes[other].Reachable {
			alive++
		}
	}
	if alive <= left/2 {
		return fmt.Errorf("%w: of the %d other voters %d answer, which is no majority", ferryman.ErrConflict, left, alive)
	}
	return nil
}

func voters(v ferryman.View) int {
	count := 0
	for _, s := range v.Raft {
		if s == ferryman.Voter {
			count++
		}
	}
	return count
}

// contactFor is how long ago a node may have answered to count as alive.
const contactFor = 5 * time.Second

// alive tells whether a member answered this leader lately. A leader that has
// just begun does not know yet, and then it is taken to be.
func (n *node) alive(id ferryman.NodeID) bool {
	if id == n.id {
		return true
	}
	r, ok := n.loop.Report()
	if !ok {
		return true
	}
	v := r.View.Nodes[id]
	return v.Reachable || time.Since(r.View.Since) < contactFor || time.Since(v.Contact) < contactFor
}

// Join makes the caller a member, or renews what it said of itself. A name
// belongs to one node: if that one is dead, its place is taken over.
func (b backend) Join(ctx context.Context, req rpc.JoinRequest) (rpc.JoinReply, error) {
	n := b.n
	l, err := n.leads()
	if err != nil {
		return rpc.JoinReply{}, err
	}
	s, _ := n.store.State()
	if s.Cluster == "" {
		return rpc.JoinReply{}, fmt.Errorf("join of %s: %w: the cluster is being founded", req.Name, ferryman.ErrUnavailable)
	}
	if slices.Contains(s.Departed, req.ID) {
		return rpc.JoinReply{Cluster: s.Cluster, Left: "the cluster goes on without it, as it left or was replaced while it was silent"}, nil
	}
	if req.Format < s.Format {
		return rpc.JoinReply{}, fmt.Errorf("join of %s: %w: its agent understands format %d of the state, the cluster uses %d; install the agent that the others run", req.Name, ferryman.ErrConflict, req.Format, s.Format)
	}
	m := ferryman.Member{ID: req.ID, Name: req.Name, Address: req.Address, Zone: req.Zone, Witness: req.Witness,
		Services: req.Services, Want: ferryman.WantActive, LeaveOnTerminate: req.LeaveOnTerminate}
	if old, ok := s.Members[req.ID]; !ok || differs(old, m) {
		cmd := state.Command{At: time.Now(), Join: &m}
		for id, old := range s.Members {
			if id == m.ID || old.Lost || old.Name != m.Name && old.Address != m.Address {
				continue
			}
			if n.alive(id) {
				return rpc.JoinReply{}, fmt.Errorf("join of %s at %s: %w: node %s has that name or address (%s at %s) and is alive; choose another name, or stop that node first",
					m.Name, m.Address, ferryman.ErrConflict, id, old.Name, old.Address)
			}
			cmd.Moves = append(cmd.Moves, ferryman.Transition{Kind: ferryman.MoveWant, Node: id, Want: ferryman.WantLeaving, Lost: true,
				Reason: fmt.Sprintf("node %s took its place", m.ID)})
		}
		if err := b.n.propose(ctx, l, cmd); err != nil {
			return rpc.JoinReply{}, fmt.Errorf("join of %s: %w", m.Name, err)
		}
		s, _ = n.store.State()
	}
	reply := rpc.JoinReply{Cluster: s.Cluster, Joined: true}
	for id, m := range s.Members {
		if !m.Lost {
			reply.Members = append(reply.Members, rpc.Node{ID: id, Name: m.Name, Address: m.Address})
		}
	}
	return reply, nil
}

// Enroll signs a certificate for whoever holds a token that was not used yet.
func (b backend) Enroll(ctx context.Context, req rpc.EnrollRequest) (rpc.EnrollReply, error) {
	n := b.n
	fail := func(err error) (rpc.EnrollReply, error) {
		return rpc.EnrollReply{}, fmt.Errorf("enrol %s: %w", req.Name, err)
	}
	l, err := n.leads()
	if err != nil {
		return rpc.EnrollReply{}, err
	}
	token, err := identity.ParseToken(req.Token)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ferryman.ErrInvalid, err))
	}
	s, _ := n.store.State()
	known, ok := s.Tokens[token.ID]
	if !ok || !token.Matches(known.Hash) || !time.Now().Before(known.Expires) {
		return fail(fmt.Errorf("%w: the join token was used already, ran out, or is not of this cluster; make a new one with `ferryman certs token`", rpc.ErrUnauthenticated))
	}
	// Otherwise a token would be enough to become somebody who is there.
	if m, ok := s.Member(req.Name); ok && !m.Lost && n.alive(m.ID) {
		return fail(fmt.Errorf("%w: node %s has that name and is alive; choose another", ferryman.ErrConflict, m.ID))
	}
	ca, err := n.identity.CA()
	if err != nil {
		return fail(err)
	}
	cert, err := ca.Sign(req.Name, req.Request, certificateTTL)
	if err != nil {
		return fail(err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return fail(err)
	}
	// The token is used up before the answer leaves.
	use := ferryman.Request{Kind: ferryman.RequestUseToken, TokenID: token.ID, By: req.Name}
	if err := b.n.propose(ctx, l, state.Command{At: time.Now(), Request: &use}); err != nil {
		return fail(err)
	}
	return rpc.EnrollReply{Certificate: cert, CACertificate: ca.CertPEM(), CAKey: key}, nil
}

// control answers the person on this host.
type control struct{ n *node }

var _ rpc.Control = control{}

// Report asks the leader, wherever it is.
func (c control) Report(ctx context.Context) (r ferryman.Report, err error) {
	err = c.n.atLeader(func(l rpc.Cluster) error {
		r, err = l.Report(ctx)
		return err
	})
	return r, err
}

// Request asks the leader, wherever it is.
func (c control) Request(ctx context.Context, r ferryman.Request) error {
	return c.n.atLeader(func(l rpc.Cluster) error { return l.Request(ctx, r) })
}

// Local is what this node knows by itself.
func (c control) Local(context.Context) (rpc.LocalReport, error) {
	status, _ := c.n.board.look()
	s, _ := c.n.store.State()
	return rpc.LocalReport{Status: status, State: s, Leader: c.n.leaderNode()}, nil
}

// maxGoroutines bounds a dump, in bytes.
const maxGoroutines = 4 << 20

// Debug is what this agent knows of its own insides.
func (c control) Debug(context.Context) (rpc.DebugReport, error) {
	d := rpc.DebugReport{Raft: c.n.raft.Stats()}
	s, _ := c.n.store.State()
	for _, server := range c.n.raft.Configuration() {
		id := ferryman.NodeID(server.ID)
		d.Servers = append(d.Servers, rpc.RaftServer{Node: rpc.Node{ID: id, Name: s.Members[id].Name, Address: server.Address}, Suffrage: ferryman.Suffrage(server.Suffrage)})
	}
	stacks := make([]byte, maxGoroutines)
	d.Goroutines = string(stacks[:runtime.Stack(stacks, true)])
	return d, nil
}

// Token makes a join token and has the cluster remember its hash.
func (c control) Token(ctx context.Context, req rpc.TokenRequest) (string, error) {
	if req.TTL <= 0 {
		return "", fmt.Errorf("a join token needs a time after which it ends: %w", ferryman.ErrInvalid)
	}
	ca, err := c.n.identity.CA()
	if err != nil {
		return "", fmt.Errorf("make a join token: %w", err)
	}
	token := identity.NewToken(ca)
	err = c.Request(ctx, ferryman.Request{Kind: ferryman.RequestToken, By: c.n.cfg.Node.Name, TokenID: token.ID,
		Token: &ferryman.Token{Hash: token.Hash(), Expires: time.Now().Add(req.TTL.Std())}})
	if err != nil {
		return "", fmt.Errorf("make a join token: %w", err)
	}
	return token.Encode(), nil
}

// Stop ends the agent as SIGTERM does; whoever started it leaves it at that.
func (c control) Stop(_ context.Context, req rpc.StopRequest) error {
	if req.For < 0 {
		return errors.Join(ferryman.ErrInvalid, errors.New("the time away cannot be negative"))
	}
	why := req.Reason
	if why == "" {
		why = "the agent was told to stop"
	}
	c.n.end(ending{stop: true, stay: true, leave: c.n.cfg.LeaveOnTerminate && req.For == 0, why: why, away: req.For.Std()})
	return nil
}
