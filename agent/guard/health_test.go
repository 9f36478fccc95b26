package guard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

// looked is an engine that only looks.
type looked struct {
	dbhooks.Engine
	status func(context.Context) (ferryman.Instance, error)
}

func (l looked) Status(ctx context.Context) (ferryman.Instance, error) { return l.status(ctx) }

func healthOf(ctx context.Context, l lease, status func(context.Context) (ferryman.Instance, error)) *health {
	return newHealth(ctx, func(context.Context) (dbhooks.Engine, error) { return looked{status: status}, nil }, func() lease { return l })
}

func TestHealth(t *testing.T) {
	t.Parallel()
	primary := ferryman.Instance{Running: true, Role: ferryman.RolePrimary, Writable: true, Healthy: true, Epoch: 3}
	closed := ferryman.Instance{Running: true, Role: ferryman.RolePrimary, Reason: "fenced: accepts no writes"}
	replica := ferryman.Instance{Running: true, Role: ferryman.RoleReplica, Streaming: true, Healthy: true, Lag: 1 << 20, Epoch: 3}
	broken := ferryman.Instance{Running: true, Role: ferryman.RoleReplica, Reason: "no route"}
	hung := ferryman.Instance{Running: true, Reason: "does not answer"}
	manual, held, lost := lease{}, lease{held: true, enforced: true}, lease{enforced: true}
	tests := []struct {
		name, method, path string
		in                 ferryman.Instance
		lease              lease
		want               int
		reason             string // part of it
	}{
		{"primary with its lease", "GET", "/primary", primary, held, 200, ""},
		{"primary under its other name", "GET", "/read-write", primary, held, 200, ""},
		{"primary without a lease", "GET", "/primary", primary, lost, 503, "lease is not held"},
		{"primary where failover is manual", "GET", "/primary", primary, manual, 200, ""},
		{"fenced primary", "GET", "/primary", closed, held, 503, "fenced: accepts no writes"},
		{"replica as primary", "GET", "/primary", replica, held, 503, "accepts no writes"},
		{"nothing as primary", "GET", "/primary", ferryman.Instance{}, held, 503, "does not run"},
		{"hung as primary", "GET", "/primary", hung, held, 503, "does not answer"},

		{"replica", "GET", "/replica", replica, manual, 200, ""},
		{"replica within the lag", "GET", "/replica?lag=1MiB", replica, manual, 200, ""},
		{"replica beyond the lag", "GET", "/replica?lag=1048575", replica, manual, 503, "lags by 1MiB"},
		{"replica within the lag, as Patroni has it", "GET", "/replica?lag=1MB", replica, manual, 200, ""},
		{"replica beyond that", "GET", "/replica?lag=1023kB", replica, manual, 503, "lags by 1MiB"},
		{"replica with a malformed lag", "GET", "/replica?lag=much", replica, manual, 400, `"much"`},
		{"broken replica", "GET", "/replica", broken, manual, 503, "no route"},
		{"primary as replica", "GET", "/replica", primary, held, 503, "no replica"},

		{"read from a replica", "GET", "/read-only", replica, manual, 200, ""},
		{"read from the primary", "GET", "/read-only", primary, held, 200, ""},
		{"read from the primary without a lease", "GET", "/read-only", primary, lost, 503, "lease"},
		{"read from a broken replica", "GET", "/read-only", broken, manual, 503, "no route"},

		{"healthy", "GET", "/health", replica, lost, 200, ""},
		{"hung", "GET", "/health", hung, held, 503, "does not answer"},

		{"HEAD", "HEAD", "/primary", primary, held, 200, ""},
		{"OPTIONS", "OPTIONS", "/primary", replica, held, 503, ""},
		{"POST", "POST", "/primary", primary, held, 405, ""},
		{"unknown", "GET", "/", primary, held, 404, ""},
		{"unknown too", "GET", "/primary/x", primary, held, 404, ""},
	}
	for _, tt := range tests {
		h := healthOf(t.Context(), tt.lease, func(context.Context) (ferryman.Instance, error) { return tt.in, nil })
		w := httptest.NewRecorder()
		h.handler().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, w.Code, w.Body, tt.want)
			continue
		}
		if tt.method != "GET" && tt.want != 405 && w.Body.Len() > 0 {
			t.Errorf("%s: got the body %q, want none", tt.name, w.Body)
		}
		if tt.method != "GET" || w.Code == 404 {
			continue
		}
		var got answer
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Errorf("%s: the body %q: %v", tt.name, w.Body, err)
		}
		want := answer{Role: tt.in.Role, Writable: tt.in.Writable, Epoch: tt.in.Epoch, Lease: "none", Lag: tt.in.Lag, Reason: got.Reason}
		if tt.lease.held {
			want.Lease = "held"
		}
		if got != want || !strings.Contains(got.Reason, tt.reason) || (got.Reason == "") != (w.Code == 200) {
			t.Errorf("%s: got %+v; want %+v with the reason %q", tt.name, got, want, tt.reason)
		}
	}
}

// TestHealthLooksOnce: however many ask, and however often.
func TestHealthLooksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int32
		h := healthOf(t.Context(), lease{}, func(context.Context) (ferryman.Instance, error) {
			looks.Add(1)
			time.Sleep(100 * time.Millisecond)
			return ferryman.Instance{Running: true, Healthy: true}, nil
		})
		all := func() {
			var asks sync.WaitGroup
			for range 50 {
				asks.Go(func() {
					if _, err := h.look(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			asks.Wait()
		}
		all()
		all()
		if got := looks.Load(); got != 1 {
			t.Errorf("looks for 100 questions: got %d, want 1", got)
		}
		time.Sleep(fresh)
		all()
		if got := looks.Load(); got != 2 {
			t.Errorf("looks after a while: got %d, want 2", got)
		}
	})
}

// TestHealthOfAHungDatabase: everybody has an answer within a second, also when the first who asked has hung up.
func TestHealthOfAHungDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := healthOf(t.Context(), lease{}, func(ctx context.Context) (ferryman.Instance, error) {
			<-ctx.Done()
			return ferryman.Instance{Running: true, Reason: "does not answer"}, nil
		})
		var asks sync.WaitGroup
		for i := range 20 {
			asks.Go(func() {
				time.Sleep(time.Duration(i) * 60 * time.Millisecond)
				began := time.Now()
				w := httptest.NewRecorder()
				h.handler().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
				if took := time.Since(began); w.Code != http.StatusServiceUnavailable || took > time.Second {
					t.Errorf("got %d after %v, want 503 within a second", w.Code, took)
				}
			})
		}
		asks.Wait()
	})
}

// TestHealthWithoutAnEngine: it is made when it can be.
func TestHealthWithoutAnEngine(t *testing.T) {
	t.Parallel()
	failed := errors.New("no such program")
	h := newHealth(t.Context(), func(context.Context) (dbhooks.Engine, error) { return nil, failed }, func() lease { return lease{} })
	if _, err := h.look(t.Context()); !errors.Is(err, failed) {
		t.Errorf("look: got %v, want %v", err, failed)
	}
	h.engine = func(context.Context) (dbhooks.Engine, error) {
		return looked{status: func(context.Context) (ferryman.Instance, error) { return ferryman.Instance{Running: true}, nil }}, nil
	}
	h.at = time.Time{}
	if in, err := h.look(t.Context()); !in.Running || err != nil {
		t.Errorf("look: got %+v, %v; want it running", in, err)
	}
}
