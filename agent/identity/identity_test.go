package identity_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/identity"
)

// writeNode gives a node of this CA its files in dir, valid for ttl.
func writeNode(t *testing.T, ca *identity.CA, dir, name string, ttl time.Duration) {
	t.Helper()
	req, key, err := identity.NewRequest(name)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(name, req, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteNode(dir, ca.CertPEM(), cert, key); err != nil {
		t.Fatal(err)
	}
}

func newNode(t *testing.T, ca *identity.CA, name string, ttl time.Duration) *identity.Identity {
	t.Helper()
	dir := t.TempDir()
	writeNode(t, ca, dir, name, ttl)
	id, err := identity.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// expired is a lifetime that is over at once: certificates count in seconds.
const expired = time.Nanosecond

// handshake lets two configurations meet and returns what each side says.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, server)
		err = conn.Handshake()
		state = conn.ConnectionState()
		if err == nil {
			_, err = conn.Write([]byte{1})
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		// In TLS 1.3 a client learns only now that it was refused.
		_, clientErr = conn.Read(make([]byte, 1))
	} else {
		raw.Close()
	}
	serverErr = <-done
	return state, serverErr, clientErr
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca, other, namesake := newCA(t, "orders"), newCA(t, "billing"), newCA(t, "orders")
	n1, n2 := newNode(t, ca, "n1", time.Hour), newNode(t, ca, "n2", time.Hour)
	late := newNode(t, ca, "n3", expired)

	for name, c := range map[string]struct {
		server, client *tls.Config
		serverErr      error
		clientErr      error
	}{
		"two nodes":           {server: n1.ServerConfig(), client: n2.ClientConfig(identity.AnyNode)},
		"the one meant":       {server: n1.ServerConfig(), client: n2.ClientConfig(identity.OnlyNode("n1"))},
		"another than meant":  {server: n1.ServerConfig(), client: n2.ClientConfig(identity.OnlyNode("n3")), clientErr: identity.ErrWrongPeer},
		"client elsewhere":    {server: n1.ServerConfig(), client: unverified(newNode(t, other, "n2", time.Hour)), serverErr: ferryman.ErrWrongCluster},
		"server elsewhere":    {server: newNode(t, other, "n1", time.Hour).ServerConfig(), client: n2.ClientConfig(identity.AnyNode), clientErr: ferryman.ErrWrongCluster},
		"another CA, our id":  {server: n1.ServerConfig(), client: unverified(newNode(t, namesake, "n2", time.Hour)), serverErr: identity.ErrUntrusted},
		"server of that CA":   {server: newNode(t, namesake, "n1", time.Hour).ServerConfig(), client: n2.ClientConfig(identity.AnyNode), clientErr: identity.ErrUntrusted},
		"expired client":      {server: n1.ServerConfig(), client: late.ClientConfig(identity.AnyNode), serverErr: identity.ErrExpired},
		"expired server":      {server: late.ServerConfig(), client: n1.ClientConfig(identity.AnyNode), clientErr: identity.ErrExpired},
		"client with no name": {server: n1.ServerConfig(), client: &tls.Config{InsecureSkipVerify: true}},
	} {
		state, serverErr, clientErr := handshake(t, c.server, c.client)
		switch {
		case c.serverErr == nil && c.clientErr == nil:
			if serverErr != nil || clientErr != nil {
				t.Errorf("%s: server %v, client %v, want neither", name, serverErr, clientErr)
			}
			if state.Version != tls.VersionTLS13 {
				t.Errorf("%s: TLS version %x, want 1.3", name, state.Version)
			}
		case c.serverErr != nil:
			if !errors.Is(serverErr, c.serverErr) || clientErr == nil {
				t.Errorf("%s: server %v, client %v, want %v and an alert", name, serverErr, clientErr, c.serverErr)
			}
		default:
			if !errors.Is(clientErr, c.clientErr) || serverErr == nil {
				t.Errorf("%s: server %v, client %v, want an alert and %v", name, serverErr, clientErr, c.clientErr)
			}
		}
	}
}

// unverified is a client that would speak to anybody: an attacker's.
func unverified(id *identity.Identity) *tls.Config {
	c := id.ClientConfig(identity.AnyNode)
	c.VerifyConnection = nil
	return c
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	client := unverified(newNode(t, ca, "n2", time.Hour))
	client.MinVersion, client.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, serverErr, clientErr := handshake(t, newNode(t, ca, "n1", time.Hour).ServerConfig(), client); serverErr == nil || clientErr == nil {
		t.Errorf("TLS 1.2: server %v, client %v, want both refused", serverErr, clientErr)
	}
}

func TestWrongClusterSaysWhose(t *testing.T) {
	t.Parallel()
	n1 := newNode(t, newCA(t, "orders"), "n1", time.Hour)
	_, serverErr, _ := handshake(t, n1.ServerConfig(), unverified(newNode(t, newCA(t, "billing"), "n7", time.Hour)))
	for _, want := range []string{"n7", "billing", "orders"} {
		if !strings.Contains(fmt.Sprint(serverErr), want) {
			t.Errorf("error %q does not name %s", serverErr, want)
		}
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	dir := t.TempDir()
	writeNode(t, ca, dir, "n1", time.Hour)
	var logged syncBuffer
	id, err := identity.Open(dir, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	server := id.ServerConfig()
	serial := func() string {
		t.Helper()
		c, err := server.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial()
	if got := serial(); got != first {
		t.Fatal("certificate changed without a reason")
	}

	writeNode(t, ca, dir, "n1", 2*time.Hour)
	second := serial()
	if second == first {
		t.Error("a new certificate on disk is not used")
	}
	if left := time.Until(id.NotAfter()); left < time.Hour {
		t.Errorf("certificate ends in %v, want that of the new one", left)
	}

	// A bad file keeps the old one, and says so once.
	for _, c := range []struct {
		name  string
		spoil func()
	}{
		{"garbage", func() { write(t, filepath.Join(dir, "node.crt"), "garbage") }},
		{"gone", func() { os.Remove(filepath.Join(dir, "node.key")) }},
		{"another name", func() { writeNode(t, ca, dir, "n2", time.Hour) }},
		{"other cluster", func() { writeNode(t, newCA(t, "billing"), dir, "n1", time.Hour) }},
	} {
		c.spoil()
		logged.Reset()
		if got := serial(); got != second {
			t.Errorf("%s: certificate %s in use, want the old one %s", c.name, got, second)
		}
		if !strings.Contains(logged.String(), "stay in use") {
			t.Errorf("%s: nothing logged", c.name)
		}
	}
	logged.Reset()
	if serial(); logged.String() != "" {
		t.Errorf("the same bad file was reported again: %s", logged.String())
	}

	writeNode(t, ca, dir, "n1", time.Hour)
	if got := serial(); got == second {
		t.Error("a good file after bad ones is not used")
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	dir := t.TempDir()
	writeNode(t, ca, dir, "n1", time.Hour)
	id, err := identity.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Renew(time.Hour); err == nil {
		t.Error("renewed without the CA key")
	}
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := id.Renew(48 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(id.NotAfter()); left < 24*time.Hour {
		t.Errorf("certificate ends in %v, want the renewed one", left)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  []string
	}{
		"nothing there": {func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "node.crt")) }, []string{"node.crt", "no such file"}},
		"open key":      {func(t *testing.T, dir string) { os.Chmod(filepath.Join(dir, "node.key"), 0o640) }, []string{"node.key", "0640", "chmod"}},
		"key of another": {func(t *testing.T, dir string) {
			other := t.TempDir()
			writeNode(t, ca, other, "n1", time.Hour)
			if err := os.Rename(filepath.Join(other, "node.key"), filepath.Join(dir, "node.key")); err != nil {
				t.Fatal(err)
			}
		}, []string{"node.crt and node.key", "match"}},
		"CA of another cluster": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "ca.crt"), string(newCA(t, "billing").CertPEM()))
		}, []string{"billing", "orders"}},
		"unreadable key": {func(t *testing.T, dir string) {
			if os.Geteuid() == 0 {
				t.Skip("root reads everything; scripts/lab/test runs this as another user")
			}
			os.Chmod(filepath.Join(dir, "node.key"), 0)
		}, []string{"node.key", "0000", "uid"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writeNode(t, ca, dir, "n1", time.Hour)
			c.spoil(t, dir)
			_, err := identity.Open(dir, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("opened")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestExpiredOpensWithAWarning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeNode(t, newCA(t, "orders"), dir, "n1", expired)
	var logged syncBuffer
	if _, err := identity.Open(dir, slog.New(slog.NewTextHandler(&logged, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logged.String(), "expired") {
		t.Errorf("logged %q, want a warning", logged.String())
	}
}

func TestWriteNodeRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	req, _, _ := identity.NewRequest("n1")
	cert, err := ca.Sign("n1", req, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := identity.NewRequest("n1")
	dir := t.TempDir()
	if err := identity.WriteNode(dir, ca.CertPEM(), cert, key); err == nil {
		t.Error("wrote a certificate with another key")
	}
	if identity.Exists(dir) {
		t.Error("left a certificate behind")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *syncBuffer) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Reset()
}
