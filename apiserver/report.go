package apiserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"ferryman/agent/source"
)

// reports keeps the newest report of the cluster's leader, and when it came.
type reports struct {
	mu  sync.Mutex
	raw []byte
	at  time.Time
}

// postStatus keeps a report as it is: whoever reads it may know more of it than
// this server does.
func (s *Server) postStatus(w http.ResponseWriter, r *http.Request) {
	raw, ok := body(w, r, source.MaxReport)
	if !ok {
		return
	}
	if !json.Valid(raw) {
		http.Error(w, "the report is not JSON", http.StatusBadRequest)
		return
	}
	s.reports.mu.Lock()
	s.reports.raw, s.reports.at = raw, time.Now()
	s.reports.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// getStatus gives the newest report as it came, and says by this server's own
// clock how many seconds ago that was, in the header Age.
func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request) {
	s.reports.mu.Lock()
	raw, at := s.reports.raw, s.reports.at
	s.reports.mu.Unlock()
	if raw == nil {
		// Not a 404, which would say that the server keeps no reports.
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Age", strconv.FormatInt(int64(time.Since(at)/time.Second), 10))
	w.Header().Set("Last-Modified", at.UTC().Format(http.TimeFormat))
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
