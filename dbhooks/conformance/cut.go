package conformance

import (
	"net"
	"sync"
	"testing"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/demo/port"
)

// operationKeepsToItsProcess has the process replaced by another at each point of a promotion at which something goes to or comes from it, as happens
// to an agent that is stopped there. The other process must not accept writes, and the promotion fails unless it had its last answer.
func operationKeepsToItsProcess(t *testing.T, s Suite) {
	way := newCut(t)
	n := newNode(t, s, dbhooks.Config{Address: way.address(), Listen: way.to})
	replica := newNodes(t, s, 1)[0]
	promote, from := ferryman.Args{Epoch: 1}, ferryman.Args{Epoch: 1, From: way.address()}
	n.must(t, ferryman.OpInitialise, ferryman.Args{})
	n.must(t, ferryman.OpPromote, promote)
	replica.must(t, ferryman.OpClone, from)
	replica.must(t, ferryman.OpFollow, from)
	n.put(t, "a", "1")
	replica.stop(t) // it would speak over the way, too
	n.stop(t)
	n.start(t)
	for at, over := 0, false; ; at++ {
		n.must(t, ferryman.OpVerify, ferryman.Args{}) // an engine that keeps connections has one now
		way.arm(at)
		ended := make(chan error, 1)
		go func() {
			_, err := n.try(t, ferryman.OpPromote, promote)
			ended <- err
		}()
		select {
		case err := <-ended:
			if err != nil || !over {
				t.Errorf("promote: got %v after %d pieces; want it done, after one that was its last answer", err, at)
			}
			way.arm(never)
			n.has(t, "a", "1")
			return
		case <-way.reached:
		}
		n.stop(t)
		n.start(t)
		way.proceed <- struct{}{}
		err := <-ended
		if over {
			t.Errorf("promote, cut at piece %d: it was done at the one before, and asks for more", at)
		}
		over = err == nil
		if in := n.status(t); in.Writable {
			t.Fatalf("promote, cut at piece %d, answered %v and made another process writable: %+v", at, err, in)
		}
		n.refusesWrites(t)
	}
}

// cut is a way to a process that can be interrupted.
type cut struct {
	listener net.Listener
	to       string
	reached  chan struct{} // gets a value when the piece is held that it was armed for
	proceed  chan struct{} // takes a value when its connection may go on to its end

	mu   sync.Mutex
	left int // pieces that pass until one is held
}

const never = -1

func newCut(t *testing.T) *cut {
	t.Helper()
	listener, err := net.Listen("tcp", port.Free())
	if err != nil {
		t.Fatal(err)
	}
	c := &cut{listener: listener, to: port.Free(), reached: make(chan struct{}), proceed: make(chan struct{}), left: never}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.serve(t, conn)
		}
	}()
	return c
}

func (c *cut) address() string { return c.listener.Addr().String() }

// arm has the piece held that comes after so many others.
func (c *cut) arm(pieces int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = pieces
}

// holds tells whether this piece is to be held.
func (c *cut) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == never {
		return false
	}
	c.left--
	return c.left == never
}

func (c *cut) serve(t *testing.T, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer server.Close()
	var turn sync.Mutex
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.pass(t, &turn, server, client)
	}()
	c.pass(t, &turn, client, server)
	<-ended
}

// pass carries one direction, piece by piece. A held piece is still delivered, and nothing after it. Meanwhile the other direction stands still: that
// the process ended is not seen before.
func (c *cut) pass(t *testing.T, turn *sync.Mutex, from, to net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		turn.Lock()
		held := n > 0 && c.holds()
		if held {
			c.reached <- struct{}{}
			select {
			case <-c.proceed:
			case <-t.Context().Done():
			}
		}
		if n > 0 {
			if _, failed := to.Write(b[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil || held {
			from.Close()
			to.Close()
		}
		turn.Unlock()
		if err != nil || held {
			return
		}
	}
}
