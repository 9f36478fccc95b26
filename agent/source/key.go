package source

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"ferryman"
)

// PublicKey verifies documents.
type PublicKey struct {
	// ID is the SHA-256 of the key's 32 bytes, in hexadecimal digits.
	ID string
	// File is where it was read.
	File string
	key  ed25519.PublicKey
}

// PrivateKey signs documents. It is where documents are released, and never on
// a node.
type PrivateKey struct{ key ed25519.PrivateKey }

// The types of PEM blocks, as openssl and x509 have them.
const (
	pemPublic  = "PUBLIC KEY"
	pemPrivate = "PRIVATE KEY"
)

// maxKeyFile is more than any file with a key has, in bytes.
const maxKeyFile = 16 << 10

// NewKey makes a key out of the system's randomness.
func NewKey() (PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return PrivateKey{key}, err
}

// KeyFromSeed makes the key of a seed of 32 bytes.
func KeyFromSeed(seed []byte) PrivateKey { return PrivateKey{ed25519.NewKeyFromSeed(seed)} }

// Public is the half that is trusted.
func (k PrivateKey) Public() PublicKey { return publicKey(k.key.Public().(ed25519.PublicKey), "") }

func publicKey(key ed25519.PublicKey, file string) PublicKey {
	sum := sha256.Sum256(key)
	return PublicKey{ID: hex.EncodeToString(sum[:]), File: file, key: key}
}

// PEM is the key as PKCS#8.
func (k PrivateKey) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// PEM is the key as PKIX.
func (k PublicKey) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

// String names the key in messages: its file, if it has one, and the beginning
// of its id.
func (k PublicKey) String() string {
	if k.File == "" {
		return k.ID[:shownID]
	}
	return k.File + " (" + k.ID[:shownID] + ")"
}

// shownID is how many digits of an id a message shows.
const shownID = 16

// ReadPublicKey reads a file with one public key in PEM, as `ferryman desired
// keygen` and `openssl pkey -pubout` write it.
func ReadPublicKey(path string) (PublicKey, error) {
	raw, _, err := readKeyFile(path)
	if err != nil {
		return PublicKey{}, err
	}
	fail := func(why string) (PublicKey, error) {
		return PublicKey{}, fmt.Errorf("%w: %s %s", ferryman.ErrInvalid, path, why)
	}
	block, rest := pem.Decode(raw)
	switch {
	case block == nil:
		return fail("holds no public key in PEM; `ferryman desired keygen` makes one")
	case strings.HasSuffix(block.Type, pemPrivate):
		return fail("holds a private key; take it away from this host, and put the public one here")
	case block.Type != pemPublic:
		return fail(fmt.Sprintf("holds a %q, not a public key", short(block.Type)))
	case strings.TrimSpace(string(rest)) != "":
		return fail("holds more than one key; give each a file of its own")
	}
	any, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := any.(ed25519.PublicKey)
	if err != nil || !ok {
		return fail("holds a key that is not an ed25519 key; `ferryman desired keygen` makes one")
	}
	return publicKey(key, path), nil
}

// ReadPrivateKey reads a file with one private key in PEM (PKCS#8). exposed
// says why others may know the key: empty if the file's mode is for one user.
func ReadPrivateKey(path string) (key PrivateKey, exposed string, err error) {
	raw, mode, err := readKeyFile(path)
	if err != nil {
		return PrivateKey{}, "", err
	}
	if mode.IsRegular() && mode.Perm()&0o077 != 0 {
		exposed = fmt.Sprintf("%s has mode %04o, so that others than its owner can use the key; chmod 0600 it, or make a new one if they may have", path, mode.Perm())
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != pemPrivate || strings.TrimSpace(string(rest)) != "" {
		return PrivateKey{}, "", fmt.Errorf("%w: %s does not hold one private key in PEM (PKCS#8, not encrypted); `ferryman desired keygen` makes one", ferryman.ErrInvalid, path)
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := any.(ed25519.PrivateKey)
	if err != nil || !ok {
		return PrivateKey{}, "", fmt.Errorf("%w: %s holds a key that is not an ed25519 key; `ferryman desired keygen` makes one", ferryman.ErrInvalid, path)
	}
	return PrivateKey{private}, exposed, nil
}

func readKeyFile(path string) ([]byte, fs.FileMode, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read the key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("read the key: %w", err)
	}
	raw, err := readCapped(file, maxKeyFile)
	if err != nil {
		return nil, 0, fmt.Errorf("read the key: %s: %w", path, err)
	}
	return raw, info.Mode(), nil
}
