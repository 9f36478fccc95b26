package apiserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"ferryman/agent/source"
)

// maxReport is the size of the largest report that is taken, in bytes.
const maxReport = 4 << 20

// reports keeps the newest report of the cluster's leader.
type reports struct {
	mu  sync.Mutex
	raw []byte
}

// postStatus keeps a report as it is: whoever reads it may know more of it than
// this server does.
func (s *Server) postStatus(w http.ResponseWriter, r *http.Request) {
	raw, ok := body(w, r, maxReport)
	if !ok {
		return
	}
	if !json.Valid(raw) {
		http.Error(w, "the report is not JSON", http.StatusBadRequest)
		return
	}
	s.reports.mu.Lock()
	s.reports.raw = raw
	s.reports.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request) {
	s.reports.mu.Lock()
	raw := s.reports.raw
	s.reports.mu.Unlock()
	if raw == nil {
		// Not a 404, which would say that the server keeps no reports.
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw)
}

// body reads a request's body up to limit, or answers why not.
func body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, source.ErrTooLarge.Error(), http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, "the body could not be read", http.StatusBadRequest)
	}
	return raw, err == nil
}
