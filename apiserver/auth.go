package apiserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"ferryman/agent/source"
)

// authorized lets callers through to handle that show the bearer token, and
// bounds how long they may take.
func (s *Server) authorized(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		allow(w, bodyTimeout)
		if s.config.TokenFile != "" {
			token, err := source.ReadToken(s.config.TokenFile)
			if err != nil {
				s.config.Log.Error("nobody is let in, for want of the token", "error", err)
				http.Error(w, "the api-server cannot read its own token", http.StatusServiceUnavailable)
				return
			}
			shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok || !equal(shown, token) {
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "the bearer token is missing or wrong", http.StatusUnauthorized)
				return
			}
		}
		handle(w, r)
	}
}

// equal takes the same time for all texts.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// allow gives the rest of a request and its answer so much time. Deadlines are
// set for each request, because those of the whole server would end a long poll.
func allow(w http.ResponseWriter, d time.Duration) {
	control, until := http.NewResponseController(w), time.Now().Add(d)
	// Neither fails on a connection of ours; where it cannot be done, as in a
	// recorder of tests, there is nobody to wait for.
	_ = control.SetReadDeadline(until)
	_ = control.SetWriteDeadline(until)
}
