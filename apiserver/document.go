package apiserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"ferryman/agent/source"
)

const (
	// look is how often the file is looked at; a change counts at the second look.
	look = 30 * time.Millisecond
	// maxHold is how long an answer is held at most.
	maxHold = time.Minute
	// HeaderProblem, in answers to GET /desired_state, says why the file is not
	// what is served.
	HeaderProblem = "Ferryman-Problem"
)

// document is the newest content of the file that could be read.
type document struct {
	mu      sync.Mutex
	raw     []byte
	etag    string
	problem string        // why the file is not what is served; "" when it is
	changed chan struct{} // closed, and made anew, when raw changes
}

// watch follows the file until ctx ends.
func (d *document) watch(ctx context.Context, file source.Source, log *slog.Logger) {
	etag := ""
	for {
		raw, next, err := file.Fetch(ctx, etag)
		if ctx.Err() != nil {
			return
		}
		etag = next
		if err == nil {
			_, err = source.Read(raw, "") // who signed it is for the agents to judge
		}
		if err != nil {
			log.Error("the desired state is not served; the last good one still is", "error", err)
			d.refuse(err)
			continue
		}
		log.Info("serving the desired state", "bytes", len(raw))
		d.publish(raw)
	}
}

func (d *document) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.problem = err.Error()
}

func (d *document) publish(raw []byte) {
	digest := sha256.Sum256(raw)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.raw, d.etag, d.problem = raw, `"`+hex.EncodeToString(digest[:16])+`"`, ""
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *document) now() (raw []byte, etag, problem string, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raw, d.etag, d.problem, d.changed
}

// getDesiredState answers with the document; with ?wait=30s and the ETag that
// the caller has, only once there is another one, or the time is over.
func (s *Server) getDesiredState(w http.ResponseWriter, r *http.Request) {
	var hold time.Duration
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if hold, err = time.ParseDuration(text); err != nil || hold < 0 {
			http.Error(w, "wait is a duration such as 30s", http.StatusBadRequest)
			return
		}
		hold = min(hold, maxHold)
		allow(w, hold+bodyTimeout)
	}
	over := time.NewTimer(hold)
	defer over.Stop()
	known := r.Header.Get("If-None-Match")
	raw, etag, problem, changed := s.document.now()
waiting:
	for raw != nil && matches(known, etag) && hold > 0 {
		select {
		case <-changed:
			raw, etag, problem, changed = s.document.now()
			continue
		case <-over.C:
		case <-s.closing:
		case <-r.Context().Done():
		}
		_, _, problem, _ = s.document.now()
		break waiting
	}
	if problem != "" {
		w.Header().Set(HeaderProblem, line(problem))
	}
	if raw == nil {
		http.Error(w, "there is no desired state to serve: "+problem, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "no-cache")
	if matches(known, etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(raw) // who has gone needs no answer
}

// matches tells whether an If-None-Match names etag (RFC 9110, 13.1.2).
func matches(known, etag string) bool {
	for one := range strings.SplitSeq(known, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == etag {
			return true
		}
	}
	return false
}

// line makes a header's value of an error.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, strings.ReplaceAll(text[:min(len(text), 1000)], "\n", "; "))
}
