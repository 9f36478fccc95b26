package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"

	"ferryman"
	"ferryman/agent/rpc"
	"ferryman/agent/runner"
)

// contactsFile holds what this node knew last of its cluster: the members, and
// the lease that Raft's timings follow, which are set before there is any state.
// After a restart the replicated state is empty until a leader says what is
// committed, and without contacts the node would refuse that leader as a
// stranger. It is a hint for whom to listen to; the node's own state counts as
// soon as it is there.
const contactsFile = "contacts.json"

type contacts struct {
	Members  []rpc.Node        `json:"members"`
	LeaseTTL ferryman.Duration `json:"leaseTTL,omitempty"`
}

// recall reads the contacts and has the node listen to them.
func (n *node) recall() error {
	path := filepath.Join(n.cfg.DataDir, contactsFile)
	raw, err := runner.OpenFile(path).Load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read whom this node knows: %w", err)
	}
	var known contacts
	if err := json.Unmarshal(raw, &known); err != nil {
		n.log.Warn("whom this node knew cannot be read; it asks the addresses of its configuration", "file", path, "error", err)
		return nil
	}
	n.contacts = known
	n.members.Admit(known.Members...)
	return nil
}

// remember writes the members down whenever they are others than before.
func (n *node) remember(s ferryman.State) {
	known := contacts{LeaseTTL: leaseTTL(s)}
	for _, id := range slices.Sorted(maps.Keys(s.Members)) {
		if m := s.Members[id]; !m.Lost {
			known.Members = append(known.Members, rpc.Node{ID: id, Name: m.Name, Address: m.Address})
		}
	}
	if len(known.Members) == 0 || reflect.DeepEqual(known, n.contacts) {
		return
	}
	if known.LeaseTTL != n.contacts.LeaseTTL {
		if err := n.raft.Follow(known.LeaseTTL.Std()); err != nil {
			n.log.Warn("raft keeps the timings that it has", "error", err)
		}
	}
	raw, err := json.Marshal(known)
	if err == nil {
		err = runner.OpenFile(filepath.Join(n.cfg.DataDir, contactsFile)).Save(raw)
	}
	if err != nil {
		n.log.Warn("whom this node knows could not be written down", "error", err)
		return
	}
	n.contacts = known
}

// leaseTTL is that of an automatic failover; zero without one.
func leaseTTL(s ferryman.State) ferryman.Duration {
	if s.Accepted == nil || s.Accepted.Document.Database.Failover.Mode != ferryman.FailoverAutomatic {
		return 0
	}
	return s.Accepted.Document.WithDefaults().Database.Failover.LeaseTTL
}

// whole tells whether the node's own state names its peers: it holds all of the
// log by now. A newcomer's state may name the leader long before it names all.
func (n *node) whole() bool {
	s := n.raft.Status()
	return n.informed() && s.Applied >= s.LastIndex
}

// informed tells whether the node's own state is as new as the last that it
// acted upon: it names the leader, and holds all of the log that was on disk when
// the agent started. How far the log goes by now is not waited for: a leader that
// has much to do is always one entry ahead.
func (n *node) informed() bool {
	s, _ := n.store.State()
	raft := n.raft.Status()
	_, known := s.Members[ferryman.NodeID(raft.LeaderID)]
	return known && raft.Applied >= raft.Opened
}
