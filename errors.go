package ferryman

import "errors"

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotLeader means that only Raft's leader does this; ask it.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrRefused means that the replicated state did not allow a command.
	ErrRefused = errors.New("refused")
	// ErrNotMember means that the caller is no member of this cluster.
	ErrNotMember = errors.New("not a member of this cluster")
	// ErrWrongCluster means that the other side belongs to another cluster.
	ErrWrongCluster = errors.New("another cluster")
	// ErrConflict means that what is asked contradicts what is there.
	ErrConflict = errors.New("conflict")
	// ErrUnsupported means that the engine does not carry out the operation.
	ErrUnsupported = errors.New("not supported by this engine")
	// ErrUnavailable means that the other side cannot be reached now.
	ErrUnavailable = errors.New("unavailable")
	// ErrInvalid means that what was given cannot be right; nothing changed.
	ErrInvalid = errors.New("invalid")
)
