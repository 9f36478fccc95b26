package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrBadToken: what was given is not a join token, or not all of one.
var ErrBadToken = errors.New("not a join token")

const tokenVersion = "fm1"

// Token lets one newcomer join: it names the invitation and proves the right to
// it, and it carries the fingerprint of the cluster's CA, so that the newcomer
// knows the cluster before it tells the secret to anyone.
//
// Printed it is fm1.<id>.<secret>.<pin>. Whoever holds it can become a node of
// the cluster: it is a password until it is used or ends.
type Token struct {
	ID     string            // not secret; names the token in events and lists
	secret [32]byte          // random
	Pin    [sha256.Size]byte // SHA-256 of the CA certificate
}

// NewToken makes a token for the cluster of this CA.
func NewToken(ca *CA) Token {
	id := make([]byte, 8)
	rand.Read(id) // never fails since Go 1.24
	t := Token{ID: hex.EncodeToString(id), Pin: ca.Pin()}
	rand.Read(t.secret[:])
	return t
}

// Encode is the whole token as a person passes it on. String and the log show
// its id only.
func (t Token) Encode() string {
	b64 := base64.RawURLEncoding
	return strings.Join([]string{tokenVersion, t.ID, b64.EncodeToString(t.secret[:]), b64.EncodeToString(t.Pin[:])}, ".")
}

// String is the token without its secret.
func (t Token) String() string { return tokenVersion + "." + t.ID + ".…" }

// GoString is the token without its secret.
func (t Token) GoString() string { return t.String() }

// Hash is what the cluster remembers of the secret, as hex. The secret is 256
// random bits, so that a plain SHA-256 cannot be searched.
func (t Token) Hash() string {
	h := sha256.Sum256(t.secret[:])
	return hex.EncodeToString(h[:])
}

// Matches compares with a remembered hash in constant time.
func (t Token) Matches(hash string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Hash()), []byte(hash)) == 1
}

// ParseToken reads a printed token. No error repeats any of it.
func ParseToken(s string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 4 {
		return Token{}, fmt.Errorf("%w: %d parts between dots, expected %s.<id>.<secret>.<pin>; was it copied whole?", ErrBadToken, len(parts), tokenVersion)
	}
	if parts[0] != tokenVersion {
		return Token{}, fmt.Errorf("%w: it does not begin with %s", ErrBadToken, tokenVersion)
	}
	t := Token{ID: parts[1]}
	if b, err := hex.DecodeString(t.ID); err != nil || len(b) != 8 || t.ID != hex.EncodeToString(b) {
		return Token{}, fmt.Errorf("%w: its second part is not an id", ErrBadToken)
	}
	if !decode32(parts[2], &t.secret) {
		return Token{}, fmt.Errorf("%w: its third part is not a secret; was it copied whole?", ErrBadToken)
	}
	if !decode32(parts[3], &t.Pin) {
		return Token{}, fmt.Errorf("%w: its last part is not a fingerprint; was it copied whole?", ErrBadToken)
	}
	return t, nil
}

func decode32(s string, to *[32]byte) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(to) {
		return false
	}
	copy(to[:], b)
	return true
}

// ClientConfig is for the newcomer's one call, the enrolment: it has no
// certificate yet, and accepts any node that was signed by the CA that the
// token pins. The server presents that CA after its own certificate.
func (t Token) ClientConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection replaces the check
		VerifyConnection: func(cs tls.ConnectionState) error {
			for _, c := range cs.PeerCertificates {
				if pin := sha256.Sum256(c.Raw); subtle.ConstantTimeCompare(pin[:], t.Pin[:]) != 1 {
					continue
				}
				cluster, err := caCluster(c)
				if err != nil {
					return err
				}
				_, err = verify(c, cluster, cs.PeerCertificates, x509.ExtKeyUsageServerAuth)
				return err
			}
			return fmt.Errorf("%w: the node that answered does not belong to the cluster of this token", ErrUntrusted)
		},
	}
}

// CheckCA refuses a CA certificate (PEM) that is not the one the token pins.
func (t Token) CheckCA(caPEM []byte) error {
	der, err := onePEM(caPEM, typeCertificate)
	if err != nil {
		return fmt.Errorf("CA certificate: %w", err)
	}
	if sha256.Sum256(der) != t.Pin {
		return fmt.Errorf("%w: the CA certificate that came is not the one of this token", ErrUntrusted)
	}
	return nil
}
