package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"ferryman"
)

// verify checks that a chain, as presented in a handshake, is that of a node
// of the cluster whose CA this is, and says which. The CA signs nodes
// directly, so the first certificate is all that counts. Every refusal says
// whose certificate it was, where that can be read.
func verify(ca *x509.Certificate, cluster string, chain []*x509.Certificate, usage x509.ExtKeyUsage) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, ErrNoCertificate
	}
	leaf := chain[0]
	peer, err := ParsePeer(leaf)
	if err != nil {
		return Peer{}, err
	}
	// First, because an authority of another cluster would only be reported
	// as an unknown one. The claim is not verified yet; it only refuses.
	if peer.Cluster != cluster {
		return Peer{}, fmt.Errorf("%w: the certificate of %s belongs to cluster %s, this node to %s", ferryman.ErrWrongCluster, peer.Name, peer.Cluster, cluster)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{usage}})
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return peer, nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Peer{}, fmt.Errorf("%w: the certificate of %s is valid from %s to %s, and this node's clock says %s",
			ErrExpired, peer, stamp(invalid.Cert.NotBefore), stamp(invalid.Cert.NotAfter), stamp(time.Now()))
	case errors.As(err, &unknown):
		return Peer{}, fmt.Errorf("%w: the certificate of %s was signed by %q, which is not the CA that this node has", ErrUntrusted, peer, leaf.Issuer)
	default:
		return Peer{}, fmt.Errorf("%w: %s: %w", ErrUntrusted, peer, err)
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
