package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The bounds of a question. Nothing that is asked waits for the agent: what it
// saw last is told.
const (
	readWithin  = 5 * time.Second
	answerTime  = 10 * time.Second
	idleFor     = 2 * time.Minute
	maxHeader   = 16 << 10
	maxScrapes  = 4 // at once
	closeWithin = time.Second
)

// Server answers monitoring over HTTP with what it was shown last.
type Server struct {
	self     Self
	tally    *Tally
	registry *prometheus.Registry
	shown    atomic.Pointer[Facts]
}

// NewServer makes a server that was shown nothing yet.
func NewServer(self Self) *Server {
	s := &Server{self: self, tally: NewTally(self, time.Now()), registry: prometheus.NewRegistry()}
	s.registry.MustRegister(gauges{self, s.newest}, s.tally,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return s
}

// Show has the server tell f from now on, and counts what is new in it.
func (s *Server) Show(f Facts) {
	s.tally.Observe(f.State)
	s.shown.Store(&f)
}

func (s *Server) newest() (Facts, bool) {
	if f := s.shown.Load(); f != nil {
		return *f, true
	}
	return Facts{}, false
}

// Listen binds the address that the configuration names.
func Listen(address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("telemetry.listen %s: %w; `ss -ltnp` says who has it: choose another port, or leave telemetry.listen out", address, err)
	case err != nil:
		return nil, fmt.Errorf("telemetry.listen %s: %w; name an address of this host, or leave telemetry.listen out", address, err)
	}
	return ln, nil
}

// Run serves until ctx ends, and closes the listener.
func (s *Server) Run(ctx context.Context, ln net.Listener, log *slog.Logger) error {
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: readWithin, ReadTimeout: readWithin, WriteTimeout: answerTime, IdleTimeout: idleFor,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	if server.Shutdown(within) != nil {
		server.Close()
	}
	<-ended
	return nil
}

// handler serves GET and HEAD, which the patterns say; all else is refused.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.reply("livez", s.live))
	mux.HandleFunc("GET /readyz", s.reply("readyz", func() []Check {
		f, _ := s.newest()
		return append(s.live(), Ready(f, s.self.ID)...)
	}))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: answerTime / 2}))
	return mux
}

func (s *Server) live() []Check {
	f, _ := s.newest()
	return Live(f, time.Now())
}

// reply answers as the endpoints of Kubernetes do: the checks on ?verbose and
// where one failed, else only that all is well.
func (s *Server) reply(name string, look func() []Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		checks := look()
		text, code := "ok\n", http.StatusOK
		switch {
		case failed(checks):
			text, code = list(checks)+name+" check failed\n", http.StatusServiceUnavailable
		case r.URL.Query().Has("verbose"):
			text = list(checks) + name + " check passed\n"
		}
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text) // to nobody, when it fails
	}
}
