package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"ferryman"
)

// Errors that callers tell apart with errors.Is. Besides these, what only the
// leader does fails with ferryman.ErrNotLeader elsewhere, and nothing was done.
var (
	// ErrUnknownOutcome means that leadership ended, or the node was closed,
	// while an entry was under way: it may be carried out yet, or never. Whoever
	// leads next sees in the state which it was.
	ErrUnknownOutcome = errors.New("the outcome is not known")
	// ErrTransferring means that leadership is being handed over: nothing was
	// done; try again when the transfer has ended.
	ErrTransferring = errors.New("leadership is being handed over")
	// ErrBusy means that raft's main loop did not take the request in time:
	// nothing was done. It is usually a disk that does not answer.
	ErrBusy = errors.New("raft is busy")
	// ErrTooLarge means that an entry is empty or larger than MaxEntry.
	ErrTooLarge = errors.New("the entry is too large")
	// ErrHasState means that a node that is already part of a cluster was told
	// to found one. Nothing changed; that is harmless.
	ErrHasState = errors.New("this node already belongs to a cluster")
	// ErrClosed means that the node was closed.
	ErrClosed = errors.New("the cluster node is closed")
	// ErrCorrupt means that the store cannot be read in full. It is never
	// emptied; the error says which path, and how to go on.
	ErrCorrupt = errors.New("the raft store is corrupt")
	// ErrInUse means that another agent runs on the same data directory.
	ErrInUse = errors.New("an agent is already running on this data directory")
	// ErrMarkerUsed means that the permission to found a cluster was used and
	// yet there is no cluster here.
	ErrMarkerUsed = errors.New("the marker to found a cluster was used already")
)

// outcome gives raft's errors our words: above all whether an entry may still
// be carried out after its proposer has heard of the failure.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return ferryman.ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrTransferring
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	default:
		return err
	}
}
