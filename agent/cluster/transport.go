package cluster

import "github.com/hashicorp/raft"

// Transport carries raft's messages. Pre-votes are required, so that a node
// that comes back from isolation does not depose a healthy leader; a transport
// that hides them turns them off without a word.
type Transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
	// Abort ends the calls that are under way, and every later one at once.
	// Without it a node that closes would wait for peers that do not answer.
	Abort()
}

// noFastPath ignores raft's short cut for heartbeats. The short cut changes
// term and state from the transport's goroutine while the main loop runs: an
// old leader that hears of its successor and takes a proposal in the same
// moment would append it under its successor's term, and two nodes would hold
// different entries of one index and term. So heartbeats queue like the rest.
type noFastPath struct{}

func (noFastPath) SetHeartbeatHandler(func(raft.RPC)) {}
