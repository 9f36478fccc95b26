package install

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// maxRedirects is how many times a server may send us on.
const maxRedirects = 5

// finalError is an answer that another try will not change, though it says nothing about the artefact itself.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// newClient adds our rules to a client. There is no time-out for a whole download: the caller's context and the look for stalls bound it.
func newClient(c *http.Client, tokens map[string]string) *http.Client {
	if c == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.ResponseHeaderTimeout = 30 * time.Second
		c = &http.Client{Transport: t}
	}
	ours := *c
	ours.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return &finalError{errors.New("too many redirects")}
		}
		// To another host only from https to https. The bytes are bound by their digest either way; but who reads along learns where artefacts are,
		// and a link may hold a signature that is as good as a token. Download servers that hand out such links are why it is allowed at all.
		from, to := via[len(via)-1].URL, req.URL
		if origin(from) != origin(to) && (from.Scheme != "https" || to.Scheme != "https") {
			return &finalError{fmt.Errorf("redirect from %s to %s: to another host or scheme only from https to https; name the final address in the document",
				origin(from), origin(to))}
		}
		req.Header.Del("Referer")
		authorize(req, tokens)
		return nil
	}
	return &ours
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// authorize sends a token to the origin that it is for, and to no other.
func authorize(req *http.Request, tokens map[string]string) {
	req.Header.Del("Authorization")
	if token := tokens[origin(req.URL)]; token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
}
