package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"time"
)

// The life of a CA certificate, and how far back every certificate is dated so
// that a host whose clock is behind accepts it.
const (
	caLife    = 20 * 365 * 24 * time.Hour
	clockSkew = time.Hour
)

// CA is a cluster's certificate authority with its key: it can sign.
type CA struct {
	cluster string
	cert    *x509.Certificate
	key     crypto.Signer
}

// CreateCA makes a new authority (ECDSA P-256) for the cluster with this id.
func CreateCA(clusterID string) (*CA, error) {
	if !ValidName(clusterID) {
		return nil, fmt.Errorf("create CA: %w", invalidName("cluster id", clusterID))
	}
	key, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("create CA of cluster %s: %w", clusterID, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Ferryman CA " + clusterID},
		URIs:                  []*url.URL{caURI(clusterID)},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs nodes, never another CA
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create CA of cluster %s: %w", clusterID, err)
	}
	return newCA(der, key)
}

// ParseCA reads an authority from PEM: its certificate, and its private key.
// It refuses a key that is not the certificate's.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	der, err := onePEM(certPEM, typeCertificate)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	return newCA(der, key)
}

func newCA(der []byte, key crypto.Signer) (*CA, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	cluster, err := caCluster(cert)
	if err != nil {
		return nil, err
	}
	if !samePublicKey(cert.PublicKey, key.Public()) {
		return nil, fmt.Errorf("the CA key is not that of the CA certificate of cluster %s", cluster)
	}
	return &CA{cluster: cluster, cert: cert, key: key}, nil
}

// LoadCA reads ca.crt and ca.key from dir. Where the node may not sign, there
// is no ca.key: the error is fs.ErrNotExist then.
func LoadCA(dir string) (*CA, error) {
	keyPEM, err := readKey(filepath.Join(dir, caKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this node may not sign certificates (run this on a node that has the CA key): %w", err)
	}
	if err != nil {
		return nil, err
	}
	certPEM, err := readPublic(filepath.Join(dir, caFile))
	if err != nil {
		return nil, err
	}
	ca, err := ParseCA(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load CA from %s: %w", dir, err)
	}
	return ca, nil
}

// Save writes ca.crt and ca.key (mode 0600) into dir, which it makes if need be.
// It refuses to replace the key of another authority: with it, a cluster's
// nodes could no longer be given certificates.
func (ca *CA) Save(dir string) error {
	old, err := LoadCA(dir)
	if err == nil && !old.cert.Equal(ca.cert) {
		return fmt.Errorf("save CA of cluster %s: %s already holds the CA of cluster %s; move it away first", ca.cluster, dir, old.cluster)
	}
	keyPEM, err := ca.KeyPEM()
	if err != nil {
		return fmt.Errorf("save CA of cluster %s: %w", ca.cluster, err)
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, caKeyFile), keyPEM, 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, caFile), ca.CertPEM(), 0o644)
}

// Cluster is the id of the cluster whose authority this is.
func (ca *CA) Cluster() string { return ca.cluster }

// CertPEM is the authority's certificate.
func (ca *CA) CertPEM() []byte { return encodePEM(typeCertificate, ca.cert.Raw) }

// KeyPEM is the authority's private key. It leaves a node only inside a pinned
// TLS channel, for a newcomer that is to sign as well.
func (ca *CA) KeyPEM() ([]byte, error) { return keyPEM(ca.key) }

// Pin is the SHA-256 of the authority's certificate, by which a newcomer knows it.
func (ca *CA) Pin() [sha256.Size]byte { return sha256.Sum256(ca.cert.Raw) }

// Issue signs a certificate for the node of this name, valid from an hour ago
// until ttl from now, never beyond the authority's own end. The hosts (names or
// IP addresses) are for tools that insist on them; nodes know each other by the
// URI alone. The answer is PEM.
func (ca *CA) Issue(name string, hosts []string, public crypto.PublicKey, ttl time.Duration) ([]byte, error) {
	peer := Peer{Cluster: ca.cluster, Name: name}
	if err := peer.valid(); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	if ttl <= 0 {
		return nil, fmt.Errorf("issue certificate for %s: lifetime %v, must be more than 0", peer, ttl)
	}
	now := time.Now()
	end := now.Add(ttl)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: name},
		URIs:         []*url.URL{peer.URI()},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", peer, err)
	}
	return encodePEM(typeCertificate, der), nil
}

// Sign issues a certificate for the key in a certificate request (PEM), after
// it has proven that the asker holds that key. Nothing else is taken from the
// request: the name is the caller's decision.
func (ca *CA) Sign(name string, requestPEM []byte, ttl time.Duration) ([]byte, error) {
	der, err := onePEM(requestPEM, typeRequest)
	if err != nil {
		return nil, fmt.Errorf("certificate request of %q: %w", name, err)
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("certificate request of %q: %w", name, err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request of %q: %w", name, err)
	}
	return ca.Issue(name, nil, req.PublicKey, ttl)
}

// NewRequest makes a key (ECDSA P-256) and the request for its certificate, both
// as PEM. The key never leaves the node that made it.
func NewRequest(name string) (requestPEM, key []byte, err error) {
	k, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request of %q: %w", name, err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, k)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request of %q: %w", name, err)
	}
	if key, err = keyPEM(k); err != nil {
		return nil, nil, fmt.Errorf("certificate request of %q: %w", name, err)
	}
	return encodePEM(typeRequest, der), key, nil
}

func newKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails since Go 1.24
	b[0] &= 0x7f // RFC 5280 4.1.2.2: positive
	b[0] |= 0x40 // and never zero
	return new(big.Int).SetBytes(b)
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

const (
	typeCertificate = "CERTIFICATE"
	typeRequest     = "CERTIFICATE REQUEST"
	typeKey         = "PRIVATE KEY"
)

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func onePEM(b []byte, kind string) ([]byte, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("no PEM block of type %q", kind)
	}
	return block.Bytes, nil
}

func keyPEM(k crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return encodePEM(typeKey, der), nil
}

func parseKey(b []byte) (crypto.Signer, error) {
	der, err := onePEM(b, typeKey)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", k)
	}
	return s, nil
}
