package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"time"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
	"ferryman/agent/source"
	"ferryman/agent/state"
)

// lonelyAfter is how long a member goes without a leader before it asks around:
// the others may have moved, or have gone on without it.
const lonelyAfter = 10 * time.Second

// differs tells whether a member said other things of itself than are recorded.
func differs(old, now ferryman.Member) bool {
	return old.Name != now.Name || old.Address != now.Address || old.Zone != now.Zone || old.Witness != now.Witness ||
		old.LeaveOnTerminate != now.LeaveOnTerminate || len(old.Services)+len(now.Services) > 0 && !reflect.DeepEqual(old.Services, now.Services)
}

// join sees to it that this node is a member and that the others know what it
// is: it asks for the leader, and then the leader, until its own state says so.
func (n *node) join(ctx context.Context) {
	retry := retryFirst
	told, complained := len(n.contacts.Members) > 0, ""
	for ctx.Err() == nil {
		moved := n.store.Changed()
		if !n.mustJoin() {
			wait := lonelyAfter / 2
			switch {
			case told && n.whole():
				n.members.Admit() // from here on the node's own state counts
				told = false
				n.log.Info("this node is a member", "cluster", n.identity.Self().Cluster)
			case told:
				wait = retryLast
			}
			if !told {
				s, _ := n.store.State()
				n.remember(s)
			}
			retry, complained = retryFirst, ""
			select {
			case <-moved:
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		}
		reply, err := n.askToJoin(ctx)
		if err == nil && reply.Left != "" {
			n.log.Warn("this node left its cluster while it was away; it stops its database and ends", "reason", reply.Left)
			if err = n.runner.Depart(reply.Left); err == nil {
				return
			}
		}
		if err == nil {
			n.members.Admit(slices.Concat(n.contacts.Members, reply.Members)...)
			told = true
		} else if text := err.Error(); text != complained && ctx.Err() == nil && len(n.raft.Configuration()) == 0 {
			n.log.Warn("this node is not in a cluster yet; it goes on asking", "error", err)
			complained = text
		}
		select {
		case <-moved:
		case <-time.After(retry):
		case <-ctx.Done():
		}
		retry = min(2*retry, retryLast)
	}
}

// mustJoin tells whether somebody must hear of this node.
func (n *node) mustJoin() bool {
	s, _ := n.store.State()
	m, ok := s.Members[n.id]
	raft := n.raft.Status()
	if _, leads := n.raft.Leader(); leads && s.Cluster == "" {
		return false // it is founding one
	}
	if !ok || differs(m, n.self()) {
		return true
	}
	return raft.LeaderID == "" && time.Since(raft.LastContact) > lonelyAfter
}

// askToJoin asks every place where the cluster may be, and goes where they say
// the leader is.
func (n *node) askToJoin(ctx context.Context) (rpc.JoinReply, error) {
	self := n.self()
	req := rpc.JoinRequest{ID: self.ID, Name: self.Name, Address: self.Address, Zone: self.Zone, Witness: self.Witness,
		LeaveOnTerminate: self.LeaveOnTerminate, Services: self.Services, BootID: n.bootID, Version: n.deps.Version, Format: state.Format}
	if l, ok := n.raft.Leader(); ok && l != nil {
		return backend{n}.Join(ctx, req) // it leads, and its own record is old
	}
	asked := map[rpc.Place]bool{}
	var failed []error
	ask := func(p rpc.Place) (rpc.JoinReply, error) {
		asked[p] = true
		peer, err := n.network.Peer(p.Name, p.Address)
		if err != nil {
			return rpc.JoinReply{}, err
		}
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		reply, err := peer.Join(call, req)
		if err == nil && reply.Cluster != n.identity.Self().Cluster {
			err = fmt.Errorf("%w: %s is in cluster %s, this node's certificate is for %s", ferryman.ErrWrongCluster, p.Address, reply.Cluster, n.identity.Self().Cluster)
		}
		return reply, err
	}
	for _, p := range n.places(ctx) {
		if asked[p] || p.Address == n.cfg.Node.Address || ctx.Err() != nil {
			continue
		}
		reply, err := ask(p)
		var notLeader rpc.NotLeader
		if errors.As(err, &notLeader) && notLeader.Leader.Address != "" {
			reply, err = ask(rpc.Place{Name: notLeader.Leader.Name, Address: notLeader.Leader.Address})
		}
		if err == nil && (reply.Joined || reply.Left != "") {
			return reply, nil
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return rpc.JoinReply{}, errors.New("there is nobody to ask: set `join` to the address of a node of the cluster, or source.url to an api-server that lists its hosts; to found a new cluster, run `ferryman init`")
	}
	return rpc.JoinReply{}, errors.Join(failed...)
}

// places are where the cluster may be: its members as far as they are known,
// the configured addresses, and the hosts that the api-server lists.
func (n *node) places(ctx context.Context) []rpc.Place {
	var places []rpc.Place
	s, _ := n.store.State()
	for _, id := range slices.Sorted(maps.Keys(s.Members)) {
		if m := s.Members[id]; id != n.id && !m.Lost {
			places = append(places, rpc.Place{Name: m.Name, Address: m.Address})
		}
	}
	for _, c := range n.contacts.Members {
		if c.ID != n.id {
			places = append(places, rpc.Place{Name: c.Name, Address: c.Address})
		}
	}
	for _, address := range n.addresses(ctx) {
		places = append(places, rpc.Place{Address: address})
	}
	return places
}

// addresses are those of `join` and of the api-server's hosts. A host that is
// listed without a port has this node's own.
func (n *node) addresses(ctx context.Context) []string {
	addresses := slices.Clone(n.cfg.Join)
	if n.hosts == nil {
		return addresses
	}
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	names, _, err := n.hosts.Current(call)
	if err != nil {
		n.log.Debug("the api-server does not list its hosts", "error", err)
		return addresses
	}
	_, port, _ := net.SplitHostPort(n.cfg.Node.Address)
	for _, name := range names {
		if _, _, err := net.SplitHostPort(name); err != nil {
			name = net.JoinHostPort(name, port)
		}
		addresses = append(addresses, name)
	}
	return addresses
}

// enrol gets this node's certificate with a join token, if it has none.
func (n *node) enrol(ctx context.Context) error {
	if identity.Exists(n.cfg.TLS.Dir) {
		return nil
	}
	if n.cfg.JoinTokenFile == "" {
		return fmt.Errorf("there is no certificate in %s: run `ferryman init` on the first node of a cluster, `ferryman join` on the others, or set join_token_file", n.cfg.TLS.Dir)
	}
	raw, err := os.ReadFile(n.cfg.JoinTokenFile)
	if err != nil {
		return fmt.Errorf("join_token_file: %w", err)
	}
	token, err := identity.ParseToken(string(raw))
	if err != nil {
		return fmt.Errorf("join_token_file %s: %w", n.cfg.JoinTokenFile, err)
	}
	hosts := n.deps.Hosts
	if hosts == nil && n.cfg.Source.URL != "" {
		client, err := source.NewClient(Remote(n.cfg.Source))
		if err != nil {
			return err
		}
		hosts = apiServer{client}
	}
	asking := &node{cfg: n.cfg, log: n.log, hosts: hosts}
	for retry := retryFirst; ; retry = min(2*retry, retryLast) {
		addresses := asking.addresses(ctx)
		err := errors.New("there is nobody to ask: set `join` or source.url")
		if len(addresses) > 0 {
			err = rpc.Enroll(ctx, n.cfg.TLS.Dir, n.cfg.Node.Name, token, addresses)
		}
		if err == nil {
			n.log.Info("this node has a certificate now", "dir", n.cfg.TLS.Dir)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(addresses) > 0 && !errors.Is(err, ferryman.ErrUnavailable) && !errors.Is(err, ferryman.ErrNotLeader) {
			return err
		}
		n.log.Warn("no certificate yet; asking again", "error", err)
		n.say("has no certificate yet: %v", err)
		n.patience(retryLast + slack)
		pause(ctx, retry)
	}
}
