package apiserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/source"
	"ferryman/apiserver"
)

// replace writes a file as an editor or a deployment tool does.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// running is a server under test.
type running struct {
	*apiserver.Server
	url, document string
	stop          func() error // ends Run and returns its error
}

func start(t testing.TB, config apiserver.Config) running {
	t.Helper()
	if config.Document == "" {
		config.Document = filepath.Join(t.TempDir(), "desired.yaml")
		replace(t, config.Document, "nodes: 3\n")
	}
	config.Log = slog.New(slog.DiscardHandler)
	s, err := apiserver.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listener) }()
	r := running{Server: s, document: config.Document, url: "http://" + listener.Addr().String()}
	if config.TLS != nil {
		r.url = "https://" + listener.Addr().String()
	}
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r running) client(t testing.TB, remote source.Remote) *source.Client {
	t.Helper()
	remote.URL = r.url
	c, err := source.NewClient(remote)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// first fetches until the file was read for the first time.
func first(t testing.TB, s source.Source) (text, etag string) {
	t.Helper()
	for range 100 {
		raw, next, err := s.Fetch(t.Context(), "")
		if err == nil {
			return string(raw), next
		}
		if !errors.Is(err, ferryman.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	t.Fatal("the document is not served")
	return "", ""
}

type request struct {
	method, path, body string
	header             http.Header
}

func call(t testing.TB, r running, q request) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), q.method, r.url+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	for key := range q.header {
		request.Header.Set(key, q.header.Get(key))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

func TestLongPollHearsOfAChange(t *testing.T) {
	t.Parallel()
	r := start(t, apiserver.Config{})
	desired := r.client(t, source.Remote{}).Desired()
	text, etag := first(t, desired)
	if text != "nodes: 3\n" {
		t.Fatalf("got %q", text)
	}
	for i := 4; i < 8; i++ {
		want := fmt.Sprintf("nodes: %d\n", i)
		replace(t, r.document, want)
		raw, next, err := desired.Fetch(t.Context(), etag)
		if err != nil || string(raw) != want || next == etag {
			t.Fatalf("got %q, %q, %v; want %q", raw, next, err, want)
		}
		etag = next
	}
}

func TestLongPollIsAnsweredInTheEnd(t *testing.T) {
	t.Parallel()
	r := start(t, apiserver.Config{})
	first(t, r.client(t, source.Remote{}).Desired())
	_, _, header := call(t, r, request{method: "GET", path: "/desired_state"})
	etag := http.Header{"If-None-Match": {header.Get("ETag")}}
	for _, path := range []string{"/desired_state", "/desired_state?wait=0s", "/desired_state?wait=50ms"} {
		if status, body, _ := call(t, r, request{method: "GET", path: path, header: etag}); status != 304 || body != "" {
			t.Errorf("%s: got %d %q, want 304", path, status, body)
		}
	}
	for _, path := range []string{"/desired_state?wait=soon", "/desired_state?wait=-1s"} {
		if status, _, _ := call(t, r, request{method: "GET", path: path, header: etag}); status != 400 {
			t.Errorf("%s: got %d, want 400", path, status)
		}
	}
	other := http.Header{"If-None-Match": {`"other"`}}
	if status, body, _ := call(t, r, request{method: "GET", path: "/desired_state?wait=1h", header: other}); status != 200 || body != "nodes: 3\n" {
		t.Errorf("another ETag: got %d %q, want the document at once", status, body)
	}

	// Run ends although a poll is held.
	held := make(chan int, 1)
	go func() {
		status, _, _ := call(t, r, request{method: "GET", path: "/desired_state?wait=1m", header: etag})
		held <- status
	}()
	select {
	case status := <-held:
		t.Fatalf("got %d, want the poll to be held", status)
	case <-time.After(100 * time.Millisecond): // a chance for it to be held; either way it is answered
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if status := <-held; status != 304 {
		t.Errorf("held poll: got %d, want 304", status)
	}
}

func TestABadFileKeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "desired.yaml")
	r := start(t, apiserver.Config{Document: path})
	eventually(t, "that there is no file is told", func() bool {
		status, body, _ := call(t, r, request{method: "GET", path: "/desired_state"})
		return status == 503 && strings.Contains(body, "no such file")
	})
	replace(t, path, "nodes: 3\n")
	eventually(t, "the file is served", func() bool {
		status, body, header := call(t, r, request{method: "GET", path: "/desired_state"})
		return status == 200 && body == "nodes: 3\n" && header.Get(apiserver.HeaderProblem) == ""
	})
	replace(t, path, "nodes: 3\nnoodles: 4\n")
	eventually(t, "the mistake is told, and the last good one served", func() bool {
		status, body, header := call(t, r, request{method: "GET", path: "/desired_state"})
		return status == 200 && body == "nodes: 3\n" && header.Get(apiserver.HeaderProblem) == "line 2: noodles: unknown key; did you mean nodes?"
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a removed file changes nothing", func() bool {
		status, body, header := call(t, r, request{method: "GET", path: "/desired_state"})
		return status == 200 && body == "nodes: 3\n" && strings.Contains(header.Get(apiserver.HeaderProblem), "no such file")
	})
	replace(t, path, "nodes: 4\n")
	eventually(t, "the corrected file is served", func() bool {
		_, body, header := call(t, r, request{method: "GET", path: "/desired_state"})
		return body == "nodes: 4\n" && header.Get(apiserver.HeaderProblem) == ""
	})
}

// Who signed a document is for the agents to judge: to the server an envelope is
// a document, which passes through as it is.
func TestAnEnvelopePassesThrough(t *testing.T) {
	t.Parallel()
	e := source.Envelope{Type: source.PayloadType, Payload: []byte("cluster: orders\ngeneration: 7\nnodes: 3\n")}
	key, err := source.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	e.Sign(key)
	signed := "\n  " + string(e.Marshal()) + "\n\n"
	r := start(t, apiserver.Config{})
	replace(t, r.document, signed)
	eventually(t, "the envelope is served, byte for byte", func() bool {
		_, body, header := call(t, r, request{method: "GET", path: "/desired_state"})
		return body == signed && header.Get(apiserver.HeaderProblem) == ""
	})
	e.Payload = []byte("generation: 7\nnodes: 3\n")
	replace(t, r.document, string(e.Marshal()))
	eventually(t, "one that no agent would take is told", func() bool {
		_, body, header := call(t, r, request{method: "GET", path: "/desired_state"})
		return body == signed && strings.HasPrefix(header.Get(apiserver.HeaderProblem), "cluster: is missing")
	})
}

func TestToken(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	replace(t, token, "s3cret\n")
	r := start(t, apiserver.Config{TokenFile: token})
	for _, path := range []string{"/desired_state", "/current_hosts", "/status"} {
		for _, shown := range []string{"", "Bearer ", "Bearer s3cre", "s3cret", "Basic s3cret"} {
			if status, _, _ := call(t, r, request{method: "GET", path: path, header: http.Header{"Authorization": {shown}}}); status != 401 {
				t.Errorf("GET %s with %q: got %d, want 401", path, shown, status)
			}
		}
	}
	for _, path := range []string{"/desired_hosts", "/status"} {
		if status, _, _ := call(t, r, request{method: "POST", path: path, body: `{"numDesiredHosts":1}`}); status != 401 {
			t.Errorf("POST %s: got %d, want 401", path, status)
		}
	}
	if _, err := r.client(t, source.Remote{TokenFile: token}).CurrentHosts(t.Context()); err != nil {
		t.Errorf("with the token: %v", err)
	}
	replace(t, token, "") // nobody, rather than everybody
	if status, _, _ := call(t, r, request{method: "GET", path: "/status", header: http.Header{"Authorization": {"Bearer "}}}); status != 503 {
		t.Errorf("with an empty token file: got %d, want 503", status)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	defer borrowed.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	replace(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: borrowed.Certificate().Raw})))
	r := start(t, apiserver.Config{TLS: &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS12}})
	if _, err := r.client(t, source.Remote{CAFile: ca}).CurrentHosts(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := r.client(t, source.Remote{}).CurrentHosts(t.Context()); !errors.Is(err, ferryman.ErrUnavailable) {
		t.Errorf("without its CA: got %v, want an error", err)
	}
}

func TestStatusKeepsTheNewestReport(t *testing.T) {
	t.Parallel()
	r := start(t, apiserver.Config{})
	if status, _, _ := call(t, r, request{method: "GET", path: "/status"}); status != 204 {
		t.Errorf("before a report: got %d, want 204", status)
	}
	c := r.client(t, source.Remote{})
	if err := c.Report(t.Context(), ferryman.Report{State: ferryman.State{Cluster: "orders"}}); err != nil {
		t.Fatal(err)
	}
	if c.Minimal() {
		t.Error("the reference server counts as minimal")
	}
	status, body, header := call(t, r, request{method: "GET", path: "/status"})
	if status != 200 || !strings.Contains(body, `"cluster":"orders"`) {
		t.Errorf("got %d %s", status, body)
	}
	if at, err := http.ParseTime(header.Get("Last-Modified")); header.Get("Age") != "0" || err != nil || time.Since(at) > time.Minute {
		t.Errorf("it came at %q, %q seconds ago, want just now", header.Get("Last-Modified"), header.Get("Age"))
	}
	if status, _, _ := call(t, r, request{method: "POST", path: "/status", body: "<html>"}); status != 400 {
		t.Errorf("not JSON: got %d, want 400", status)
	}
	if status, _, _ := call(t, r, request{method: "POST", path: "/status", body: `"` + strings.Repeat("x", 5<<20) + `"`}); status != 413 {
		t.Errorf("too large: got %d, want 413", status)
	}
	if _, again, _ := call(t, r, request{method: "GET", path: "/status"}); again != body {
		t.Error("a bad report replaced the good one")
	}
}

func TestTheFileIsTheTruth(t *testing.T) {
	t.Parallel()
	r := start(t, apiserver.Config{})
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		if status, _, _ := call(t, r, request{method: method, path: "/desired_state"}); status != 405 {
			t.Errorf("%s: got %d, want 405", method, status)
		}
	}
}

func TestArtefacts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	replace(t, secret, "hunter2")
	if err := os.MkdirAll(filepath.Join(dir, "redis"), 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(dir, "redis", "a.tar.gz"), "0123456789")
	if err := os.Symlink(secret, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	r := start(t, apiserver.Config{Artefacts: dir})
	for _, test := range []struct {
		path, asked string
		status      int
		body        string
	}{
		{"/artefacts/redis/a.tar.gz", "", 200, "0123456789"},
		{"/artefacts/redis/a.tar.gz", "bytes=4-", 206, "456789"},
		{"/artefacts/redis/a.tar.gz", "bytes=10-", 416, ""},
		{"/artefacts/redis", "", 404, ""},
		{"/artefacts/redis/", "", 404, ""},
		{"/artefacts/", "", 404, ""},
		{"/artefacts/link", "", 404, ""},
		{"/artefacts/%2e%2e/secret", "", 404, ""},
		{"/artefacts/..%2f" + filepath.Base(filepath.Dir(secret)) + "%2fsecret", "", 404, ""},
	} {
		status, body, _ := call(t, r, request{method: "GET", path: test.path, header: http.Header{"Range": {test.asked}}})
		if status != test.status || test.body != "" && body != test.body || strings.Contains(body, "hunter2") {
			t.Errorf("%s %s: got %d %q, want %d %q", test.path, test.asked, status, body, test.status, test.body)
		}
	}
}

// fleet is a Provisioner in memory. Making a host takes until it is let go.
type fleet struct {
	mu       sync.Mutex
	hosts    []string
	log      []string
	creating chan struct{} // receives before a host is there; nil: at once
	fail     error
}

func (f *fleet) List(context.Context) ([]source.Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var hosts []source.Host
	for _, name := range f.hosts {
		hosts = append(hosts, source.Host{Name: name, Address: name})
	}
	return hosts, nil
}

func (f *fleet) Create(ctx context.Context, name string) error {
	if f.creating != nil {
		select {
		case <-f.creating:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.log = append(f.log, "+"+name)
	f.hosts = append(f.hosts, name)
	return nil
}

func (f *fleet) Remove(_ context.Context, name string, lost bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, map[bool]string{false: "-", true: "x"}[lost]+name)
	f.hosts = slices.DeleteFunc(f.hosts, func(n string) bool { return n == name })
	return nil
}

func (f *fleet) names() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := slices.Clone(f.hosts)
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (f *fleet) die(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts = slices.DeleteFunc(f.hosts, func(n string) bool { return n == name })
}

func TestHostRequests(t *testing.T) {
	t.Parallel()
	f := &fleet{}
	r := start(t, apiserver.Config{Provisioner: f})
	c := r.client(t, source.Remote{})
	for _, step := range []struct {
		what    string
		request source.HostRequest
		die     string
		want    string // the hosts that come of it
		is      error
	}{
		{"the first", source.HostRequest{NumDesiredHosts: 1}, "", "n1", nil},
		{"grow", source.HostRequest{NumDesiredHosts: 3, Term: 2}, "", "n1 n2 n3", nil},
		{"repeated", source.HostRequest{NumDesiredHosts: 3, Term: 2}, "", "n1 n2 n3", nil},
		{"an older leader", source.HostRequest{NumDesiredHosts: 5, Term: 1}, "", "n1 n2 n3", ferryman.ErrConflict},
		{"replace a dead one", source.HostRequest{NumDesiredHosts: 3, LostHosts: []string{"n2"}, Term: 3}, "n2", "n1 n3 n4", nil},
		{"replace one that is cut off", source.HostRequest{NumDesiredHosts: 3, LostHosts: []string{"n3"}, Term: 3}, "", "n1 n4 n5", nil},
		{"shrink by name", source.HostRequest{NumDesiredHosts: 2, RemoveHosts: []string{"n1"}, Term: 3}, "", "n4 n5", nil},
		{"the same again", source.HostRequest{NumDesiredHosts: 2, RemoveHosts: []string{"n1"}, Term: 3}, "", "n4 n5", nil},
		{"fewer, without a name", source.HostRequest{NumDesiredHosts: 1, Term: 3}, "", "n4 n5", nil},
		{"swap by name", source.HostRequest{NumDesiredHosts: 2, RemoveHosts: []string{"n5", "n5", "../x"}, LostHosts: []string{"../y", "n9", "n9"}, Term: 3}, "", "n4 n6", nil},
		{"a client that knows the convention only", source.HostRequest{NumDesiredHosts: 1}, "", "n4", nil},
		{"none", source.HostRequest{NumDesiredHosts: 0, Term: 3}, "", "n4", nil},
		{"too many", source.HostRequest{NumDesiredHosts: 1001, Term: 3}, "", "n4", nil},
		{"too many names", source.HostRequest{NumDesiredHosts: 1, LostHosts: make([]string, 2000), Term: 3}, "", "n4", nil},
	} {
		if step.die != "" {
			f.die(step.die)
		}
		err := c.RequestHosts(t.Context(), step.request)
		var status *source.StatusError
		refused := step.request.NumDesiredHosts < 1 || step.request.NumDesiredHosts > 1000 || len(step.request.LostHosts) > 1000
		switch {
		case refused && (!errors.As(err, &status) || status.Code != 400):
			t.Errorf("%s: got %v, want a 400", step.what, err)
		case !refused && !errors.Is(err, step.is):
			t.Errorf("%s: got %v, want %v", step.what, err, step.is)
		}
		eventually(t, fmt.Sprintf("%s: %s (%s)", step.what, step.want, f.names()), func() bool { return f.names() == step.want })
	}
	for _, body := range []string{"", "[]", "{", `{"numDesiredHosts": "3"}`, `{}`, `{"numDesiredHosts": 3} {}`} {
		if status, _, _ := call(t, r, request{method: "POST", path: "/desired_hosts", body: body}); status != 400 {
			t.Errorf("%q: got %d, want 400", body, status)
		}
	}
	if status, _, _ := call(t, r, request{method: "POST", path: "/desired_hosts", body: strings.Repeat(" ", 1<<20)}); status != 413 {
		t.Errorf("a huge request: got %d, want 413", status)
	}
	if _, body, _ := call(t, r, request{method: "GET", path: "/current_hosts"}); body != `["n4"]` {
		t.Errorf("current hosts: got %s", body)
	}
}

func TestHostsThatAreBeingMadeCount(t *testing.T) {
	t.Parallel()
	f := &fleet{creating: make(chan struct{})}
	r := start(t, apiserver.Config{Provisioner: f})
	c := r.client(t, source.Remote{})
	for range 5 {
		if err := c.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 3, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		f.creating <- struct{}{}
	}
	eventually(t, "three hosts", func() bool { return f.names() == "n1 n2 n3" })
	// Run waits for what it began: a fourth would be waiting still.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got, want := f.names(), "n1 n2 n3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAFailedHostIsMadeWhenAskedAgain(t *testing.T) {
	t.Parallel()
	f := &fleet{fail: errors.New("no quota")}
	r := start(t, apiserver.Config{Provisioner: f})
	c := r.client(t, source.Remote{})
	request := source.HostRequest{NumDesiredHosts: 1, Term: 1}
	if err := c.RequestHosts(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	eventually(t, "a host", func() bool {
		if err := c.RequestHosts(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		return f.names() != ""
	})
}

func TestTermAndNamesSurviveARestart(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state.json")
	f := &fleet{}
	r := start(t, apiserver.Config{Provisioner: f, State: state})
	if err := r.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 2, Term: 7}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two hosts", func() bool { return f.names() == "n1 n2" })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	f.die("n2")
	r = start(t, apiserver.Config{Provisioner: f, State: state})
	if err := r.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 3, Term: 6}); !errors.Is(err, ferryman.ErrConflict) || !strings.Contains(err.Error(), state) {
		t.Errorf("an older term: got %v, want ErrConflict that names %s", err, state)
	}
	if err := r.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 2, Term: 7}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another name than n2", func() bool { return f.names() == "n1 n3" })

	replace(t, state, "{")
	if _, err := apiserver.New(apiserver.Config{State: state}); err == nil || !strings.Contains(err.Error(), state) {
		t.Errorf("a broken state file: got %v, want an error that names it", err)
	}
}

func TestWithoutAProvisionerHostsAreMadeByHand(t *testing.T) {
	t.Parallel()
	r := start(t, apiserver.Config{Provisioner: apiserver.Static{{Name: "n1", Address: "n1:7440"}}})
	c := r.client(t, source.Remote{})
	if err := c.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 2, Term: 1}); !errors.Is(err, ferryman.ErrUnsupported) {
		t.Errorf("one too few: got %v, want ErrUnsupported", err)
	}
	if err := c.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 1, Term: 1}); err != nil {
		t.Errorf("as many as there are: %v", err)
	}
	hosts, err := c.CurrentHosts(t.Context())
	if err != nil || len(hosts) != 1 || hosts[0] != (source.Host{Name: "n1", Address: "n1:7440"}) {
		t.Errorf("got %v, %v", hosts, err)
	}
}

// The whole of it with processes: ask, kill, replace.
func TestServerWithProcesses(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "obedient")
	r := start(t, apiserver.Config{Provisioner: p})
	if err := r.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 2}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two hosts", func() bool { return list(t, p) == "n1:7440 n2:7440" && starts(p, "n1") == 1 && starts(p, "n2") == 1 })
	if err := p.Kill(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	c := r.client(t, source.Remote{})
	if err := c.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 2, LostHosts: []string{"n1"}, Term: 4}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new host", func() bool { return list(t, p) == "n2:7440 n3:7440" && starts(p, "n3") == 1 })
}

// BenchmarkPublishToFetch measures from the rename of a new document to the
// return of Fetch, and tells the slowest.
func BenchmarkPublishToFetch(b *testing.B) {
	r := start(b, apiserver.Config{})
	desired := r.client(b, source.Remote{}).Desired()
	_, etag := first(b, desired)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		// The poll is held when the document is published, and the phases of
		// the two differ.
		type result struct {
			etag string
			err  error
			at   time.Time
		}
		done := make(chan result, 1)
		go func() {
			_, next, err := desired.Fetch(b.Context(), etag)
			done <- result{next, err, time.Now()}
		}()
		time.Sleep(time.Duration(150+(i*37)%100) * time.Millisecond)
		text := bytes.Repeat([]byte("# filler\n"), i%100)
		b.StartTimer()
		began := time.Now()
		replace(b, r.document, fmt.Sprintf("%snodes: 3\ngeneration: %d\n", text, i+1))
		got := <-done
		if got.err != nil {
			b.Fatal(got.err)
		}
		took, etag = append(took, got.at.Sub(began)), got.etag
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)-1]), "p100-ms")
}
