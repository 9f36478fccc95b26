package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"ferryman"
)

// Remote says how an HTTP server is reached.
type Remote struct {
	// URL of the document, or the base of the control API.
	URL string
	// TokenFile holds the bearer token; it is read anew for each request.
	TokenFile string
	// CAFile holds the certificates that the server's must lead to; without
	// it, those that the host trusts.
	CAFile string
	// Interval is how often a server is asked that answers at once;
	// DefaultInterval if zero.
	Interval time.Duration
	// Timeout bounds each request: its answer must begin within it (beyond the
	// time that a long poll asks for) and be complete within it from then on;
	// DefaultTimeout if zero.
	Timeout time.Duration
	// Transport replaces the network in tests.
	Transport http.RoundTripper
}

// The defaults of Remote.
const (
	DefaultInterval = 30 * time.Second
	DefaultTimeout  = 10 * time.Second
)

// StatusError is an answer of the server that is not the one hoped for. It is
// ErrUnauthorized, ferryman.ErrConflict, ferryman.ErrUnsupported or
// ferryman.ErrUnavailable by its code.
type StatusError struct {
	Method, URL string
	Code        int
	Text        string // the beginning of the answer's body
}

// ErrUnauthorized means that the server did not take the bearer token.
var ErrUnauthorized = errors.New("not authorized")

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Code, http.StatusText(e.Code))
	if e.Text != "" {
		text += fmt.Sprintf(": %q", e.Text)
	}
	if errors.Is(e, ErrUnauthorized) {
		text += "; look at source.token_file"
	}
	return text
}

// Unwrap returns what the code means to a caller.
func (e *StatusError) Unwrap() error {
	switch {
	case e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden:
		return ErrUnauthorized
	case e.Code == http.StatusConflict:
		return ferryman.ErrConflict
	case e.Code == http.StatusNotFound || e.Code == http.StatusMethodNotAllowed || e.Code == http.StatusNotImplemented:
		return ferryman.ErrUnsupported
	case e.Code >= 500:
		return ferryman.ErrUnavailable
	}
	return nil
}

// ErrRedirect means that the server sent us to another host. The token and the
// trust belong to the one that was configured.
var ErrRedirect = errors.New("redirected to another host")

// connection carries out single requests, each within bounds.
type connection struct {
	base      *url.URL
	tokenFile string
	timeout   time.Duration
	http      *http.Client
}

func (r Remote) connect() (*connection, error) {
	base, err := url.Parse(r.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%w: the source's URL must be https://host/… or http://host/…", ferryman.ErrInvalid) // it may hold a password
	}
	c := &connection{base: base, tokenFile: r.TokenFile, timeout: orDefault(r.Timeout, DefaultTimeout)}
	transport := r.Transport
	if transport == nil {
		t := &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			IdleConnTimeout:        90 * time.Second,
			MaxIdleConnsPerHost:    2,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // caps then mean what travels
		}
		if r.CAFile != "" {
			pem, err := os.ReadFile(r.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read the certificates that the source's must lead to: %w", err)
			}
			t.TLSClientConfig.RootCAs = x509.NewCertPool()
			if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%w: %s holds no certificate in PEM", ferryman.ErrInvalid, r.CAFile)
			}
		}
		transport = t
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if next.URL.Host != base.Host || next.URL.Scheme != base.Scheme {
			return fmt.Errorf("%w: %s; if that is right, configure it", ErrRedirect, next.URL.Redacted())
		}
		if len(via) >= 5 {
			return errors.New("redirected more than 5 times")
		}
		return nil
	}}
	return c, nil
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// answer is what came back: at most as much as was asked for.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// errSlow is why a request is given up.
var errSlow = errors.New("the answer did not come in time")

// do sends one request. hold is how long the server was asked to hold its
// answer, limit how many bytes of it are accepted; with 0 the body is left
// alone. An answer other than 2xx and 304 is a *StatusError.
func (c *connection) do(ctx context.Context, method string, u *url.URL, header http.Header, body []byte, hold time.Duration, limit int64) (answer, error) {
	fail := func(err error) (answer, error) {
		return answer{}, fmt.Errorf("%s %s: %w: %w", method, u.Redacted(), ferryman.ErrUnavailable, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(hold+c.timeout, func() { cancel(errSlow) })
	defer timer.Stop()

	request, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fail(err)
	}
	if header != nil {
		request.Header = header
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.tokenFile != "" {
		token, err := ReadToken(c.tokenFile)
		if err != nil {
			return answer{}, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if response != nil {
			response.Body.Close()
		}
		var wrapped *url.Error // repeats method and URL
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fail(err)
	}
	defer response.Body.Close()
	timer.Reset(c.timeout)
	if response.StatusCode != http.StatusNotModified && response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return answer{}, &StatusError{
			Method: method, URL: u.Redacted(), Code: response.StatusCode,
			Text: strings.TrimSpace(strings.ToValidUTF8(string(text), "?")),
		}
	}
	if limit == 0 {
		return answer{status: response.StatusCode, header: response.Header}, nil
	}
	if response.ContentLength > limit {
		return fail(fmt.Errorf("%w: %d bytes; at most %d are read", ErrTooLarge, response.ContentLength, limit))
	}
	raw, err := readCapped(response.Body, limit)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fail(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: raw}, nil
}

// ReadToken reads a bearer token from a file: one line of printable ASCII.
func ReadToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the bearer token: %w", err)
	}
	defer file.Close()
	raw, err := readCapped(file, 4096)
	if err != nil {
		return "", fmt.Errorf("read the bearer token: %s: %w", path, err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: %s does not hold a bearer token: one line of printable ASCII", ferryman.ErrInvalid, path)
	}
	return token, nil
}
