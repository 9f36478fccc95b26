package demodb

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"ferryman/dbhooks"
)

// following is how replication to this instance goes.
type following struct {
	streaming   bool // connected, and has caught up with what the primary had when it connected
	diverged    bool
	reason      string // why it does not stream
	primarySize uint64 // bytes of the primary's log, as far as known
}

// startFollow starts the follower of marker.From; admin is held, or nothing serves yet.
func (s *server) startFollow() {
	ctx, cancel := context.WithCancel(s.life)
	ended := make(chan struct{})
	s.mu.Lock()
	from := s.marker.From
	s.follow = following{reason: "connecting to " + from}
	s.notify()
	s.mu.Unlock()
	go func() {
		defer close(ended)
		s.followLoop(ctx, from)
	}()
	s.stopFollow = func() {
		cancel()
		<-ended
		s.stopFollow = nil
	}
}

func (s *server) followLoop(ctx context.Context, from string) {
	if s.release.Faults.LieHealthy {
		<-ctx.Done()
		return
	}
	if slow := time.Until(s.started.Add(s.release.Faults.SlowCatchUp.Std())); slow > 0 {
		s.setFollowing(following{reason: "catching up slowly, as asked for"})
		if !pause(ctx, slow) {
			return
		}
	}
	wait := 20 * time.Millisecond
	for {
		began := time.Now()
		err := s.followOnce(ctx, from)
		if ctx.Err() != nil {
			return
		}
		s.setFollowing(following{diverged: errors.Is(err, dbhooks.ErrDiverged), reason: fmt.Sprintf("does not follow %s: %v", from, err)})
		if time.Since(began) > time.Second {
			wait = 20 * time.Millisecond
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, time.Second)
	}
}

func (s *server) setFollowing(f following) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow = f
	s.notify()
}

// followOnce receives the log until something breaks.
func (s *server) followOnce(ctx context.Context, from string) error {
	s.mu.Lock()
	req := request{Op: "stream", Name: s.name, History: s.journal.current().id, Position: s.journal.last()}
	s.mu.Unlock()
	conn, r, res, err := openStream(ctx, from, req)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s.mu.Lock()
	s.follow = following{reason: "catching up with " + from}
	if s.journal.last() >= res.Position {
		s.follow = following{streaming: true}
	}
	s.notify()
	s.mu.Unlock()
	return receive(conn, r, func(batch []entry, primarySize uint64) error {
		if len(batch) > 0 {
			if err := s.append(batch); err != nil {
				return err
			}
			if err := sendAck(conn, batch[len(batch)-1].position); err != nil {
				return err
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if primarySize > 0 {
			s.follow.primarySize = primarySize
		}
		if !s.follow.streaming && s.journal.last() >= res.Position {
			s.follow.streaming, s.follow.reason = true, ""
			s.notify()
		}
		return nil
	})
}

// openStream asks for the log and returns the connection once that was accepted.
func openStream(ctx context.Context, from string, req request) (net.Conn, *bufio.Reader, response, error) {
	dialer := net.Dialer{Timeout: silence}
	conn, err := dialer.DialContext(ctx, "tcp", from)
	if err != nil {
		return nil, nil, response{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r := bufio.NewReaderSize(conn, maxLine)
	var res response
	err = errors.Join(conn.SetDeadline(time.Now().Add(silence)), writeLine(conn, req))
	if err == nil {
		err = readLine(r, &res)
	}
	switch {
	case err != nil:
	case res.Code == codeDiverged:
		err = fmt.Errorf("%w: %s", dbhooks.ErrDiverged, res.Error)
	case res.Error != "":
		err = errors.New(res.Error)
	}
	if err != nil {
		conn.Close()
		return nil, nil, response{}, err
	}
	return conn, r, res, nil
}

// receive hands over the entries of a stream in batches, as many as have arrived, and the size of the sender's log when it was told.
func receive(conn net.Conn, r *bufio.Reader, take func(batch []entry, primarySize uint64) error) error {
	for {
		if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		var batch []entry
		var size uint64
		for {
			e, _, err := readEntry(r)
			if err != nil {
				return err
			}
			if e.kind == kindBeat {
				size = e.bytes
			} else {
				batch = append(batch, e)
			}
			if r.Buffered() < frameHeader || len(batch) >= 4096 {
				break
			}
			head, _ := r.Peek(frameHeader)
			if next := frameHeader + int(binary.LittleEndian.Uint32(head)); r.Buffered() < next {
				break
			}
		}
		if err := take(batch, size); err != nil {
			return err
		}
	}
}

func sendAck(conn net.Conn, position uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], position)
	if err := conn.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return err
	}
	_, err := conn.Write(b[:])
	return err
}

// pause waits, and says whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
