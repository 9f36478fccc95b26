package cluster

import (
	"encoding/binary"
	"fmt"
)

// An entry in the log is the term in which it was proposed, eight bytes, then
// what the machine gets. Every node compares that term with the one raft gave
// the entry: what a leader decided and raft appended only under a later term
// (it lost leadership and won it back in between) is refused everywhere alike.
//
// An entry without content is a barrier: it advances what is applied on every
// node, which raft's own barrier does only on the leader, and never reaches
// the machine. Term 0 stands for any; only barriers use it.
const entryHeader = 8

func encodeEntry(term uint64, data []byte) []byte {
	entry := make([]byte, entryHeader, entryHeader+len(data))
	binary.BigEndian.PutUint64(entry, term)
	return append(entry, data...)
}

func decodeEntry(entry []byte) (term uint64, data []byte, err error) {
	if len(entry) < entryHeader {
		return 0, nil, fmt.Errorf("an entry of %d bytes is too short to be one", len(entry))
	}
	return binary.BigEndian.Uint64(entry), entry[entryHeader:], nil
}
