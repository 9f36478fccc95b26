package demodb

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

const (
	// beatInterval is how often a stream carries something even when nothing is written.
	beatInterval = 300 * time.Millisecond
	// silence is how long a stream may be quiet before its replica takes it for dead.
	silence = 3 * time.Second
	// maxSpan is about how many bytes of the log are sent in one piece.
	maxSpan = 1 << 18
)

// stream is one replica that receives the log from here.
type stream struct {
	name  string
	acked uint64 // the last position that it has on disk
	copy  bool   // a clone in the making: it acknowledges nothing
}

// replicas are the names of those that stream; mu is held.
func (s *server) replicas() []string {
	var names []string
	for _, st := range s.streams {
		if !st.copy {
			names = append(names, st.name)
		}
	}
	slices.Sort(names)
	return names
}

// serveStream sends the log from a position on, for as long as the connection lives. It is refused when the replica's last entry is not in this log.
// Any instance serves its log, not just the primary: a fenced one must, so that its successor gets the end of it.
func (s *server) serveStream(ctx context.Context, conn net.Conn, r *bufio.Reader, req request) {
	s.mu.Lock()
	var res response
	switch h := s.journal.current(); {
	case s.journal.last() == 0:
		res = response{Code: codeRefused, Error: "there are no data here to send"}
	case req.Op == "stream" && !s.journal.contains(req.History, req.Position):
		res = response{Code: codeDiverged, Error: fmt.Sprintf("entry %d of history %s is not here: this log has %d, of history %s", req.Position, req.History, s.journal.last(), h.id)}
	default:
		res = response{Position: s.journal.last(), History: h.id}
	}
	journal := s.journal
	if res.Error == "" {
		s.streams[conn] = &stream{name: req.Name, acked: req.Position, copy: req.Op == "copy"}
		s.acknowledge()
	}
	s.mu.Unlock()
	defer s.endStream(conn)
	if err := writeLine(conn, res); err != nil || res.Error != "" {
		return
	}
	s.background.Go(func() { s.readAcks(conn, r) })
	s.send(ctx, conn, journal, req.Position)
}

func (s *server) endStream(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, conn)
	s.notify()
}

// send ends when the connection does; the reader of the acknowledgements closes it.
func (s *server) send(ctx context.Context, conn net.Conn, journal *journal, position uint64) {
	beat := time.NewTicker(beatInterval)
	defer beat.Stop()
	for {
		s.mu.Lock()
		if s.journal != journal || s.streams[conn] == nil {
			s.mu.Unlock()
			return
		}
		offset, size, last := journal.span(position, maxSpan)
		now := entry{kind: kindBeat, position: journal.last(), bytes: uint64(journal.size)}
		changed := s.changed
		s.mu.Unlock()
		if err := conn.SetWriteDeadline(time.Now().Add(silence)); err != nil {
			return
		}
		// The beat goes first: a replica that is behind learns by how much.
		if _, err := conn.Write(now.appendTo(nil)); err != nil {
			return
		}
		if size > 0 {
			if _, err := io.Copy(conn, io.NewSectionReader(journal.file, offset, size)); err != nil {
				return
			}
			position = last
			continue
		}
		if !s.idle(ctx, changed, beat.C, journal, position) {
			return
		}
	}
}

// idle waits until there is something to send: an entry, or a beat that is due.
func (s *server) idle(ctx context.Context, changed <-chan struct{}, beat <-chan time.Time, journal *journal, position uint64) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-beat:
			return true
		case <-changed:
		}
		s.mu.Lock()
		more := s.journal != journal || journal.last() > position
		changed = s.changed
		s.mu.Unlock()
		if more {
			return true
		}
	}
}

func (s *server) readAcks(conn net.Conn, r *bufio.Reader) {
	defer conn.Close()
	var b [8]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			s.endStream(conn)
			return
		}
		s.mu.Lock()
		if st := s.streams[conn]; st != nil && !st.copy {
			st.acked = binary.LittleEndian.Uint64(b[:])
			s.acknowledge()
		}
		s.mu.Unlock()
	}
}
