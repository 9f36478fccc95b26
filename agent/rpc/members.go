package rpc

import (
	"fmt"
	"strings"
	"sync"

	"ferryman"
	"ferryman/agent/identity"
)

// Membership is what the authorisation must know of the cluster.
type Membership interface {
	// MemberByName finds a current member by its name, in this node's own
	// replicated state.
	MemberByName(name string) (id, address string, ok bool)
	// SenderOf is whom a message of Raft's transport names as its sender; false
	// if it names nobody.
	SenderOf(message any) (id, address string, ok bool)
}

const (
	raftPrefix = "/RaftTransport/"
	// Its first message names the sender; the data that follow do not.
	raftSnapshot = raftPrefix + "InstallSnapshot"
)

// Members authorises by membership: the caller's name must be that of a current
// member, and the sender in a Raft message must be that member. Only Join is
// open to every node with a certificate of the cluster.
//
// A node whose replicated state is empty or old does not know all members, and
// the leader may be one that it does not know. It therefore also accepts those
// that a member named to it: see Admit.
type Members struct {
	membership Membership

	mu   sync.Mutex
	told map[string]Node // by name
}

// NewMembers authorises by what membership says.
func NewMembers(membership Membership) *Members { return &Members{membership: membership} }

// Admit makes the node accept these beside the members of its own state, in
// place of any it was told before. It is for the members of a JoinReply, which
// came from a node that this one trusts. Admit() ends it, once the node has
// caught up: from then on its own state alone counts.
func (m *Members) Admit(nodes ...Node) {
	told := make(map[string]Node, len(nodes))
	for _, n := range nodes {
		told[n.Name] = n
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = told
}

// ExpectAt is for DialOptions: it accepts the node that answers at an address
// only if it is the member that lives there.
func (m *Members) ExpectAt(address string, p identity.Peer) error {
	for _, n := range m.known(p.Name) {
		if n.Address == address {
			return nil
		}
	}
	return fmt.Errorf("%w: %s answered at %s, which is not its address", identity.ErrWrongPeer, p.Name, address)
}

// Authorize implements Authorizer.
func (m *Members) Authorize(c Call) error {
	if c.Method == fullMethod(peerService, callJoin) {
		return nil
	}
	known := m.known(c.Peer.Name)
	if len(known) == 0 {
		return fmt.Errorf("%w: %s has a certificate of this cluster, but this node knows no member of that name", ferryman.ErrNotMember, c.Peer.Name)
	}
	if !strings.HasPrefix(c.Method, raftPrefix) {
		return nil
	}
	id, address, ok := m.membership.SenderOf(c.Message)
	if !ok && c.Method == raftSnapshot && !c.First {
		return nil
	}
	if !ok || id == "" || address == "" {
		return fmt.Errorf("%w: %s from %s names no sender", ErrWrongSender, c.Method, c.Peer.Name)
	}
	for _, n := range known {
		if string(n.ID) == id && n.Address == address {
			return nil
		}
	}
	return fmt.Errorf("%w: %s from %s (%s at %s) names %s at %s", ErrWrongSender, c.Method, c.Peer.Name, known[0].ID, known[0].Address, id, address)
}

// known is what this node knows under a name: by its own state, and as told.
func (m *Members) known(name string) []Node {
	var known []Node
	if id, address, ok := m.membership.MemberByName(name); ok {
		known = append(known, Node{ID: ferryman.NodeID(id), Name: name, Address: address})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, ok := m.told[name]; ok {
		known = append(known, n)
	}
	return known
}
