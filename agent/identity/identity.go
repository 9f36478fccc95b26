package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Identity is a node's own: its certificate and key, and the CA by which it
// knows the others. It notices when the files change and uses the new ones
// from the next handshake on, without a restart. It is safe for concurrent use.
type Identity struct {
	dir  string
	self Peer
	log  *slog.Logger

	mu    sync.Mutex
	files [3]os.FileInfo // what was last read, be it good or bad
	now   material       // what was last read and good
}

// material is what the files hold.
type material struct {
	ca   *x509.Certificate
	peer Peer
	tls  tls.Certificate // node, then CA: a newcomer with a token pins the latter
}

// Open reads ca.crt, node.crt and node.key from dir. An expired certificate is
// opened, with a warning: a node must be able to say so rather than not start.
func Open(dir string, log *slog.Logger) (*Identity, error) {
	id := &Identity{dir: dir, log: log}
	var err error
	if id.files, err = id.stat(); err != nil {
		return nil, err
	}
	if id.now, err = readMaterial(dir); err != nil {
		return nil, err
	}
	id.self = id.now.peer
	if end := id.now.tls.Leaf.NotAfter; time.Now().After(end) {
		log.Warn("this node's certificate has expired; the others will refuse it", "node", id.self.Name, "expired", end, "dir", dir)
	}
	return id, nil
}

// Self is who this node is.
func (id *Identity) Self() Peer { return id.self }

// NotAfter is when the node's current certificate ends.
func (id *Identity) NotAfter() time.Time { return id.current().tls.Leaf.NotAfter }

// CA loads the authority with its key, where this node may sign: see LoadCA.
func (id *Identity) CA() (*CA, error) { return LoadCA(id.dir) }

// Renew gives the node a new key and a certificate of the given lifetime,
// signed by the CA key it holds. It is used from the next handshake on.
func (id *Identity) Renew(ttl time.Duration) error {
	ca, err := id.CA()
	if err != nil {
		return fmt.Errorf("renew certificate of %s: %w", id.self, err)
	}
	req, key, err := NewRequest(id.self.Name)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	cert, err := ca.Sign(id.self.Name, req, ttl)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	return WriteNode(id.dir, ca.CertPEM(), cert, key)
}

// Verify says which node a presented chain belongs to, or why it is refused:
// by the CA in force, in the given role.
func (id *Identity) Verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) (Peer, error) {
	m := id.current()
	return verify(m.ca, id.self.Cluster, chain, usage)
}

// ServerConfig is for the peer port: TLS 1.3 only. A client certificate is
// verified if one is given, and a bad one ends the handshake; whoever serves
// must refuse a client without one every call but the enrolment.
func (id *Identity) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Go then has the client prove that it owns the certificate, and
		// leaves the chain to VerifyConnection, which knows the current CA
		// and gives reasons.
		ClientAuth: tls.RequestClientCert,
		// Every connection is verified afresh; nothing is resumed.
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			m := id.current()
			return &m.tls, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			_, err := id.Verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth)
			return err
		},
	}
}

// ClientConfig is for calls to other nodes: TLS 1.3 only, with this node's
// certificate. The server is verified by the cluster's CA and its URI, not by
// its address; expect then decides whether it is the node that was meant.
func (id *Identity) ClientConfig(expect func(Peer) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m := id.current()
			return &m.tls, nil
		},
		// Host names say nothing here; VerifyConnection replaces the check,
		// and runs on every connection.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			p, err := id.Verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			return expect(p)
		},
	}
}

// AnyNode accepts every node of the cluster, for ClientConfig.
func AnyNode(Peer) error { return nil }

// OnlyNode accepts the node of this name, for ClientConfig.
func OnlyNode(name string) func(Peer) error {
	return func(p Peer) error {
		if p.Name != name {
			return fmt.Errorf("%w: called %s, and %s answered; has its address changed?", ErrWrongPeer, name, p.Name)
		}
		return nil
	}
}

// current is the material in force, read anew if the files have changed. Bad
// new files are logged once, and the old material stays.
func (id *Identity) current() material {
	id.mu.Lock()
	defer id.mu.Unlock()
	files, err := id.stat()
	if err != nil {
		// Perhaps in the middle of being replaced; the next handshake looks again.
		id.log.Warn("certificate files cannot be looked at; the loaded ones stay in use", "dir", id.dir, "error", err)
		return id.now
	}
	if same(files, id.files) {
		return id.now
	}
	id.files = files
	m, err := readMaterial(id.dir)
	if err == nil && m.peer != id.self {
		err = fmt.Errorf("they are those of %s, and this node is %s", m.peer, id.self)
	}
	if err != nil {
		id.log.Error("new certificate files refused; the loaded ones stay in use", "dir", id.dir, "error", err)
		return id.now
	}
	id.now = m
	id.log.Info("certificates reloaded", "node", m.peer.Name, "valid_until", m.tls.Leaf.NotAfter)
	return id.now
}

func (id *Identity) stat() (files [3]os.FileInfo, err error) {
	for i, name := range []string{caFile, certFile, keyFile} {
		if files[i], err = os.Stat(filepath.Join(id.dir, name)); err != nil {
			return files, unreadable(filepath.Join(id.dir, name), err)
		}
	}
	return files, nil
}

func same(a, b [3]os.FileInfo) bool {
	for i := range a {
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

func readMaterial(dir string) (material, error) {
	ca, err := readPublic(filepath.Join(dir, caFile))
	if err != nil {
		return material{}, err
	}
	cert, err := readPublic(filepath.Join(dir, certFile))
	if err != nil {
		return material{}, err
	}
	key, err := readKey(filepath.Join(dir, keyFile))
	if err != nil {
		return material{}, err
	}
	m, err := parseMaterial(ca, cert, key)
	if err != nil {
		return material{}, fmt.Errorf("certificates in %s: %w", dir, err)
	}
	return m, nil
}

func parseMaterial(caPEM, certPEM, keyPEM []byte) (material, error) {
	der, err := onePEM(caPEM, typeCertificate)
	if err != nil {
		return material{}, fmt.Errorf("%s: %w", caFile, err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return material{}, fmt.Errorf("%s: %w", caFile, err)
	}
	cluster, err := caCluster(ca)
	if err != nil {
		return material{}, fmt.Errorf("%s: %w", caFile, err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM) // refuses a key that is not the certificate's
	if err != nil {
		return material{}, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	peer, err := verify(ca, cluster, []*x509.Certificate{pair.Leaf}, x509.ExtKeyUsageServerAuth)
	if errors.Is(err, ErrExpired) {
		peer, err = ParsePeer(pair.Leaf)
	}
	if err != nil {
		return material{}, fmt.Errorf("%s: %w", certFile, err)
	}
	pair.Certificate = [][]byte{pair.Leaf.Raw, ca.Raw}
	return material{ca: ca, peer: peer, tls: pair}, nil
}
