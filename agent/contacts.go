package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"ferryman"
	"ferryman/agent/rpc"
	"ferryman/agent/runner"
)

// contactsFile names the members as this node knew them last. After a restart
// the replicated state is empty until a leader says what is committed, and
// without contacts the node would refuse that leader as a stranger. It is a
// hint for whom to listen to; the node's own state counts as soon as it is there.
const contactsFile = "contacts.json"

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
	var contacts []rpc.Node
	if err := json.Unmarshal(raw, &contacts); err != nil {
		n.log.Warn("whom this node knew cannot be read; it asks the addresses of its configuration", "file", path, "error", err)
		return nil
	}
	n.contacts = contacts
	n.members.Admit(contacts...)
	return nil
}

// remember writes the members down whenever they are others than before.
func (n *node) remember(s ferryman.State) {
	var contacts []rpc.Node
	for _, id := range slices.Sorted(maps.Keys(s.Members)) {
		if m := s.Members[id]; !m.Lost {
			contacts = append(contacts, rpc.Node{ID: id, Name: m.Name, Address: m.Address})
		}
	}
	if len(contacts) == 0 || slices.Equal(contacts, n.contacts) {
		return
	}
	raw, err := json.Marshal(contacts)
	if err == nil {
		err = runner.OpenFile(filepath.Join(n.cfg.DataDir, contactsFile)).Save(raw)
	}
	if err != nil {
		n.log.Warn("whom this node knows could not be written down", "error", err)
		return
	}
	n.contacts = contacts
}

// informed tells whether the node's own state says who its peers are: it names
// the leader, and holds all of the log that this node has.
func (n *node) informed() bool {
	s, _ := n.store.State()
	raft := n.raft.Status()
	_, known := s.Members[ferryman.NodeID(raft.LeaderID)]
	return known && raft.Applied >= raft.LastIndex
}
