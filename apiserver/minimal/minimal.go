// Package minimal is an api-server that knows the existing convention and
// nothing else: three endpoints, one number, no ETag, no long poll, no names.
// It is what agents must get along with, for tests and demonstrations of that;
// it is careless on purpose.
package minimal

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Hosts is the machinery behind the server.
type Hosts interface {
	// Running names the hosts that run at this moment, name or name:port.
	Running() []string
	// Start begins to make a host. It counts once Running names it, which may
	// be a good while later.
	Start(name string) error
	// Stop sends one SIGTERM to the host's agent, and nothing after it.
	Stop(name string) error
}

// Server is an http.Handler with GET /desired_state, POST /desired_hosts and
// GET /current_hosts. At each POST it counts what runs at that moment, and
// starts or stops the difference, whatever it began before; what it stops are
// the hosts that come first in its list.
type Server struct {
	hosts Hosts

	mu       sync.Mutex
	document []byte
	next     int
	requests []int
}

var _ http.Handler = (*Server)(nil)

// New makes a server of one document; the next host it starts is n1.
func New(hosts Hosts, document []byte) *Server {
	return &Server{hosts: hosts, document: document, next: 1}
}

// SetDocument changes the desired state.
func (s *Server) SetDocument(raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.document = raw
}

// Requests are the totals that were asked for, in order.
func (s *Server) Requests() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int(nil), s.requests...)
}

// ServeHTTP answers a request. Other paths are a 404.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "GET /desired_state":
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.document)
	case "GET /current_hosts":
		running := s.hosts.Running()
		if running == nil {
			running = []string{}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(running)
	case "POST /desired_hosts":
		var request struct {
			NumDesiredHosts int `json:"numDesiredHosts"`
		}
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&request)
		if err == nil {
			err = s.scale(request.NumDesiredHosts)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) scale(total int) error {
	s.requests = append(s.requests, total)
	running := s.hosts.Running()
	for range total - len(running) {
		name := fmt.Sprintf("n%d", s.next)
		s.next++
		if err := s.hosts.Start(name); err != nil {
			return err
		}
	}
	for i := range len(running) - total {
		if err := s.hosts.Stop(running[i]); err != nil {
			return err
		}
	}
	return nil
}
