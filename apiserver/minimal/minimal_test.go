package minimal_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"ferryman"
	"ferryman/agent/source"
	"ferryman/apiserver/minimal"
)

// slow is machinery whose hosts count only once they are booted.
type slow struct {
	mu              sync.Mutex
	booting, booted []string
}

func (s *slow) Running() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.booted)
}

func (s *slow) Start(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.booting = append(s.booting, name)
	return nil
}

func (s *slow) Stop(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.booted = slices.DeleteFunc(s.booted, func(n string) bool { return n == name })
	return nil
}

func (s *slow) boot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.booted, s.booting = append(s.booted, s.booting...), nil
}

func TestTheConvention(t *testing.T) {
	t.Parallel()
	hosts := &slow{}
	server := minimal.New(hosts, []byte(`{"NumberReplicas": 3}`))
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	c, err := source.NewClient(source.Remote{URL: web.URL})
	if err != nil {
		t.Fatal(err)
	}
	raw, etag, err := c.Desired().Fetch(t.Context(), "")
	if err != nil || strings.Contains(etag, `"`) {
		t.Fatalf("got etag %q, %v; want one without the server's", etag, err)
	}
	if doc, err := source.Parse(raw, ""); err != nil || doc.Nodes != 3 {
		t.Errorf("got %+v, %v", doc, err)
	}

	ask := func(r source.HostRequest) {
		t.Helper()
		if err := c.RequestHosts(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	current := func(want string) {
		t.Helper()
		got, err := c.CurrentHosts(t.Context())
		var names []string
		for _, h := range got {
			names = append(names, h.Name)
		}
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("got %v, %v; want %s", names, err, want)
		}
	}
	current("")
	// Asked twice while nothing has booted, it makes twice as many.
	ask(source.HostRequest{NumDesiredHosts: 2, Term: 5, Generation: 1})
	ask(source.HostRequest{NumDesiredHosts: 2, Term: 5, Generation: 1})
	hosts.boot()
	current("n1 n2 n3 n4")
	// It stops hosts of its own choice, and heeds neither names nor terms.
	ask(source.HostRequest{NumDesiredHosts: 3, RemoveHosts: []string{"n4"}, Term: 1})
	current("n2 n3 n4")
	if got, want := server.Requests(), []int{2, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("got requests %v, want %v", got, want)
	}

	if err := c.Report(t.Context(), ferryman.Report{}); err != nil || !c.Minimal() {
		t.Errorf("got %v, minimal %v; want it found out without an error", err, c.Minimal())
	}
	response, err := http.Get(web.URL + "/status")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("GET /status: got %d, want 404", response.StatusCode)
	}
	server.SetDocument([]byte(`{"NumberReplicas": 4}`))
	if raw, _, err := c.Desired().Fetch(t.Context(), etag); err != nil || string(raw) != `{"NumberReplicas": 4}` {
		t.Errorf("changed: got %s, %v", raw, err)
	}
}
