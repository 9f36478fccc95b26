package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"ferryman"
)

// Why a certificate is refused, beside ferryman.ErrWrongCluster. The errors that
// wrap these say which certificate, and what to do.
var (
	// ErrNoCertificate: the other side presented no certificate.
	ErrNoCertificate = errors.New("no certificate")
	// ErrNotANode: the certificate does not name exactly one node.
	ErrNotANode = errors.New("not a node's certificate")
	// ErrExpired: the certificate is past its time, or its time has not begun.
	ErrExpired = errors.New("certificate not valid at this time")
	// ErrUntrusted: this cluster's authority did not sign the certificate.
	ErrUntrusted = errors.New("certificate not signed by this cluster's authority")
	// ErrWrongPeer: the certificate is good, but another node answered than
	// the one that was called.
	ErrWrongPeer = errors.New("another node answered")
)

const (
	scheme     = "ferryman"
	nodePrefix = "/node/"
	caPath     = "/ca"
)

// word is what cluster ids and node names are made of. It is a subset of what
// may stand in a URI's host and in a path segment without escaping, so that
// one identity has one spelling only.
var word = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$`)

const maxName = 128

// ValidName tells whether s can be a cluster id or a node name: like a host
// name, with _ allowed, of at most 128 characters.
func ValidName(s string) bool { return len(s) <= maxName && word.MatchString(s) }

// Peer is the identity of a node, as a verified certificate states it.
type Peer struct {
	Cluster string // the cluster's id
	Name    string // the node's name, unique in its cluster
}

// URI is the peer as it stands in a certificate.
func (p Peer) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: p.Cluster, Path: nodePrefix + p.Name}
}

func (p Peer) String() string { return p.URI().String() }

func (p Peer) valid() error {
	if !ValidName(p.Cluster) {
		return invalidName("cluster id", p.Cluster)
	}
	if !ValidName(p.Name) {
		return invalidName("node name", p.Name)
	}
	return nil
}

func invalidName(what, s string) error {
	return fmt.Errorf("%w %s %q: letters, digits, and - _ . between them, at most %d", ferryman.ErrInvalid, what, s, maxName)
}

// ParsePeer reads the identity that a certificate states. It does not verify
// the certificate. A certificate with no URI of our scheme, or with more than
// one, is refused with ErrNotANode: it must be clear who speaks.
func ParsePeer(c *x509.Certificate) (Peer, error) {
	u, err := ownURI(c)
	if err != nil {
		return Peer{}, err
	}
	name, ok := strings.CutPrefix(u.Path, nodePrefix)
	p := Peer{Cluster: u.Host, Name: name}
	// The comparison of the spelling refuses user info, ports, queries,
	// fragments and escapes in one go.
	if !ok || p.valid() != nil || p.String() != u.String() {
		return Peer{}, fmt.Errorf("%w: its URI is %q, expected ferryman://<cluster id>/node/<node name>", ErrNotANode, u)
	}
	return p, nil
}

// caCluster reads the id of the cluster that a CA certificate is bound to.
func caCluster(c *x509.Certificate) (string, error) {
	u, err := ownURI(c)
	if err != nil {
		return "", err
	}
	if !c.IsCA || !ValidName(u.Host) || u.String() != caURI(u.Host).String() {
		return "", fmt.Errorf("not a Ferryman CA certificate: its URI is %q, expected ferryman://<cluster id>/ca", u)
	}
	return u.Host, nil
}

func caURI(cluster string) *url.URL { return &url.URL{Scheme: scheme, Host: cluster, Path: caPath} }

func ownURI(c *x509.Certificate) (*url.URL, error) {
	var found []*url.URL
	for _, u := range c.URIs {
		if strings.EqualFold(u.Scheme, scheme) {
			found = append(found, u)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%w: certificate %q has %d URIs of scheme %s, expected one", ErrNotANode, c.Subject, len(found), scheme)
	}
	return found[0], nil
}
