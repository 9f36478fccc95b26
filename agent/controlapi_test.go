package agent

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/source"
)

func TestTheApiServersAuthorityIsTheConfiguredOne(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`["n1"]`)) }))
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		file string
		want bool
	}{{ca, true}, {"", false}} {
		client, err := source.NewClient(Remote(config.Source{URL: server.URL, CAFile: test.file}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CurrentHosts(t.Context()); (err == nil) != test.want {
			t.Errorf("with ca_file %q: got %v, want success to be %t", test.file, err, test.want)
		}
	}
}

func TestAMinimalServerIsNotSentReports(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]error{
		http.StatusNotFound:            ferryman.ErrUnsupported,
		http.StatusMethodNotAllowed:    ferryman.ErrUnsupported,
		http.StatusServiceUnavailable:  ferryman.ErrUnavailable,
		http.StatusNoContent:           nil,
		http.StatusInternalServerError: ferryman.ErrUnavailable,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		t.Cleanup(server.Close)
		client, err := source.NewClient(Remote(config.Source{URL: server.URL}))
		if err != nil {
			t.Fatal(err)
		}
		if err := (apiServer{client}).Report(t.Context(), ferryman.Report{}); !errors.Is(err, want) {
			t.Errorf("after %d: got %v, want %v", code, err, want)
		}
	}
}
