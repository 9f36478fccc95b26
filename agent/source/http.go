package source

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// HTTP is a Source that asks an HTTP server.
type HTTP struct {
	connection *connection
	url        *url.URL
	wait       time.Duration // how long the server is asked to hold its answer; 0 for a plain poll
	interval   time.Duration

	notBefore time.Time // of the next request
	failures  int       // in a row
	answered
}

var _ Source = (*HTTP)(nil)

const (
	// longPoll is how long the api-server is asked to hold its answer.
	longPoll = 30 * time.Second
	// breath is the least time between two requests: a server whose document
	// is another one at each look costs no more than that.
	breath = 100 * time.Millisecond
	// The wait after failures in a row grows from minBackOff to maxBackOff,
	// each a little at random, so that a fleet does not return as one.
	minBackOff = time.Second
	maxBackOff = 30 * time.Second
)

// NewHTTP makes a source of the document at r.URL, which any HTTP server may
// offer. It is asked at intervals. For an api-server use Client.Desired, which
// hears of a change at once where the server knows long polls.
func NewHTTP(r Remote) (*HTTP, error) {
	c, err := r.connect()
	if err != nil {
		return nil, err
	}
	return &HTTP{connection: c, url: c.base, interval: orDefault(r.Interval, DefaultInterval)}, nil
}

// Fetch is described at Source. Its etag holds the digest of the document and
// the server's ETag, if it gave one: a server may ignore If-None-Match, or give
// the same document another ETag, and the document is still the same.
func (h *HTTP) Fetch(ctx context.Context, etag string) ([]byte, string, error) {
	digest, tag, _ := strings.Cut(etag, " ")
	for {
		if err := sleep(ctx, time.Until(h.notBefore)); err != nil {
			return nil, etag, err
		}
		began := time.Now()
		got, err := h.get(ctx, tag)
		if ctx.Err() != nil {
			return nil, etag, ctx.Err()
		}
		if err != nil {
			h.failures++
			h.notBefore = time.Now().Add(h.backOff())
			return nil, etag, err
		}
		h.failures = 0
		h.answered.now()
		h.notBefore = time.Now().Add(breath)
		if got.status != http.StatusNotModified {
			tag = got.header.Get("ETag")
			if now := sum(got.body); now != digest {
				return got.body, strings.TrimSpace(now + " " + tag), nil
			}
		}
		// Unchanged. A server that held its answer may be asked again at once.
		if held := time.Since(began); h.wait == 0 || held < h.wait/2 {
			h.notBefore = began.Add(jitter(h.interval))
		}
	}
}

func (h *HTTP) get(ctx context.Context, tag string) (answer, error) {
	u, header := *h.url, http.Header{}
	if tag != "" {
		header.Set("If-None-Match", tag)
	}
	hold := time.Duration(0)
	if h.wait > 0 && tag != "" {
		hold = h.wait
		query := u.Query()
		query.Set("wait", hold.String())
		u.RawQuery = query.Encode()
	}
	return h.connection.do(ctx, http.MethodGet, &u, header, nil, hold, MaxEnvelope)
}

func (h *HTTP) backOff() time.Duration {
	return jitter(min(maxBackOff, minBackOff<<min(h.failures-1, 10)))
}

// jitter is somewhere between three and five quarters of d.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
