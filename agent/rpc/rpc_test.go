package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestCallsCarryTheirMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, ctx := w.client(t, w.node(t, "n2")), testContext(t)

	outcome, err := c.RunStep(ctx, rpc.StepRef{Step: 7, Index: 8, Term: 9})
	if err != nil || outcome.Step != 7 || outcome.Status != ferryman.StatusRunning {
		t.Errorf("RunStep: %+v, %v", outcome, err)
	}
	leader, err := c.LeaderWithID(ctx)
	if want := (rpc.Node{ID: "id1", Name: "n1", Address: "a:1"}); err != nil || leader != want {
		t.Errorf("LeaderWithID: %+v, %v, want %+v", leader, err, want)
	}
	report, err := c.Report(ctx)
	if err != nil || report.State.Cluster != "orders" {
		t.Errorf("Report: %+v, %v", report, err)
	}
	var got ferryman.Request
	w.backend.request = func(ctx context.Context, r ferryman.Request) error {
		if p, ok := rpc.CallerFrom(ctx); !ok || p.Name != "n2" {
			t.Errorf("caller = %v, %v, want n2", p, ok)
		}
		got = r
		return nil
	}
	want := ferryman.Request{Kind: ferryman.RequestPause, By: "alice", Reason: "lunch", For: ferryman.Duration(time.Hour)}
	if err := c.Request(ctx, want); err != nil || got != want {
		t.Errorf("Request: got %+v, %v, want %+v", got, err, want)
	}
	for name, err := range map[string]error{
		"AddVoter": c.AddVoter(ctx, "id2"), "DemoteVoter": c.DemoteVoter(ctx, "id2"), "RemoveServer": c.RemoveServer(ctx, "id2"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(t, w.node(t, "n2"))
	leader := rpc.Node{ID: "id3", Name: "n3", Address: "b:3"}
	for _, sent := range []error{
		ferryman.ErrNotLeader, ferryman.ErrRefused, ferryman.ErrNotMember, ferryman.ErrWrongCluster, ferryman.ErrConflict,
		ferryman.ErrUnsupported, ferryman.ErrUnavailable, ferryman.ErrInvalid, rpc.ErrUnauthenticated, rpc.ErrWrongSender,
		context.Canceled, context.DeadlineExceeded,
		rpc.NotLeader{}, rpc.NotLeader{Leader: leader},
	} {
		w.backend.request = func(context.Context, ferryman.Request) error { return fmt.Errorf("commit 42: %w", sent) }
		err := c.Request(testContext(t), ferryman.Request{})
		if !errors.Is(err, sent) {
			t.Errorf("got %v (%T), want %v", err, err, sent)
		}
		for _, want := range []string{"commit 42", "n1", "Request"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
		}
		var notLeader rpc.NotLeader
		if errors.As(sent, &notLeader) && (!errors.As(err, &notLeader) || !errors.Is(err, ferryman.ErrNotLeader)) {
			t.Errorf("%v does not tell that it is not the leader", err)
		}
	}

	w.backend.request = func(context.Context, ferryman.Request) error {
		return fmt.Errorf("%w: %w", ferryman.ErrRefused, ferryman.ErrConflict)
	}
	if err := c.Request(testContext(t), ferryman.Request{}); !errors.Is(err, ferryman.ErrRefused) || !errors.Is(err, ferryman.ErrConflict) {
		t.Errorf("an error with two meanings: %v", err)
	}
	w.backend.request = func(context.Context, ferryman.Request) error { return io.ErrUnexpectedEOF }
	err := c.Request(testContext(t), ferryman.Request{})
	if err == nil || !strings.Contains(err.Error(), io.ErrUnexpectedEOF.Error()) || errors.Is(err, ferryman.ErrUnavailable) {
		t.Errorf("an error without a meaning: %v", err)
	}
}

func TestUnknownMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := w.dial(t, rpc.DialOptions(w.node(t, "n2"), anyNode)...)
	for _, m := range []string{"/ferryman.Peer/Nonsense", "/ferryman.Control/Stop", "/x.Y/Z"} {
		err := rpc.FromStatus(conn.Invoke(testContext(t), m, struct{}{}, &struct{}{}, grpc.ForceCodecV2(rpc.NewCodec())))
		if !errors.Is(err, ferryman.ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", m, err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(t, w.node(t, "n2"))
	if _, err := c.Status(testContext(t), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Status(testContext(t), 0, 0)
	if !errors.Is(err, ferryman.ErrUnavailable) || !strings.Contains(err.Error(), w.address) {
		t.Errorf("got %v, want ErrUnavailable with the address", err)
	}
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(t, w.node(t, "n2"))
	const long = time.Hour // capped by the server; no test waits for it

	if st, err := c.Status(testContext(t), 1, 0); err != nil || st.Seq != 1 {
		t.Errorf("without a wait: %d, %v", st.Seq, err)
	}
	if st, err := c.Status(testContext(t), 99, long); err != nil || st.Seq != 1 {
		t.Errorf("another since: %d, %v, want 1 at once", st.Seq, err)
	}
	if st, err := c.Status(testContext(t), 1, time.Millisecond); err != nil || st.Seq != 1 {
		t.Errorf("wait over: %d, %v, want the same status", st.Seq, err)
	}

	// Many wait; some give up, the others are told of the change.
	const waiters = 20
	w.backend.mu.Lock()
	w.backend.polled = make(chan struct{}, waiters)
	w.backend.mu.Unlock()
	givenUp, giveUp := context.WithCancel(testContext(t))
	var gaveUp, told sync.WaitGroup
	for range waiters / 2 {
		gaveUp.Go(func() {
			if _, err := c.Status(givenUp, 1, long); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: %v, want Canceled", err)
			}
		})
		told.Go(func() {
			if st, err := c.Status(testContext(t), 1, long); err != nil || st.Seq != 2 {
				t.Errorf("after the change: %d, %v, want 2", st.Seq, err)
			}
		})
	}
	for range waiters {
		<-w.backend.polled
	}
	w.backend.mu.Lock()
	w.backend.polled = nil
	w.backend.mu.Unlock()
	giveUp()
	gaveUp.Wait()
	w.backend.change()
	told.Wait()
}

func TestStopAnswersLongPollsAndDoesNotWaitForStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.StopWithin(time.Hour) // a server that waits for the stream hangs
	w.backend.polled = make(chan struct{}, 1)
	conn := w.dial(t, rpc.DialOptions(w.node(t, "n2"), anyNode)...)
	s, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/RaftTransport/AppendEntriesPipeline")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(raftMessage("id2", "a:2")), s.RecvMsg(new(structpb.Struct))); err != nil {
		t.Fatal(err)
	}
	polled := make(chan error, 1)
	go func() {
		_, err := w.client(t, w.node(t, "n2")).Status(testContext(t), 1, time.Hour)
		polled <- err
	}()
	<-w.backend.polled
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if err := <-polled; err != nil {
		t.Errorf("long poll at the end: %v, want the status", err)
	}
	if err := s.RecvMsg(new(structpb.Struct)); err == nil {
		t.Error("the stream outlived the server")
	}
}

func TestStopCancelsAHandlerThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.StopWithin(time.Millisecond)
	started := make(chan struct{})
	w.backend.runStep = func(ctx context.Context, _ rpc.StepRef) (ferryman.Outcome, error) {
		close(started)
		<-ctx.Done()
		return ferryman.Outcome{}, ctx.Err()
	}
	called := make(chan error, 1)
	go func() {
		_, err := w.client(t, w.node(t, "n2")).RunStep(testContext(t), rpc.StepRef{})
		called <- err
	}()
	<-started
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if err := <-called; err == nil {
		t.Error("the call succeeded")
	}
}

func TestClientsKeepConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clients := rpc.NewClients(w.node(t, "n2"))
	a, err := clients.Peer("n1", w.address)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := clients.Peer("n1", w.address); a != b {
		t.Error("a second connection to the same place")
	}
	if b, _ := clients.Peer("", w.address); a == b {
		t.Error("the same connection for another expectation")
	}
	clients.Keep(func(p rpc.Place) bool { return p.Name != "" })
	if b, _ := clients.Peer("n1", w.address); a != b {
		t.Error("a connection that was to be kept is gone")
	}
	clients.Keep(func(rpc.Place) bool { return false })
	if _, err := a.Status(testContext(t), 0, 0); err == nil {
		t.Error("a closed connection answers")
	}
	clients.Close()
	if _, err := clients.Peer("n1", w.address); !errors.Is(err, ferryman.ErrUnavailable) {
		t.Errorf("after Close: %v, want ErrUnavailable", err)
	}
}

func TestEnroll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	follower := serveFollower(t, w)
	token := identity.NewToken(w.ca)
	used := map[string]bool{}
	w.backend.enroll = func(_ context.Context, req rpc.EnrollRequest) (rpc.EnrollReply, error) {
		got, err := identity.ParseToken(req.Token)
		if err != nil {
			return rpc.EnrollReply{}, err
		}
		if got.ID != token.ID || !got.Matches(token.Hash()) || used[got.ID] {
			return rpc.EnrollReply{}, fmt.Errorf("%w: token %s is unknown, used or over", ferryman.ErrRefused, got.ID)
		}
		used[got.ID] = true
		cert, err := w.ca.Sign(req.Name, req.Request, time.Hour)
		if err != nil {
			return rpc.EnrollReply{}, err
		}
		key, err := w.ca.KeyPEM()
		return rpc.EnrollReply{Certificate: cert, CACertificate: w.ca.CertPEM(), CAKey: key}, err
	}
	ctx := testContext(t)

	// A node of another cluster is told nothing.
	other := newWorld(t)
	if err := rpc.Enroll(ctx, t.TempDir(), "n9", token, []string{other.address}); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("at another cluster: %v, want ErrUntrusted", err)
	}
	if other.backend.count() != 0 {
		t.Error("another cluster's node was sent the token")
	}

	dir := t.TempDir()
	if err := rpc.Enroll(ctx, dir, "n9", token, []string{"127.0.0.1:1", follower.address}); err != nil {
		t.Fatal(err)
	}
	id, err := identity.Open(dir, discard())
	if err != nil {
		t.Fatal(err)
	}
	if want := (identity.Peer{Cluster: "orders", Name: "n9"}); id.Self() != want {
		t.Errorf("enrolled as %v, want %v", id.Self(), want)
	}
	if ca, err := id.CA(); err != nil || ca.Pin() != w.ca.Pin() {
		t.Errorf("CA of the newcomer: %v", err)
	}
	w.membership.set(rpc.Node{ID: "id9", Name: "n9", Address: "a:9"})
	if _, err := w.client(t, id).Status(ctx, 0, 0); err != nil {
		t.Errorf("call with the new certificate: %v", err)
	}

	if err := rpc.Enroll(ctx, dir, "n9", token, []string{w.address}); !errors.Is(err, ferryman.ErrConflict) {
		t.Errorf("over an existing certificate: %v, want ErrConflict", err)
	}
	again := t.TempDir()
	if err := rpc.Enroll(ctx, again, "n10", token, []string{w.address}); !errors.Is(err, ferryman.ErrRefused) {
		t.Errorf("the same token again: %v, want ErrRefused", err)
	}
	if identity.Exists(again) {
		t.Error("a refused enrolment left a certificate")
	}
}

// serveFollower is a second node of w's cluster that sends everybody to w.
func serveFollower(t *testing.T, w *world) *world {
	t.Helper()
	f := &world{ca: w.ca, backend: newBackend(), membership: w.membership, members: w.members}
	f.backend.enroll = func(context.Context, rpc.EnrollRequest) (rpc.EnrollReply, error) {
		return rpc.EnrollReply{}, rpc.NotLeader{Leader: rpc.Node{ID: "id1", Name: "n1", Address: w.address}}
	}
	ln := listen(t)
	f.address = ln.Addr().String()
	f.stop = run(t, rpc.NewPeerServer(w.node(t, "n2"), f.backend, w.members, discard()), ln)
	return f
}

func TestReplyKeepsTheKeyOutOfLogs(t *testing.T) {
	t.Parallel()
	if s := fmt.Sprintf("%v %+v", rpc.EnrollReply{CAKey: []byte("secret")}, rpc.EnrollReply{CAKey: []byte("secret")}); strings.Contains(s, "secret") || strings.Contains(s, "115 101") {
		t.Errorf("printed as %q", s)
	}
}
