package demodb_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks/demodb"
)

// A value that the primary alone has may be lost with it: nobody who asks for
// what the primary holds is shown it, and a replica answers no such question.
func TestGetFromPrimaryShowsWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	e, addr := primary(t)
	c := demodb.Dial(addr)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Put(ctx, "a", "1"); err == nil {
		t.Fatal("syncReplicas 1, no replica: got an acknowledgement")
	}
	if got, found, err := c.Get(t.Context(), "a"); got != "1" || !found || err != nil {
		t.Errorf("a plain read: got %q, %v, %v, want what is in the log", got, found, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, found, err := c.GetFromPrimary(ctx, "a"); err == nil {
		t.Errorf("read from the primary: got %q, %v before it was acknowledged", got, found)
	}

	replica, other, _ := serve(t, demodb.Release{})
	do(t, replica, ferryman.OpClone, ferryman.Args{From: addr})
	do(t, replica, ferryman.OpFollow, ferryman.Args{From: addr, Epoch: 1})
	if got, found, err := c.GetFromPrimary(t.Context(), "a"); got != "1" || !found || err != nil {
		t.Errorf("read from the primary, with a replica: got %q, %v, %v, want 1", got, found, err)
	}
	var not *demodb.NotPrimaryError
	d := demodb.Dial(other)
	defer d.Close()
	if got, _, err := d.GetFromPrimary(t.Context(), "a"); !errors.As(err, &not) {
		t.Errorf("read from a replica as from the primary: got %q, %v, want a NotPrimaryError", got, err)
	}
	do(t, e, ferryman.OpFence, ferryman.Args{Epoch: 1})
	if got, _, err := c.GetFromPrimary(t.Context(), "a"); !errors.As(err, &not) {
		t.Errorf("read from a fenced primary: got %q, %v, want a NotPrimaryError", got, err)
	}
}

// A refusal says that nothing was written: a write that went to a process which
// ended before it answered is not sent again by itself.
func TestPutIsSentOnce(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := demodb.Dial(ln.Addr().String())
	defer c.Close()
	sent := make(chan string, 9)
	go func() { // answers the first request of all and then the first of each connection, as a process does that ends and comes back
		for n := 0; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			lines := bufio.NewScanner(conn)
			for i := 0; lines.Scan(); i++ {
				sent <- lines.Text()
				if n == 0 && i == 1 {
					break
				}
				io.WriteString(conn, `{"error":"a replica","code":"notPrimary"}`+"\n")
			}
			conn.Close()
		}
	}()
	var not *demodb.NotPrimaryError
	if err := c.Put(t.Context(), "a", "1"); !errors.As(err, &not) {
		t.Errorf("the first write: got %v, want a NotPrimaryError", err)
	}
	if err := c.Put(t.Context(), "a", "2"); err == nil || errors.As(err, &not) {
		t.Errorf("a write whose answer is lost: got %v, want that its outcome is not known", err)
	}
	if err := c.Put(t.Context(), "a", "3"); !errors.As(err, &not) {
		t.Errorf("the write after it: got %v, want a NotPrimaryError by another connection", err)
	}
	if n := len(sent); n != 3 {
		t.Errorf("%d requests were sent for 3 writes", n)
	}
}
