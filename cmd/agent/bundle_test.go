package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpack returns the files of a bundle.
func unpack(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	archive, files := tar.NewReader(zip), map[string]string{}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "ferryman-debug/")] = string(content)
	}
}

// A secret may stand where nobody thought of: in a log, in an error, in what the
// database is started with.
func TestTheBundleHasNoSecrets(t *testing.T) {
	dir := t.TempDir()
	secrets := map[string]string{
		"password": `opense"same<&`, "token": "api-bearer-4711", "join-token": "fm1.0123456789abcdef.c2VzYW1l", "url": "urlpass", "parameter": "parampass",
	}
	put := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.URL.Path, secrets["password"]) }))
	defer metrics.Close()
	conf := put("agent.yaml", fmt.Sprintf(`
node: {name: n1}
data_dir: %[1]s/data
control_socket: %[1]s/none.sock
join_token_file: %[2]s
source: {url: "https://kim:%[3]s@control.example.com", token_file: %[4]s}
database: {engine: redis, address: "127.0.0.1:1", password_file: %[5]s}
telemetry: {listen: "%[6]s"}
`, dir, put("join", secrets["join-token"]+"\n"), secrets["url"], put("token", secrets["token"]+"\n"), put("password", secrets["password"]+"\n"), strings.TrimPrefix(metrics.URL, "http://")))
	if code := run(t.Context(), []string{"init", "orders", "--config", conf}, strings.NewReader(""), io.Discard, os.Stderr); code != exitOK {
		t.Fatalf("init: got exit code %d", code)
	}
	for _, key := range []string{"ca.key", "node.key"} {
		raw, err := os.ReadFile(filepath.Join(dir, "data/tls", key))
		if err != nil {
			t.Fatal(err)
		}
		secrets[key] = strings.Split(string(raw), "\n")[1]
		put("data/guard/guard.log", "it read "+string(raw))
	}
	key, err := os.ReadFile(filepath.Join(dir, "data/tls/ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	put("data/guard/guard.log", fmt.Sprintf("time=x msg=\"GET https://kim:%s@control.example.com/desired_state?sig=%s: Authorization: Bearer %s\"\n%s\npassword=%s\n",
		secrets["url"], secrets["parameter"], secrets["token"], key, secrets["parameter"]))
	put("data/db.log", "requirepass "+secrets["parameter"]+"\nAUTH failed: "+secrets["password"]+"\nuse "+secrets["join-token"]+"\n")
	put("data/journal.json", fmt.Sprintf(`{"format":1,"note":%q,"step":{"parameters":{"requirepass":%q,"maxmemory":"1gb"}}}`, "the password is "+secrets["password"], secrets["parameter"]))
	put("data/trust.json", `{"broken: "password": "`+secrets["parameter"])

	var out, stderr bytes.Buffer
	if code := run(t.Context(), []string{"debug", "bundle", "--config", conf, "--out", "-"}, strings.NewReader(""), &out, &stderr); code != exitOK {
		t.Fatalf("got exit code %d: %s", code, stderr.String())
	}
	files := unpack(t, out.Bytes())
	for name, content := range files {
		for what, secret := range secrets {
			if strings.Contains(content, secret) || strings.Contains(content, quoted(secret, true)) || strings.Contains(content, quoted(secret, false)) {
				t.Errorf("%s shows the %s:\n%s", name, what, content)
			}
		}
	}
	for name, want := range map[string]string{
		"config.yaml": "name: n1", "versions.txt": "ferryman " + version, "journal.json": `"maxmemory": "1gb"`, "trust.json": "broken",
		"guard/guard.log": "control.example.com/desired_state", "database.log": "AUTH failed", "metrics.txt": "/metrics", "readyz.txt": "/readyz",
		"missing.txt": "local.json: no agent answers on",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s: got %q, want it to contain %q", name, files[name], want)
		}
	}
	for _, name := range []string{"report.json", "goroutines.txt", "raft.json", "guard/state.json"} {
		if _, ok := files[name]; ok || !strings.Contains(files["missing.txt"], name) {
			t.Errorf("%s is not told to be missing:\n%s", name, files["missing.txt"])
		}
	}
}

func TestHide(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"nothing to hide, not even a token: it was used", "nothing to hide, not even a token: it was used"},
		{"dial redis://:x@h:1/0?auth=y failed", "dial redis://(redacted)@h:1/0?(redacted) failed"},
		{"password=x, more", "password=(redacted), more"},
		{`"password": "x", "more": 1`, `"password": "(redacted)", "more": 1`},
		{"CONFIG SET masterauth x", "CONFIG SET masterauth (redacted)"},
		{"Authorization: Bearer abc", "Authorization: Bearer (redacted)"},
		{"join with fm1.0123456789abcdef.Zm9v now", "join with (redacted) now"},
		{"-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nrest", "(redacted)\nrest"},
		{"q=open%20sesame and open sesame", "q=(redacted) and (redacted)"},
	}
	for _, test := range tests {
		if got := (secrets{"open sesame"}).hide(test.text); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestTailTakesTheEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, slices.Concat(bytes.Repeat([]byte("a"), maxTail), []byte("end")), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bundle
	b.tail("log", path)
	b.tail("none", path+".none")
	if len(b.files) != 1 || len(b.files[0].raw) != maxTail || !bytes.HasSuffix(b.files[0].raw, []byte("aend")) {
		t.Errorf("got %d files, want the last %d bytes of one", len(b.files), maxTail)
	}
	if len(b.missing) != 1 {
		t.Errorf("got %v, want that one is missing", b.missing)
	}
}
