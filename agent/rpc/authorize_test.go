package rpc_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/structpb"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
)

func TestMemberMayCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for method, err := range w.everyMethod(t, w.dial(t, rpc.DialOptions(w.node(t, "n2"), anyNode)...)) {
		switch method {
		case "/ferryman.Peer/Join": // names nobody
			if !errors.Is(err, rpc.ErrWrongSender) {
				t.Errorf("%s: %v, want ErrWrongSender", method, err)
			}
		case "/ferryman.Peer/Enroll":
			if !errors.Is(err, ferryman.ErrUnavailable) {
				t.Errorf("%s: %v, want the backend's answer", method, err)
			}
		case "/ferryman.Peer/AddVoter", "/ferryman.Peer/DemoteVoter", "/ferryman.Peer/RemoveServer":
			if err == nil || !strings.Contains(err.Error(), "decode") {
				t.Errorf("%s: %v, want a refusal of the empty message", method, err)
			}
		default:
			if err != nil {
				t.Errorf("%s: %v", method, err)
			}
		}
	}
	if w.raft.count() != 6 {
		t.Errorf("%d messages reached Raft, want one for each method", w.raft.count())
	}
}

func TestNonMemberIsRefusedOnEveryMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for method, err := range w.everyMethod(t, w.dial(t, rpc.DialOptions(w.node(t, "n9"), anyNode)...)) {
		want := ferryman.ErrNotMember
		switch method {
		case "/ferryman.Peer/Join":
			want = rpc.ErrWrongSender
		case "/ferryman.Peer/Enroll":
			want = ferryman.ErrUnavailable // open to all; the token decides
		case "/ferryman.Peer/AddVoter", "/ferryman.Peer/DemoteVoter", "/ferryman.Peer/RemoveServer":
			continue // the empty message is refused even before
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", method, err, want)
		}
	}
	c := w.client(t, w.node(t, "n9"))
	for name, err := range map[string]error{
		"AddVoter":     c.AddVoter(testContext(t), "x"),
		"DemoteVoter":  c.DemoteVoter(testContext(t), "x"),
		"RemoveServer": c.RemoveServer(testContext(t), "x"),
	} {
		if !errors.Is(err, ferryman.ErrNotMember) {
			t.Errorf("%s: %v, want ErrNotMember", name, err)
		}
	}
	if w.backend.count() != 1 || w.raft.count() != 0 {
		t.Errorf("%d calls reached the backend (want the enrolment only), %d Raft", w.backend.count(), w.raft.count())
	}
}

func TestStrangerMayOnlyEnroll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := credentials.NewTLS(identity.NewToken(w.ca).ClientConfig())
	conn := w.dial(t, grpc.WithTransportCredentials(stranger))
	for method, err := range w.everyMethod(t, conn) {
		want := rpc.ErrUnauthenticated
		switch method {
		case "/ferryman.Peer/Enroll":
			want = ferryman.ErrUnavailable
		case "/ferryman.Peer/AddVoter", "/ferryman.Peer/DemoteVoter", "/ferryman.Peer/RemoveServer":
			continue
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", method, err, want)
		}
	}
	if w.backend.count() != 1 || w.raft.count() != 0 {
		t.Errorf("%d calls reached the backend (want the enrolment only), %d Raft", w.backend.count(), w.raft.count())
	}

	// Nor may it send much.
	err := conn.Invoke(testContext(t), "/ferryman.Peer/Enroll", rpc.EnrollRequest{Request: make([]byte, 1<<20)}, new(rpc.EnrollReply), grpc.ForceCodecV2(rpc.NewCodec()))
	if err == nil || w.backend.count() != 1 {
		t.Errorf("a megabyte from a stranger: %v, %d calls", err, w.backend.count())
	}
}

func TestNoPlaintext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	raw, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}}).DialContext(testContext(t), "tcp", w.address)
	if err == nil {
		raw.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	billing, err := identity.CreateCA("billing")
	if err != nil {
		t.Fatal(err)
	}
	namesake, err := identity.CreateCA("orders")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id   *identity.Identity
		want error
	}{
		"another cluster":   {nodeOf(t, billing, "n2", time.Hour), ferryman.ErrWrongCluster},
		"another authority": {nodeOf(t, namesake, "n2", time.Hour), identity.ErrUntrusted},
		"expired":           {nodeOf(t, w.ca, "n2", time.Nanosecond), rpc.ErrUnauthenticated},
	} {
		_, err := w.client(t, c.id).Status(testContext(t), 0, 0)
		if !errors.Is(err, c.want) || !errors.Is(err, ferryman.ErrUnavailable) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		// One that does not care who answers is refused by the server.
		config := c.id.ClientConfig(identity.AnyNode)
		config.VerifyConnection = nil
		for method, err := range w.everyMethod(t, w.dial(t, grpc.WithTransportCredentials(credentials.NewTLS(config)))) {
			if !errors.Is(err, ferryman.ErrUnavailable) {
				t.Errorf("%s: %s: %v, want no connection", name, method, err)
			}
		}
	}
	if w.backend.count() != 0 || w.raft.count() != 0 {
		t.Errorf("%d calls reached the backend, %d Raft", w.backend.count(), w.raft.count())
	}
}

func TestAnotherNodeAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clients := rpc.NewClients(w.node(t, "n2"))
	defer clients.Close()
	c, err := clients.Peer("n3", w.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(testContext(t), 0, 0); !errors.Is(err, identity.ErrWrongPeer) {
		t.Errorf("call for n3: %v, want ErrWrongPeer", err)
	}
	// The same for Raft's transport, which knows addresses only.
	conn := w.dial(t, rpc.DialOptions(w.node(t, "n2"), w.members.ExpectAt)...)
	err = conn.Invoke(testContext(t), "/RaftTransport/AppendEntries", raftMessage("id2", "a:2"), new(structpb.Struct))
	if err == nil || w.raft.count() != 0 {
		t.Errorf("message to %s, which is not n1's address: %v, %d arrived", w.address, err, w.raft.count())
	}
	w.membership.set(rpc.Node{ID: "id1", Name: "n1", Address: w.address}, rpc.Node{ID: "id2", Name: "n2", Address: "a:2"})
	conn = w.dial(t, rpc.DialOptions(w.node(t, "n2"), w.members.ExpectAt)...)
	if err := conn.Invoke(testContext(t), "/RaftTransport/AppendEntries", raftMessage("id2", "a:2"), new(structpb.Struct)); err != nil {
		t.Errorf("message to n1 at its address: %v", err)
	}
}

func TestRaftSenderMustBeTheCaller(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*structpb.Struct{
		"another member":  raftMessage("id1", "a:1"),
		"another id":      raftMessage("id1", "a:2"),
		"another address": raftMessage("id2", "a:1"),
		"nobody":          new(structpb.Struct),
		"empty id":        raftMessage("", "a:2"),
		"empty address":   raftMessage("id2", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			conn := w.dial(t, rpc.DialOptions(w.node(t, "n2"), anyNode)...)
			for _, call := range []string{"AppendEntries", "RequestVote", "RequestPreVote", "TimeoutNow"} {
				err := rpc.FromStatus(conn.Invoke(testContext(t), "/RaftTransport/"+call, m, new(structpb.Struct)))
				if !errors.Is(err, rpc.ErrWrongSender) {
					t.Errorf("%s: %v, want ErrWrongSender", call, err)
				}
			}
			for _, call := range []string{"AppendEntriesPipeline", "InstallSnapshot"} {
				if err := send(t, conn, call, m); !errors.Is(err, rpc.ErrWrongSender) {
					t.Errorf("%s: %v, want ErrWrongSender", call, err)
				}
			}
			if w.raft.count() != 0 {
				t.Errorf("%d messages reached Raft", w.raft.count())
			}
		})
	}
}

// send sends messages on a stream, waits for each to be answered, and returns
// the first error.
func send(t *testing.T, conn *grpc.ClientConn, call string, messages ...*structpb.Struct) error {
	t.Helper()
	s, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/RaftTransport/"+call)
	if err != nil {
		t.Fatal(err)
	}
	defer s.CloseSend()
	for _, m := range messages {
		if err := ignoreEOF(s.SendMsg(m)); err != nil {
			return rpc.FromStatus(err)
		}
		if err := s.RecvMsg(new(structpb.Struct)); err != nil {
			return rpc.FromStatus(err)
		}
	}
	return nil
}

func TestEveryMessageOfAStreamIsJudged(t *testing.T) {
	t.Parallel()
	mine, others, data := raftMessage("id2", "a:2"), raftMessage("id1", "a:1"), new(structpb.Struct)
	for name, c := range map[string]struct {
		call     string
		messages []*structpb.Struct
		want     error
		arrive   int
	}{
		"pipeline":                    {"AppendEntriesPipeline", []*structpb.Struct{mine, mine, mine}, nil, 3},
		"pipeline changes its sender": {"AppendEntriesPipeline", []*structpb.Struct{mine, others, mine}, rpc.ErrWrongSender, 1},
		"pipeline drops its sender":   {"AppendEntriesPipeline", []*structpb.Struct{mine, data}, rpc.ErrWrongSender, 1},
		"snapshot's data have none":   {"InstallSnapshot", []*structpb.Struct{mine, data, data}, nil, 3},
		"snapshot begins without":     {"InstallSnapshot", []*structpb.Struct{data, mine}, rpc.ErrWrongSender, 0},
		"snapshot goes on as another": {"InstallSnapshot", []*structpb.Struct{mine, others}, rpc.ErrWrongSender, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			conn := w.dial(t, rpc.DialOptions(w.node(t, "n2"), anyNode)...)
			if err := send(t, conn, c.call, c.messages...); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if got := w.raft.count(); got != c.arrive {
				t.Errorf("%d messages reached Raft, want %d", got, c.arrive)
			}
		})
	}
}

func TestRemovedMemberIsCutOffOnAnOpenStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := w.dial(t, rpc.DialOptions(w.node(t, "n2"), anyNode)...)
	s, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/RaftTransport/AppendEntriesPipeline")
	if err != nil {
		t.Fatal(err)
	}
	exchange := func() error {
		return errors.Join(ignoreEOF(s.SendMsg(raftMessage("id2", "a:2"))), s.RecvMsg(new(structpb.Struct)))
	}
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	w.membership.set(rpc.Node{ID: "id1", Name: "n1", Address: "a:1"})
	if err := exchange(); err == nil || w.raft.count() != 1 {
		t.Errorf("after its removal: %v, %d messages reached Raft, want 1", err, w.raft.count())
	}
}

func TestNewNodeListensToThoseItWasTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.membership.set() // no state yet
	message := func(name, id, address string) error {
		conn := w.dial(t, rpc.DialOptions(w.node(t, name), anyNode)...)
		return rpc.FromStatus(conn.Invoke(testContext(t), "/RaftTransport/AppendEntries", raftMessage(id, address), new(structpb.Struct)))
	}
	if err := message("n2", "id2", "a:2"); !errors.Is(err, ferryman.ErrNotMember) {
		t.Errorf("before it was told: %v, want ErrNotMember", err)
	}
	w.members.Admit(rpc.Node{ID: "id2", Name: "n2", Address: "a:2"})
	if err := message("n2", "id2", "a:2"); err != nil {
		t.Errorf("told: %v", err)
	}
	if err := message("n2", "id3", "a:2"); !errors.Is(err, rpc.ErrWrongSender) {
		t.Errorf("told, with another id: %v, want ErrWrongSender", err)
	}
	if err := message("n3", "id2", "a:2"); !errors.Is(err, ferryman.ErrNotMember) {
		t.Errorf("not among the told: %v, want ErrNotMember", err)
	}
	// A state that is behind still has the old address.
	w.membership.set(rpc.Node{ID: "id2", Name: "n2", Address: "a:old"})
	if err := message("n2", "id2", "a:2"); err != nil {
		t.Errorf("told of a new address: %v", err)
	}
	// A record that is not complete admits no message without a sender.
	w.members.Admit(rpc.Node{Name: "n3"})
	if err := message("n3", "", ""); !errors.Is(err, rpc.ErrWrongSender) {
		t.Errorf("an empty record: %v, want ErrWrongSender", err)
	}
	w.members.Admit()
	if err := message("n2", "id2", "a:2"); !errors.Is(err, rpc.ErrWrongSender) {
		t.Errorf("on its own again: %v, want ErrWrongSender", err)
	}
}

func TestJoinSpeaksForOneselfOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(t, w.node(t, "n9")) // no member yet
	req := rpc.JoinRequest{ID: "id9", Name: "n9", Address: "a:9"}
	if _, err := c.Join(testContext(t), req); err != nil {
		t.Errorf("join: %v", err)
	}
	req.Name = "n2"
	if _, err := c.Join(testContext(t), req); !errors.Is(err, rpc.ErrWrongSender) {
		t.Errorf("join as another: %v, want ErrWrongSender", err)
	}
	if _, err := c.Join(testContext(t), rpc.JoinRequest{Name: "n9"}); !errors.Is(err, ferryman.ErrInvalid) {
		t.Errorf("join without id and address: %v, want ErrInvalid", err)
	}
	if got := w.backend.count(); got != 1 {
		t.Errorf("%d joins reached the backend, want 1", got)
	}
}

func TestMessageSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := w.dial(t, rpc.DialOptions(w.node(t, "n2"), anyNode)...)
	sized := func(n int) error {
		m := raftMessage("id2", "a:2")
		m.Fields["data"] = structpb.NewStringValue(string(bytes.Repeat([]byte("x"), n)))
		return conn.Invoke(testContext(t), "/RaftTransport/AppendEntries", m, new(structpb.Struct))
	}
	if err := sized(15 << 20); err != nil {
		t.Errorf("15 MiB: %v", err)
	}
	if err := sized(17 << 20); err == nil {
		t.Error("17 MiB passed")
	}
}

func TestReloadedCertificateIsUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, dir := func() (*identity.Identity, string) {
		dir := t.TempDir()
		writeNode(t, w.ca, dir, "n2", time.Nanosecond)
		id, err := identity.Open(dir, discard())
		if err != nil {
			t.Fatal(err)
		}
		return id, dir
	}()
	if _, err := w.client(t, id).Status(testContext(t), 0, 0); err == nil {
		t.Fatal("an expired certificate was accepted")
	}
	writeNode(t, w.ca, dir, "n2", time.Hour)
	if _, err := w.client(t, id).Status(testContext(t), 0, 0); err != nil {
		t.Errorf("after a new certificate came: %v", err)
	}
}
