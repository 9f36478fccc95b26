package install_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman/upgrade/install"
)

// flaky serves an artefact and cuts the connection after cut bytes of each answer; it notes what was asked for.
type flaky struct {
	mu    sync.Mutex
	raw   []byte
	etag  string
	cut   int
	plain bool // knows no ranges
	asked []string
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Header.Get("Range"))
	raw, cut, etag := f.raw, f.cut, f.etag
	f.mu.Unlock()
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if f.plain {
		r.Header.Del("Range")
	}
	http.ServeContent(&cutter{ResponseWriter: w, left: cut}, r, "", time.Time{}, bytes.NewReader(raw))
}

func (f *flaky) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.asked...)
}

func (f *flaky) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// bulky is an archive that does not compress, of about 64 KiB.
func bulky(t *testing.T) []byte {
	t.Helper()
	content := make([]byte, 64<<10)
	src := rand.NewChaCha8([32]byte{1})
	if _, err := io.ReadFull(src, content); err != nil {
		t.Fatal(err)
	}
	return gz(t, tarOf(t, file("content", string(content))))
}

func TestResume(t *testing.T) {
	t.Parallel()
	raw := bulky(t)
	for _, tt := range []struct {
		name string
		srv  *flaky
		want []string // ranges asked for
		err  string
	}{
		{"in one piece", &flaky{etag: `"1"`, cut: 1 << 20}, []string{""}, ""},
		{"in pieces", &flaky{etag: `"1"`, cut: 30_000}, []string{"", "bytes=30000-", "bytes=60000-"}, ""},
		{"without ranges", &flaky{etag: `"1"`, cut: 30_000, plain: true}, []string{"", "bytes=30000-", "bytes=30000-", "bytes=30000-", "bytes=30000-", "bytes=30000-"}, "given up"},
		// What the server does not vouch for is not gone on with.
		{"without an ETag", &flaky{cut: 30_000}, []string{"", "", "", "", ""}, "given up"},
		{"with a weak ETag", &flaky{etag: `W/"1"`, cut: 30_000}, []string{"", "", "", "", ""}, "given up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.srv.raw = raw
			srv := httptest.NewServer(tt.srv)
			defer srv.Close()
			s := open(t, base(t), install.Options{})
			_, err := s.Stage(t.Context(), "valkey", "1", release(srv.URL, raw))
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if errors.Is(err, install.ErrRefused) {
				t.Errorf("a bad connection accuses the artefact: %v", err)
			}
			got := tt.srv.requests()
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("asked for %q, want %q", got, tt.want)
			}
		})
	}
}

// TestResumeByNextAgent: what one agent fetched, the next goes on with; what changed meanwhile it fetches anew.
func TestResumeByNextAgent(t *testing.T) {
	t.Parallel()
	raw := bulky(t)
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, srv *flaky, part string)
		want  []string
	}{
		{"as it was", func(*testing.T, *flaky, string) {}, []string{"bytes=30000-"}},
		{"another ETag", func(_ *testing.T, srv *flaky, _ string) { srv.set(func() { srv.etag = `"2"` }) }, []string{"bytes=30000-"}},
		{"no note of the ETag", func(t *testing.T, _ *flaky, part string) {
			must(t, os.Remove(strings.TrimSuffix(part, ".part")+".json"))
		}, []string{""}},
		{"longer than all", func(t *testing.T, _ *flaky, part string) { must(t, os.Truncate(part, 1<<20)) }, []string{""}},
		{"zeros after a power failure", func(t *testing.T, _ *flaky, part string) {
			must(t, os.WriteFile(part, make([]byte, 30_000), 0o600))
		}, []string{"bytes=30000-", ""}},
		{"of full length, but not it", func(t *testing.T, _ *flaky, part string) {
			must(t, os.Truncate(part, int64(len(raw))))
		}, []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			handler := &flaky{raw: raw, etag: `"1"`, cut: 30_000, plain: false}
			srv := httptest.NewServer(handler)
			defer srv.Close()
			dir := base(t)
			r := release(srv.URL, raw)

			// The first agent gets a part, and then nothing but errors.
			first := true
			broken := http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
				if !first {
					return nil, errors.New("the network is down")
				}
				first = false
				return http.DefaultTransport.RoundTrip(req)
			})}
			if _, err := open(t, dir, install.Options{Client: &broken}).Stage(t.Context(), "valkey", "1", r); err == nil || errors.Is(err, install.ErrRefused) {
				t.Fatalf("first agent: got %v, want an error of the network", err)
			}
			part := filepath.Join(dir, "downloads", r.Archive.SHA256+".part")
			if info, err := os.Stat(part); err != nil || info.Size() != 30_000 {
				t.Fatalf("what the first agent left: %v, %v", info, err)
			}

			handler.set(func() { handler.cut, handler.asked = 1<<20, nil })
			tt.spoil(t, handler, part)
			s := open(t, dir, install.Options{})
			must(t, s.Clean(t.Context()))
			_, err := s.Stage(t.Context(), "valkey", "1", r)
			must(t, err)
			if got := handler.requests(); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("asked for %q, want %q", got, tt.want)
			}
			if left := leftovers(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNeverAByteMore: a server that never ends is read no further than the size in the document.
func TestNeverAByteMore(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("x"), 1000)
	read := 0
	endless := http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
		body := readerFunc(func(p []byte) (int, error) {
			for i := range p {
				p[i] = 'y'
			}
			read += len(p)
			return len(p), nil
		})
		return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(body), Request: req}, nil
	})}
	dir := base(t)
	_, err := open(t, dir, install.Options{Client: &endless}).Stage(t.Context(), "valkey", "1", release("http://host/x", want))
	if !errors.Is(err, install.ErrRefused) {
		t.Errorf("got %v, want it refused", err)
	}
	if read != len(want) {
		t.Errorf("read %d bytes of %d", read, len(want))
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestServerErrors(t *testing.T) {
	t.Parallel()
	raw := gz(t, tarOf(t, file("f", "x")))
	for _, tt := range []struct {
		status  int
		asked   int
		recover bool // the second answer is good
	}{
		{http.StatusNotFound, 1, false},
		{http.StatusForbidden, 1, false},
		{http.StatusInternalServerError, 5, false},
		{http.StatusServiceUnavailable, 2, true},
		{http.StatusTooManyRequests, 2, true},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			t.Parallel()
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked++; tt.recover && asked > 1 {
					_, _ = w.Write(raw)
					return
				}
				w.WriteHeader(tt.status)
			}))
			dir := base(t)
			_, err := open(t, dir, install.Options{}).Stage(t.Context(), "valkey", "1", release(srv.URL, raw))
			srv.Close()
			if errors.Is(err, install.ErrRefused) {
				t.Errorf("an error of the server accuses the artefact: %v", err)
			}
			if tt.recover != (err == nil) || err != nil && !strings.Contains(err.Error(), fmt.Sprint(tt.status)) {
				t.Errorf("got %v", err)
			}
			if asked != tt.asked {
				t.Errorf("asked %d times, want %d", asked, tt.asked)
			}
			if left := leftovers(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestStalledConnection(t *testing.T) {
	t.Parallel()
	raw := gz(t, tarOf(t, file("f", "x")))
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("ETag", `"1"`)
		if asked == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
			_, _ = w.Write(raw[:20])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done() // and says nothing more
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
	}))
	defer srv.Close()
	s := open(t, base(t), install.Options{})
	s.Hasten(time.Millisecond, 200*time.Millisecond)
	_, err := s.Stage(t.Context(), "valkey", "1", release(srv.URL, raw))
	must(t, err)
	if asked < 2 {
		t.Errorf("asked %d times, want again after the stall", asked)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	raw := gz(t, tarOf(t, file("f", "x")))
	type hop struct{ auth, referer string }
	var mu sync.Mutex
	var hops []hop
	serve := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		hops = append(hops, hop{r.Header.Get("Authorization"), r.Header.Get("Referer")})
		mu.Unlock()
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		_, _ = w.Write(raw)
	}
	servers := map[string]*httptest.Server{
		"http": httptest.NewServer(http.HandlerFunc(serve)), "http2": httptest.NewServer(http.HandlerFunc(serve)),
		"https": httptest.NewTLSServer(http.HandlerFunc(serve)), "https2": httptest.NewTLSServer(http.HandlerFunc(serve)),
	}
	for _, srv := range servers {
		defer srv.Close()
	}
	for _, tt := range []struct {
		from, to string
		ok       bool
		auth     string // what the second server was told
	}{
		{"http", "http", true, "Bearer for-http"},
		{"https", "https", true, "Bearer for-https"},
		{"https", "https2", true, ""},
		{"http", "http2", false, ""},
		{"https", "http", false, ""},
		{"http", "https", false, ""},
	} {
		hops = nil
		s := open(t, base(t), install.Options{
			Client: servers["https"].Client(), // trusts both: the test servers share a certificate
			Tokens: map[string]string{servers["http"].URL: "for-http", servers["https"].URL: "for-https"},
		})
		_, err := s.Stage(t.Context(), "valkey", "1", release(servers[tt.from].URL+"/?to="+servers[tt.to].URL+"/x", raw))
		if tt.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "only from https to https") {
			t.Errorf("%s to %s: got %v", tt.from, tt.to, err)
			continue
		}
		want := []hop{{"Bearer for-" + tt.from, ""}}
		if tt.ok {
			want = append(want, hop{tt.auth, ""})
		}
		if fmt.Sprint(hops) != fmt.Sprint(want) {
			t.Errorf("%s to %s: servers were told %v, want %v", tt.from, tt.to, hops, want)
		}
	}
}

func TestRedirectLoop(t *testing.T) {
	t.Parallel()
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/again", http.StatusFound)
	}))
	_, err := open(t, base(t), install.Options{}).Stage(t.Context(), "valkey", "1", release(srv.URL, []byte("x")))
	srv.Close()
	if err == nil || !strings.Contains(err.Error(), "too many redirects") || asked > 10 {
		t.Errorf("got %v after %d requests", err, asked)
	}
}
