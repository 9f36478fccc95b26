package identity_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/identity"
)

func newCA(t *testing.T, cluster string) *identity.CA {
	t.Helper()
	ca, err := identity.CreateCA(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func parseCert(t *testing.T, certPEM []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(certPEM)
	if block == nil {
		t.Fatalf("no PEM in %q", certPEM)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSignedCertificateNamesTheNode(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	req, _, err := identity.NewRequest("what the request says does not count")
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err := ca.Sign("n1", req, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got, err := identity.ParsePeer(parseCert(t, certPEM))
	if err != nil {
		t.Fatal(err)
	}
	if want := (identity.Peer{Cluster: "orders", Name: "n1"}); got != want {
		t.Errorf("peer = %v, want %v", got, want)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	for name, c := range map[string]struct {
		node string
		ttl  time.Duration
	}{
		"slash":       {"a/b", time.Hour},
		"empty":       {"", time.Hour},
		"dots":        {"a..b", time.Hour},
		"escape":      {"a%2Fb", time.Hour},
		"no lifetime": {"n1", 0},
	} {
		req, _, err := identity.NewRequest("n1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Sign(c.node, req, c.ttl); err == nil {
			t.Errorf("%s: signed %q for %v", name, c.node, c.ttl)
		}
	}
	if _, err := ca.Sign("n1", []byte("nonsense"), time.Hour); err == nil {
		t.Error("signed a request that is none")
	}
	if _, err := identity.CreateCA("a b"); !errors.Is(err, ferryman.ErrInvalid) {
		t.Errorf("cluster id with a space: %v, want ErrInvalid", err)
	}
}

func TestParsePeerRefusesOtherURIs(t *testing.T) {
	t.Parallel()
	good := "ferryman://orders/node/n1"
	for name, uris := range map[string][]string{
		"none":           nil,
		"another scheme": {"spiffe://orders/node/n1"},
		"two":            {good, "ferryman://orders/node/n2"},
		"the same twice": {good, good},
		"the CA":         {"ferryman://orders/ca"},
		"no name":        {"ferryman://orders/node/"},
		"deeper":         {good + "/x"},
		"query":          {good + "?x=y"},
		"fragment":       {good + "#x"},
		"user":           {"ferryman://root@orders/node/n1"},
		"port":           {"ferryman://orders:1/node/n1"},
		"escaped slash":  {"ferryman://orders/node/a%2Fb"},
		"escaped letter": {"ferryman://orders/node/%6e1"},
	} {
		c := &x509.Certificate{}
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		if p, err := identity.ParsePeer(c); !errors.Is(err, identity.ErrNotANode) {
			t.Errorf("%s: got %v, %v, want ErrNotANode", name, p, err)
		}
	}
	// A URI of another kind beside ours does no harm.
	c := &x509.Certificate{URIs: []*url.URL{{Scheme: "https", Host: "example.com"}, identity.Peer{Cluster: "orders", Name: "n1"}.URI()}}
	if _, err := identity.ParsePeer(c); err != nil {
		t.Error(err)
	}
}

func TestCASaveAndLoad(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := identity.LoadCA(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load from nowhere: %v, want ErrNotExist", err)
	}
	ca := newCA(t, "orders")
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "ca.key")
	info, err := os.Stat(key)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode of ca.key = %04o, want 0600", got)
	}
	got, err := identity.LoadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster() != "orders" || got.Pin() != ca.Pin() {
		t.Errorf("loaded CA of %s with another pin", got.Cluster())
	}
	if err := ca.Save(dir); err != nil {
		t.Errorf("saving the same again: %v", err)
	}
	if err := newCA(t, "orders").Save(dir); err == nil {
		t.Error("another CA replaced the first")
	}

	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = identity.LoadCA(dir)
	if err == nil || !strings.Contains(err.Error(), "0644") || !strings.Contains(err.Error(), key) {
		t.Errorf("key that others may read: %v, want an error with mode and path", err)
	}
}

func TestParseCARefusesAForeignKey(t *testing.T) {
	t.Parallel()
	a, b := newCA(t, "a"), newCA(t, "b")
	key, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ParseCA(a.CertPEM(), key); err == nil {
		t.Error("took the certificate of one CA with the key of another")
	}
}
