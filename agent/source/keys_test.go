package source_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman/agent/source"
)

func put(t *testing.T, dir, name string, raw []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, raw, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func pems(t *testing.T, n byte) (private, public []byte) {
	t.Helper()
	private, err := key(n).PEM()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = key(n).Public().PEM(); err != nil {
		t.Fatal(err)
	}
	return private, public
}

func TestReadKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	private, public := pems(t, 1)
	_, public2 := pems(t, 2)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&curve.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	several := filepath.Join(dir, "several")
	if err := os.MkdirAll(filepath.Join(several, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, several, "a.pub", public, 0o644)
	put(t, several, "b.pub", public2, 0o644)
	put(t, several, "README", []byte("who may sign"), 0o644)
	a := put(t, dir, "a.pub", public, 0o644)
	for name, test := range map[string]struct {
		paths []string
		need  int
		want  string
	}{
		"none":              {nil, 1, ""},
		"a file":            {[]string{a}, 1, ""},
		"a directory":       {[]string{several}, 2, ""},
		"both, a key twice": {[]string{several, a}, 1, "are the same key"},
		"too few":           {[]string{several}, 3, "3 signatures are wanted, of 2 trusted keys"},
		"no signature":      {[]string{a}, 0, "0 signatures are wanted"},
		"missing":           {[]string{filepath.Join(dir, "absent")}, 1, "absent: no such file"},
		"empty directory":   {[]string{filepath.Join(several, "empty")}, 1, "holds no key: no file whose name ends in .pub"},
		"a private key":     {[]string{put(t, dir, "x.key", private, 0o600)}, 1, "x.key holds a private key; take it away from this host"},
		"no PEM":            {[]string{put(t, dir, "text", []byte("hello"), 0o600)}, 1, "text holds no public key in PEM"},
		"two in one":        {[]string{put(t, dir, "two", append(public, public2...), 0o600)}, 1, "holds more than one key"},
		"another kind":      {[]string{put(t, dir, "p256", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)}, 1, "not an ed25519 key"},
		"a certificate":     {[]string{put(t, dir, "crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)}, 1, `holds a "CERTIFICATE"`},
		"too long":          {[]string{put(t, dir, "long", make([]byte, 1<<20), 0o600)}, 1, "too large"},
	} {
		k, err := source.ReadKeys(test.paths, test.need)
		if test.want == "" && (err != nil || k.None() != (len(test.paths) == 0)) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestReadPrivateKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	private, public := pems(t, 1)
	for name, test := range map[string]struct {
		raw     []byte
		mode    os.FileMode
		exposed string
		want    string
	}{
		"good":     {private, 0o600, "", ""},
		"for all":  {private, 0o644, "has mode 0644", ""},
		"public":   {public, 0o600, "", "does not hold one private key"},
		"nonsense": {[]byte("x"), 0o600, "", "does not hold one private key"},
		"broken":   {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), 0o600, "", "not an ed25519 key"},
	} {
		path := put(t, dir, name, test.raw, test.mode)
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		k, exposed, err := source.ReadPrivateKey(path)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q", name, err, test.want)
			}
			continue
		}
		if err != nil || k.Public().ID != key(1).Public().ID || (exposed != "") != (test.exposed != "") || !strings.Contains(exposed, test.exposed) {
			t.Errorf("%s: got %v, %q; want exposed %q", name, err, exposed, test.exposed)
		}
	}
}
