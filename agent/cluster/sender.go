package cluster

import (
	"bytes"

	pb "github.com/Jille/raft-grpc-transport/proto"
)

// SenderOf reads who says to have sent a message of the transport: raft
// believes it. The id must be that of the certificate, and the address that of
// the node with this id.
//
// It is false for what is no request of the transport, and for requests that
// name no sender, name two, or would make the transport panic: refuse those.
// One exception: in an InstallSnapshot stream only the first message names its
// sender, and must; the rest are data.
func SenderOf(msg any) (id, address string, ok bool) {
	var header *pb.RPCHeader
	var legacy []byte // an older field, which raft believes when the header has no address
	switch m := msg.(type) {
	case *pb.AppendEntriesRequest:
		header, legacy = m.GetRpcHeader(), m.GetLeader()
		for _, entry := range m.GetEntries() {
			if _, known := pb.Log_LogType_name[int32(entry.GetType())]; !known {
				return "", "", false
			}
		}
	case *pb.RequestVoteRequest:
		header, legacy = m.GetRpcHeader(), m.GetCandidate()
	case *pb.RequestPreVoteRequest:
		header = m.GetRpcHeader()
	case *pb.TimeoutNowRequest:
		header = m.GetRpcHeader()
	case *pb.InstallSnapshotRequest:
		header, legacy = m.GetRpcHeader(), m.GetLeader()
	}
	if len(header.GetId()) == 0 || len(header.GetAddr()) == 0 {
		return "", "", false
	}
	if len(legacy) > 0 && !bytes.Equal(legacy, header.GetAddr()) {
		return "", "", false
	}
	return string(header.GetId()), string(header.GetAddr()), true
}
