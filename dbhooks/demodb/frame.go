package demodb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// An entry of the log, on disk and on the wire alike, is a frame: the payload's length and its CRC-32C, four bytes each, little endian, and the
// payload: kind, position, and what the kind needs.
const (
	kindBeat    byte = iota // on the wire only: the sender's position and the size of its log, so that a replica knows its lag and that the sender lives
	kindPut                 // a key and its value
	kindHistory             // the beginning of a history: its epoch and its id
)

const (
	frameHeader = 8
	maxPayload  = 1 << 20 // a length above this is not a length but damage
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame says that bytes are not a whole, undamaged frame.
var errFrame = errors.New("damaged or incomplete entry")

type entry struct {
	kind     byte
	position uint64
	key      string // put
	value    string // put
	epoch    uint64 // history
	history  string // history
	bytes    uint64 // beat: the size of the log up to position
}

func (e entry) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b = append(b, e.kind)
	b = binary.AppendUvarint(b, e.position)
	switch e.kind {
	case kindBeat:
		b = binary.AppendUvarint(b, e.bytes)
	case kindPut:
		b = binary.AppendUvarint(b, uint64(len(e.key)))
		b = append(b, e.key...)
		b = append(b, e.value...)
	case kindHistory:
		b = binary.AppendUvarint(b, e.epoch)
		b = append(b, e.history...)
	}
	payload := b[start+frameHeader:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(payload, castagnoli))
	return b
}

// size is the length of its frame in bytes.
func (e entry) size() int {
	var b [binary.MaxVarintLen64]byte
	n := frameHeader + 1 + binary.PutUvarint(b[:], e.position)
	switch e.kind {
	case kindBeat:
		n += binary.PutUvarint(b[:], e.bytes)
	case kindPut:
		n += binary.PutUvarint(b[:], uint64(len(e.key))) + len(e.key) + len(e.value)
	case kindHistory:
		n += binary.PutUvarint(b[:], e.epoch) + len(e.history)
	}
	return n
}

// readEntry reads one frame and says how many bytes it took. io.EOF means that there was none; errFrame, that there was something else.
func readEntry(r io.Reader) (entry, int, error) {
	var header [frameHeader]byte
	if n, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errFrame
		}
		return entry{}, n, err
	}
	size := binary.LittleEndian.Uint32(header[:])
	if size == 0 || size > maxPayload {
		return entry{}, frameHeader, errFrame
	}
	payload := make([]byte, size)
	if n, err := io.ReadFull(r, payload); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = errFrame
		}
		return entry{}, frameHeader + n, err
	}
	n := frameHeader + int(size)
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
		return entry{}, n, errFrame
	}
	e, err := decodePayload(payload)
	return e, n, err
}

func decodePayload(b []byte) (entry, error) {
	e := entry{kind: b[0]}
	var ok bool
	if e.position, b, ok = cutUvarint(b[1:]); !ok {
		return e, errFrame
	}
	switch e.kind {
	case kindBeat:
		if e.bytes, _, ok = cutUvarint(b); !ok {
			return e, errFrame
		}
	case kindPut:
		size, rest, ok := cutUvarint(b)
		if !ok || size > uint64(len(rest)) {
			return e, errFrame
		}
		e.key, e.value = string(rest[:size]), string(rest[size:])
	case kindHistory:
		if e.epoch, b, ok = cutUvarint(b); !ok {
			return e, errFrame
		}
		e.history = string(b)
	default:
		return e, fmt.Errorf("entry %d has the unknown kind %d: written by a newer version?", e.position, e.kind)
	}
	return e, nil
}

func cutUvarint(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
