package telemetry_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"ferryman"
	"ferryman/agent/telemetry"
)

var update = flag.Bool("update", false, "write the golden files anew; then read the difference")

// serve runs a server and returns it with its base URL.
func serve(t *testing.T) (*telemetry.Server, string) {
	t.Helper()
	ln, err := telemetry.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := telemetry.NewServer(self)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx, ln, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v, want nil", err)
		}
	})
	return s, "http://" + ln.Addr().String()
}

// ask returns the code and the body.
func ask(t *testing.T, method, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
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
	return response.StatusCode, string(body)
}

// fresh are facts of now, as a follower or the leader has them.
func fresh(f telemetry.Facts) telemetry.Facts {
	late := time.Since(f.At)
	f.At, f.Raft.LastContact = f.At.Add(late), f.Raft.LastContact.Add(late)
	if f.Report != nil {
		r := *f.Report
		r.Time = r.Time.Add(late)
		f.Report = &r
	}
	return f
}

func TestHealthIsAnswered(t *testing.T) {
	t.Parallel()
	ill := follower()
	ill.Status.Services[0].Instance.Healthy, ill.Status.Services[0].Instance.Reason = false, "does not stream\nits log"
	const passed = "[+]agent ok\n[+]member ok\n[+]caught-up ok\n[+]database ok\nreadyz check passed\n"
	tests := []struct {
		name   string
		facts  telemetry.Facts
		method string
		path   string
		code   int
		want   string
	}{
		{"live", fresh(follower()), "GET", "/livez", 200, "ok\n"},
		{"live, in words", fresh(follower()), "GET", "/livez?verbose", 200, "[+]agent ok\nlivez check passed\n"},
		{"hangs", follower(), "GET", "/livez", 503, "[-]agent failed: the agent does not get round to looking at itself since"},
		{"ready", fresh(follower()), "GET", "/readyz", 200, "ok\n"},
		{"ready, in words", fresh(facts()), "GET", "/readyz?verbose", 200, passed},
		{"not ready", fresh(ill), "GET", "/readyz", 503, "[+]agent ok\n[+]member ok\n[+]caught-up ok\n[-]database failed: db: does not stream its log\nreadyz check failed\n"},
		{"live all the same", fresh(ill), "GET", "/livez", 200, "ok\n"},
		{"head", fresh(ill), "HEAD", "/readyz", 503, ""},
		{"nothing was seen yet", telemetry.Facts{}, "GET", "/readyz", 503, "[-]agent failed: the agent has not looked at itself yet\n[-]member failed: this node is in no cluster yet\n"},
		{"post", fresh(follower()), "POST", "/readyz", 405, ""},
		{"put", fresh(follower()), "PUT", "/metrics", 405, ""},
		{"elsewhere", fresh(follower()), "GET", "/debug/pprof/", 404, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, url := serve(t)
			s.Show(test.facts)
			code, body := ask(t, test.method, url+test.path)
			if code != test.code || !strings.HasPrefix(body, test.want) || test.method == "HEAD" && body != "" {
				t.Errorf("got %d %q, want %d %q", code, body, test.code, test.want)
			}
		})
	}
}

// scrape are the metrics of ours that a server gives, without their age and the
// version of Go.
func scrape(t *testing.T, f telemetry.Facts) string {
	t.Helper()
	s, url := serve(t)
	s.Show(f)
	code, body := ask(t, "GET", url+"/metrics")
	if code != 200 {
		t.Fatalf("got %d %s", code, body)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	var ours strings.Builder
	for line := range strings.Lines(body) {
		if strings.Contains(line, "ferryman_") {
			ours.WriteString(strings.ReplaceAll(line, runtime.Version(), "go"))
		}
	}
	if !strings.Contains(body, "\ngo_goroutines ") || !strings.Contains(body, "\nprocess_resident_memory_bytes ") {
		t.Error("the process does not tell of itself")
	}
	return ours.String()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	bare := telemetry.Facts{At: now, Status: ferryman.NodeStatus{Name: "n1"}}
	for name, f := range map[string]telemetry.Facts{"leader": facts(), "follower": follower(), "newcomer": bare} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := []byte(scrape(t, f))
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; go test -update writes it", err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Reports change while they are told.
func TestManyAskAtOnce(t *testing.T) {
	t.Parallel()
	s, url := serve(t)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range 5 {
				s.Show(fresh(facts()))
				if code, body := ask(t, "GET", url+"/metrics"); code != 200 && code != 503 { // too many at once
					t.Errorf("got %d %s", code, body)
				}
				if code, body := ask(t, "GET", url+"/readyz"); code != 200 {
					t.Errorf("got %d %s", code, body)
				}
			}
		})
	}
	asking.Wait()
}

func TestListenSaysWhatToDo(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): fmt.Sprintf("telemetry.listen %s: ", taken.Addr()),
		"192.0.2.1:7442":      "name an address of this host, or leave telemetry.listen out",
	} {
		ln, err := telemetry.Listen(address)
		if err == nil {
			ln.Close()
			t.Errorf("%s: got nil, want an error", address)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, want %q", address, err, want)
		}
	}
	if _, err := telemetry.Listen(taken.Addr().String()); !strings.Contains(err.Error(), "`ss -ltnp` says who has it: choose another port") {
		t.Errorf("got %q, want what to do", err)
	}
}
