package source_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/source"
)

// server starts an HTTP server whose hanging handlers end with the test.
func server(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func newHTTP(t *testing.T, r source.Remote) *source.HTTP {
	t.Helper()
	s, err := source.NewHTTP(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHTTPFaultsAreErrors(t *testing.T) {
	t.Parallel()
	elsewhere := server(t, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the other host was asked: %s, authorization %q", r.URL, r.Header.Get("Authorization"))
	})
	forever := func(w http.ResponseWriter, r *http.Request, piece []byte) {
		for r.Context().Err() == nil {
			if _, err := w.Write(piece); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			if len(piece) == 1 {
				select {
				case <-r.Context().Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		is      error
		want    string
	}{
		"500":          {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "out of order", 500) }, ferryman.ErrUnavailable, `500 Internal Server Error: "out of order"`},
		"503 and 1 GB": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503); forever(w, r, make([]byte, 64<<10)) }, ferryman.ErrUnavailable, "503"},
		"404":          {http.NotFound, ferryman.ErrUnsupported, "404"},
		"401":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, source.ErrUnauthorized, "token_file"},
		"another host": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, source.ErrRedirect, elsewhere.URL},
		"another scheme": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+"/", http.StatusTemporaryRedirect)
		}, source.ErrRedirect, "https://"},
		"redirect loop": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, nil, "more than 5 times"},
		"announced 1 GB": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000000")
			forever(w, r, make([]byte, 64<<10))
		}, source.ErrTooLarge, "1000000000 bytes; at most 98304"},
		"unannounced 1 GB": {func(w http.ResponseWriter, r *http.Request) { forever(w, r, make([]byte, 64<<10)) }, source.ErrTooLarge, "more than 98304 bytes"},
		"slow body":        {func(w http.ResponseWriter, r *http.Request) { forever(w, r, []byte{' '}) }, ferryman.ErrUnavailable, "did not come in time"},
		"no answer":        {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ferryman.ErrUnavailable, "did not come in time"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("nodes"))
		}, ferryman.ErrUnavailable, "EOF"},
		"reset": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}, ferryman.ErrUnavailable, ""},
		"not HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write(bytes.Repeat([]byte("garbage "), 1000))
			conn.Close()
		}, ferryman.ErrUnavailable, "malformed"},
		"endless header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, ferryman.ErrUnavailable, "header"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := patience
			if strings.Contains(test.want, "in time") {
				limit = 500 * time.Millisecond
			}
			s := newHTTP(t, source.Remote{URL: server(t, test.handler).URL + "/x", Timeout: limit})
			raw, next, err := s.Fetch(t.Context(), "old")
			if err == nil || raw != nil || next != "old" {
				t.Fatalf("got %q, %q, %v; want nothing, the old etag and an error", raw, next, err)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, want it to be %v", err, test.is)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to contain %q", err, test.want)
			}
		})
	}
}

func TestHTTPMemoryStaysBounded(t *testing.T) {
	var sent atomic.Int64
	piece := make([]byte, 1<<20)
	s := newHTTP(t, source.Remote{URL: server(t, func(w http.ResponseWriter, r *http.Request) {
		for range 1000 {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}).URL})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := s.Fetch(t.Context(), ""); !errors.Is(err, source.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	runtime.ReadMemStats(&after)
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(8<<20); got > limit {
		t.Errorf("reading a body of 1 GB allocated %d bytes, want at most %d", got, limit)
	}
	if sent.Load() == 1000<<20 {
		t.Error("the whole body was read")
	}
}

func TestHTTPFollowsARedirectOnTheSameHost(t *testing.T) {
	t.Parallel()
	s := newHTTP(t, source.Remote{URL: server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			http.Redirect(w, r, "/y", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "nodes: 3")
	}).URL + "/x"})
	if raw, _, err := s.Fetch(t.Context(), ""); err != nil || string(raw) != "nodes: 3" {
		t.Errorf("got %q, %v", raw, err)
	}
}

func TestHTTPTokenIsReadAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	replace(t, path, "one\n")
	var got atomic.Value
	s := newHTTP(t, source.Remote{TokenFile: path, URL: server(t, func(_ http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization"))
	}).URL})
	for _, token := range []string{"one", "two"} {
		replace(t, path, token+"\n")
		if _, _, err := s.Fetch(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		if want := "Bearer " + token; got.Load() != want {
			t.Errorf("got %q, want %q", got.Load(), want)
		}
	}
	for _, bad := range []string{"", "two\nlines", strings.Repeat("x", 5000)} {
		replace(t, path, bad)
		if token, err := source.ReadToken(path); err == nil {
			t.Errorf("%.20q: got token %.20q, want an error", bad, token)
		}
	}
}

func TestHTTPTrustsItsCAOnly(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "nodes: 3") }))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	replace(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	if raw, _, err := newHTTP(t, source.Remote{URL: s.URL, CAFile: ca}).Fetch(t.Context(), ""); err != nil || string(raw) != "nodes: 3" {
		t.Errorf("with its CA: got %q, %v", raw, err)
	}
	if _, _, err := newHTTP(t, source.Remote{URL: s.URL}).Fetch(t.Context(), ""); !errors.Is(err, ferryman.ErrUnavailable) {
		t.Errorf("without its CA: got %v, want an error", err)
	}
}

func TestHTTPDownThenUp(t *testing.T) {
	t.Parallel()
	up := false // Fetch is called by one at a time
	s := newHTTP(t, source.Remote{URL: "http://127.0.0.1:9", Transport: peer(func(*http.Request) (*http.Response, error) {
		if !up {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		return respond(http.StatusOK, "", "nodes: 3")
	})})
	if _, _, err := s.Fetch(t.Context(), ""); !errors.Is(err, ferryman.ErrUnavailable) {
		t.Fatalf("down: got %v, want ErrUnavailable", err)
	}
	up = true
	if raw, _, err := s.Fetch(t.Context(), ""); err != nil || string(raw) != "nodes: 3" {
		t.Errorf("up: got %q, %v", raw, err)
	}
}

func TestNewHTTPRefuses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "x", "ftp://h/x", "http://", "http://u:hunter2@ h/", "/etc/x"} {
		if _, err := source.NewHTTP(source.Remote{URL: bad}); !errors.Is(err, ferryman.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v, want ErrInvalid without the URL", bad, err)
		}
	}
}

// peer is a server in virtual time.
type peer func(*http.Request) (*http.Response, error)

func (p peer) RoundTrip(r *http.Request) (*http.Response, error) { return p(r) }

func respond(status int, etag, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, ContentLength: int64(len(body)), Header: http.Header{"Etag": {etag}}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// count makes requests on an unchanged document for an hour, and returns how
// many there were.
func count(t *testing.T, desired bool, answer func(*http.Request) (*http.Response, error)) int {
	requests := 0
	r := source.Remote{URL: "http://h", Interval: time.Minute, Transport: peer(func(r *http.Request) (*http.Response, error) {
		requests++
		return answer(r)
	})}
	var s source.Source = newHTTP(t, r)
	if desired {
		c, err := source.NewClient(r)
		if err != nil {
			t.Fatal(err)
		}
		s = c.Desired()
	}
	first := <-fetch(t.Context(), s, "")
	if first.err != nil {
		t.Fatal(first.err)
	}
	requests = 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if got := <-fetch(ctx, s, first.next); !errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("got %+v, want nothing for an hour", got)
	}
	return requests
}

func TestHTTPPace(t *testing.T) {
	t.Parallel()
	hold := func(r *http.Request, d time.Duration) error {
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-time.After(d):
			return nil
		}
	}
	for name, test := range map[string]struct {
		desired  bool
		answer   func(*http.Request) (*http.Response, error)
		from, to int
	}{
		"no ETag":                {false, func(*http.Request) (*http.Response, error) { return respond(200, "", "nodes: 3") }, 48, 81},
		"304 at once":            {true, func(r *http.Request) (*http.Response, error) { return conditional(r) }, 48, 81},
		"ETag, but ignores it":   {true, func(*http.Request) (*http.Response, error) { return respond(200, `"a"`, "nodes: 3") }, 48, 81},
		"another ETag each time": {true, changingTag(), 48, 81},
		"long poll": {true, func(r *http.Request) (*http.Response, error) {
			if wait := r.URL.Query().Get("wait"); wait != "" {
				if wait != "30s" {
					t.Errorf("wait: got %s, want 30s", wait)
				}
				if err := hold(r, 30*time.Second); err != nil {
					return nil, err
				}
			}
			return conditional(r)
		}, 118, 121},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if got := count(t, test.desired, test.answer); got < test.from || got > test.to {
					t.Errorf("got %d requests in an hour, want %d to %d", got, test.from, test.to)
				}
			})
		})
	}
}

func conditional(r *http.Request) (*http.Response, error) {
	if r.Header.Get("If-None-Match") == `"a"` {
		return respond(304, `"a"`, "")
	}
	return respond(200, `"a"`, "nodes: 3")
}

func changingTag() func(*http.Request) (*http.Response, error) {
	tag := "\""
	return func(*http.Request) (*http.Response, error) {
		tag += "x"
		return respond(200, tag+`"`, "nodes: 3")
	}
}

func TestHTTPBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := false
		s := newHTTP(t, source.Remote{URL: "http://h", Transport: peer(func(*http.Request) (*http.Response, error) {
			if up {
				return respond(200, "", "nodes: 3")
			}
			return nil, errors.New("no route")
		})})
		var gaps []time.Duration
		for range 12 {
			began := time.Now()
			if _, _, err := s.Fetch(t.Context(), ""); !errors.Is(err, ferryman.ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable", err)
			}
			gaps = append(gaps, time.Since(began))
		}
		if gaps[0] != 0 {
			t.Errorf("the first error came after %v, want at once", gaps[0])
		}
		for i, gap := range gaps[1:] {
			full := min(30*time.Second, time.Second<<i)
			if gap < full*3/4 || gap > full*5/4 {
				t.Errorf("gap %d: got %v, want three to five quarters of %v", i+1, gap, full)
			}
		}
		if at := s.Answered(); !at.IsZero() {
			t.Errorf("a server that never answered did so at %s", at)
		}
		up = true
		if _, _, err := s.Fetch(t.Context(), ""); err != nil {
			t.Error(err)
		}
		if at := s.Answered(); !at.Equal(time.Now()) {
			t.Errorf("it answered at %s, want now", at)
		}
		up = false
		_, _, _ = s.Fetch(t.Context(), "")
		began := time.Now()
		_, _, _ = s.Fetch(t.Context(), "")
		if got := time.Since(began); got > 2*time.Second {
			t.Errorf("after a success, the second failure came after %v, want about a second", got)
		}
	})
}

func TestHTTPAServerThatChangesAlwaysIsSlowedDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := "x"
		s := newHTTP(t, source.Remote{URL: "http://h", Transport: peer(func(*http.Request) (*http.Response, error) {
			body += "x"
			return respond(200, "", body)
		})})
		began, etag := time.Now(), ""
		for range 100 {
			_, next, err := s.Fetch(t.Context(), etag)
			if err != nil {
				t.Fatal(err)
			}
			etag = next
		}
		if got := time.Since(began); got < 9*time.Second {
			t.Errorf("100 documents in %v", got)
		}
	})
}
