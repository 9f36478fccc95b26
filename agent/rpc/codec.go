package rpc

import (
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/protoadapt"
)

// codec writes protobuf messages as protobuf, because Raft's transport shares
// the server, and everything else as JSON. It is forced on our servers and
// calls and registered nowhere.
type codec struct{ proto encoding.CodecV2 }

func newCodec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

func (codec) Name() string { return "ferryman" }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if isProto(v) {
		return c.proto.Marshal(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if isProto(v) {
		return c.proto.Unmarshal(data, v)
	}
	// Unknown fields pass: during a rolling upgrade of agents the other side
	// may be newer.
	if err := json.Unmarshal(data.Materialize(), v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

func isProto(v any) bool {
	switch v.(type) {
	case protoadapt.MessageV1, protoadapt.MessageV2:
		return true
	}
	return false
}
