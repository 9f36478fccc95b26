package identity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ferryman/agent/identity"
)

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "orders")
	token := identity.NewToken(ca)
	printed := token.Encode()
	got, err := identity.ParseToken(" " + printed + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != token.ID || got.Pin != ca.Pin() || got.Encode() != printed {
		t.Errorf("parsed %q, want %q", got.Encode(), printed)
	}
	if !got.Matches(token.Hash()) {
		t.Error("the token does not match its own hash")
	}
	other := identity.NewToken(ca)
	if other.ID == token.ID || got.Matches(other.Hash()) || got.Matches("") {
		t.Error("the token matches what is not its hash")
	}
	// Somebody else's secret under a known id does not pass.
	parts, foreign := strings.Split(printed, "."), strings.Split(other.Encode(), ".")
	parts[2] = foreign[2]
	forged, err := identity.ParseToken(strings.Join(parts, "."))
	if err != nil {
		t.Fatal(err)
	}
	if forged.Matches(token.Hash()) {
		t.Error("another secret matches")
	}
}

func TestTokenKeepsItsSecret(t *testing.T) {
	t.Parallel()
	token := identity.NewToken(newCA(t, "orders"))
	secret := strings.Split(token.Encode(), ".")[2]
	js, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(token), fmt.Sprintf("%+v %#v", token, token), token.Hash(), string(js)} {
		if strings.Contains(s, secret) {
			t.Errorf("%q shows the secret", s)
		}
	}
}

func TestParseTokenRefuses(t *testing.T) {
	t.Parallel()
	parts := strings.Split(identity.NewToken(newCA(t, "orders")).Encode(), ".")
	with := func(i int, s string) string {
		p := append([]string(nil), parts...)
		p[i] = s
		return strings.Join(p, ".")
	}
	for name, s := range map[string]string{
		"empty":            "",
		"three parts":      strings.Join(parts[:3], "."),
		"five parts":       strings.Join(append(parts, "x"), "."),
		"version":          with(0, "fm2"),
		"id not hex":       with(1, "zzzzzzzzzzzzzzzz"),
		"id short":         with(1, "ab"),
		"id upper case":    with(1, "ABCDEF0123456789"),
		"secret cut":       with(2, parts[2][:40]),
		"secret not coded": with(2, "!"+parts[2][1:]),
		"secret empty":     with(2, ""),
		"pin cut":          with(3, parts[3][:42]),
		"pin empty":        with(3, ""),
	} {
		if _, err := identity.ParseToken(s); !errors.Is(err, identity.ErrBadToken) {
			t.Errorf("%s: %v, want ErrBadToken", name, err)
		} else if len(parts[2]) > 0 && strings.Contains(err.Error(), parts[2]) {
			t.Errorf("%s: error %q repeats the secret", name, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	ca, err := identity.CreateCA("orders")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(identity.NewToken(ca).Encode())
	f.Add("fm1...")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := identity.ParseToken(s)
		if err == nil && token.Encode() != strings.TrimSpace(s) {
			t.Errorf("%q is a second spelling of %q", s, token.Encode())
		}
	})
}

func TestTokenPinsTheCA(t *testing.T) {
	t.Parallel()
	ca, namesake := newCA(t, "orders"), newCA(t, "orders")
	token := identity.NewToken(ca)

	if _, serverErr, clientErr := handshake(t, newNode(t, ca, "n1", time.Hour).ServerConfig(), token.ClientConfig()); serverErr != nil || clientErr != nil {
		t.Errorf("pinned: server %v, client %v", serverErr, clientErr)
	}
	if _, _, clientErr := handshake(t, newNode(t, namesake, "n1", time.Hour).ServerConfig(), token.ClientConfig()); !errors.Is(clientErr, identity.ErrUntrusted) {
		t.Errorf("another CA: %v, want ErrUntrusted", clientErr)
	}
	// An impostor that presents the true CA after a certificate of its own making.
	impostor := newNode(t, namesake, "n1", time.Hour).ServerConfig()
	cert, err := impostor.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := *cert
	forged.Certificate = [][]byte{cert.Certificate[0], parseCert(t, ca.CertPEM()).Raw}
	impostor.GetCertificate = nil
	impostor.Certificates = append(impostor.Certificates, forged)
	if _, _, clientErr := handshake(t, impostor, token.ClientConfig()); !errors.Is(clientErr, identity.ErrUntrusted) {
		t.Errorf("impostor: %v, want ErrUntrusted", clientErr)
	}
	if _, _, clientErr := handshake(t, newNode(t, ca, "n1", expired).ServerConfig(), token.ClientConfig()); !errors.Is(clientErr, identity.ErrExpired) {
		t.Errorf("expired: %v, want ErrExpired", clientErr)
	}

	if err := token.CheckCA(ca.CertPEM()); err != nil {
		t.Error(err)
	}
	if err := token.CheckCA(namesake.CertPEM()); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("another CA's certificate: %v, want ErrUntrusted", err)
	}
}
