package source_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/source"
)

// patience is for answers that are to come, on a machine that has other work.
const patience = time.Minute

func newClient(t *testing.T, handler http.HandlerFunc) *source.Client {
	t.Helper()
	c, err := source.NewClient(source.Remote{URL: server(t, handler).URL, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRequestHostsIsOneObject(t *testing.T) {
	t.Parallel()
	var got string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.Path + " " + string(body)
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(make([]byte, 1<<20)) // an answer that nobody needs
	})
	err := c.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 3, RemoveHosts: []string{"n4"}, LostHosts: []string{"n2"}, Term: 5, Generation: 7})
	if err != nil {
		t.Fatal(err)
	}
	want := `POST /desired_hosts {"numDesiredHosts":3,"removeHosts":["n4"],"lostHosts":["n2"],"term":5,"generation":7}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestClientErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]error{
		409: ferryman.ErrConflict, 404: ferryman.ErrUnsupported, 501: ferryman.ErrUnsupported,
		403: source.ErrUnauthorized, 503: ferryman.ErrUnavailable,
	} {
		c := newClient(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		err := c.RequestHosts(t.Context(), source.HostRequest{NumDesiredHosts: 3})
		var status *source.StatusError
		if !errors.Is(err, want) || !errors.As(err, &status) || status.Code != code {
			t.Errorf("%d: got %v, want %v", code, err, want)
		}
		if _, err := c.CurrentHosts(t.Context()); !errors.Is(err, want) {
			t.Errorf("%d: hosts: got %v, want %v", code, err, want)
		}
	}
}

func TestCurrentHosts(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`[]`:                                     "",
		`["n1","n2"]`:                            "n1=n1 n2=n2",
		`["n1:7440","n2.x"]`:                     "n1=n1:7440 n2.x=n2.x",
		`["n1","n1:7440"]`:                       "listed twice",
		`["a/b"]`:                                "not the name of a host",
		`["../x:1"]`:                             "not the name of a host",
		`["n1:"]`:                                "neither a name nor name:port",
		`[""]`:                                   "not the name of a host",
		`{"hosts":[]}`:                           "expected a list of names",
		`[1]`:                                    "expected a list of names",
		`<html>`:                                 "expected a list of names",
		``:                                       "expected a list of names",
		`["` + strings.Repeat("x", 1<<20) + `"]`: "too large",
	} {
		c := newClient(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		hosts, err := c.CurrentHosts(t.Context())
		var parts []string
		for _, h := range hosts {
			parts = append(parts, h.Name+"="+h.Address)
		}
		got := strings.Join(parts, " ")
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("%.30s: got %s, want %s", body, got, want)
		}
	}
}

func TestMinimalIsFoundOut(t *testing.T) {
	t.Parallel()
	code := http.StatusNotFound
	c := newClient(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	if !c.Minimal() {
		t.Error("before the first report: got a full server, want the careful assumption")
	}
	for _, step := range []struct {
		code    int
		fails   bool
		minimal bool
	}{{404, false, true}, {200, false, false}, {500, true, false}, {405, false, true}} {
		code = step.code
		err := c.Report(t.Context(), ferryman.Report{})
		if (err != nil) != step.fails || c.Minimal() != step.minimal {
			t.Errorf("%d: got %v, minimal %v; want failure %v, minimal %v", step.code, err, c.Minimal(), step.fails, step.minimal)
		}
	}
}

func TestLastReport(t *testing.T) {
	t.Parallel()
	const report = `{"time":"2026-05-04T03:02:01Z","state":{"cluster":"orders"}}`
	tests := []struct {
		name string
		code int
		age  string
		body string
		want time.Duration
		err  error
	}{
		{"by the server's clock", 200, "75", report, 75 * time.Second, nil},
		{"none yet", 204, "", "", 0, source.ErrNoReport},
		{"a server that keeps none", 404, "", "", 0, ferryman.ErrUnsupported},
		{"one that takes some and gives none", 405, "", "", 0, ferryman.ErrUnsupported},
		{"another token", 401, "", "", 0, source.ErrUnauthorized},
		{"a sick server", 500, "", "", 0, ferryman.ErrUnavailable},
		{"a web page", 200, "", "<html>", 0, ferryman.ErrInvalid},
		{"JSON of another kind", 200, "1", `{"status":"ok"}`, 0, ferryman.ErrInvalid},
		{"half a report", 200, "1", report[:20], 0, ferryman.ErrInvalid},
		{"too much", 200, "1", strings.Repeat(" ", source.MaxReport+1), 0, source.ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != "GET" || r.URL.Path != source.PathStatus {
					t.Errorf("got %s %s", r.Method, r.URL.Path)
				}
				w.Header().Set("Age", test.age)
				w.WriteHeader(test.code)
				_, _ = io.WriteString(w, test.body)
			})
			r, age, err := c.LastReport(t.Context())
			if !errors.Is(err, test.err) || err == nil && (r.State.Cluster != "orders" || age != test.want) {
				t.Errorf("got %+v, %s, %v; want %s, %v", r.State, age, err, test.want, test.err)
			}
		})
	}

	// Without Age two clocks are compared, of which one may be ahead.
	ahead := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	c := newClient(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"time":"`+ahead+`"}`) })
	if _, age, err := c.LastReport(t.Context()); err != nil || age != 0 {
		t.Errorf("got %s, %v; want 0", age, err)
	}
}
