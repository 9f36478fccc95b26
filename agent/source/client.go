package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ferryman"
)

// The paths of the control API, below the api-server's base URL.
const (
	PathDesiredState = "/desired_state"
	PathDesiredHosts = "/desired_hosts"
	PathCurrentHosts = "/current_hosts"
	PathStatus       = "/status"
)

// HostRequest asks the api-server for a total number of hosts. A minimal
// server understands NumDesiredHosts only, and ignores the rest.
type HostRequest struct {
	NumDesiredHosts int `json:"numDesiredHosts"`
	// RemoveHosts have left the cluster, and shall go.
	RemoveHosts []string `json:"removeHosts,omitempty"`
	// LostHosts are dead to the cluster, whether or not they still run.
	LostHosts []string `json:"lostHosts,omitempty"`
	// Term is the leader's in Raft; a request of an older one is refused.
	Term uint64 `json:"term,omitempty"`
	// Generation is that of the accepted document.
	Generation uint64 `json:"generation,omitempty"`
}

// Host is one entry of the api-server's list.
type Host struct {
	Name string
	// Address is name, or name:port where the server tells the port.
	Address string
}

// MaxReport is the size of the largest report that is taken, in bytes.
const MaxReport = 4 << 20

// maxHostList is the size of the longest list that is read, in bytes.
const maxHostList = 256 << 10

// Client is the leader's side of the control API.
type Client struct {
	connection *connection
	remote     Remote
	full       atomic.Bool // the server took a report
}

// NewClient makes a client of the api-server whose base is r.URL. It does not
// speak to the server yet.
func NewClient(r Remote) (*Client, error) {
	c, err := r.connect()
	if err != nil {
		return nil, err
	}
	return &Client{connection: c, remote: r}, nil
}

// Desired is the server's document as a Source of its own.
func (c *Client) Desired() *HTTP {
	return &HTTP{
		connection: c.connection, url: c.connection.base.JoinPath(PathDesiredState),
		wait: longPoll, interval: orDefault(c.remote.Interval, DefaultInterval),
	}
}

// RequestHosts asks for a total. A ferryman.ErrConflict means that the server
// heard of a newer leader, ferryman.ErrUnsupported that it makes no hosts.
func (c *Client) RequestHosts(ctx context.Context, r HostRequest) error {
	if err := c.post(ctx, PathDesiredHosts, r); err != nil {
		return fmt.Errorf("ask for %d hosts: %w", r.NumDesiredHosts, err)
	}
	return nil
}

// CurrentHosts lists the hosts that run now, as the server sees it.
func (c *Client) CurrentHosts(ctx context.Context) ([]Host, error) {
	u := c.connection.base.JoinPath(PathCurrentHosts)
	got, err := c.connection.do(ctx, http.MethodGet, u, nil, nil, 0, maxHostList)
	if err != nil {
		return nil, fmt.Errorf("list the hosts: %w", err)
	}
	hosts, err := ParseHosts(got.body)
	if err != nil {
		return nil, fmt.Errorf("list the hosts: GET %s: %w", u.Redacted(), err)
	}
	return hosts, nil
}

// ParseHosts reads a list such as ["n1", "n2:7440"].
func ParseHosts(raw []byte) ([]Host, error) {
	var entries []string
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("%w: expected a list of names: %w", ferryman.ErrInvalid, err)
	}
	if len(entries) > MaxNodes {
		return nil, fmt.Errorf("%w: %d hosts; at most %d are believed", ferryman.ErrInvalid, len(entries), MaxNodes)
	}
	hosts := make([]Host, 0, len(entries))
	seen := map[string]bool{}
	for _, entry := range entries {
		name := entry
		if strings.Contains(entry, ":") {
			host, port, err := net.SplitHostPort(entry)
			if err != nil || port == "" {
				return nil, fmt.Errorf("%w: %q is neither a name nor name:port", ferryman.ErrInvalid, short(entry))
			}
			name = host
		}
		if !ValidName(name) {
			return nil, fmt.Errorf("%w: %q is not the name of a host", ferryman.ErrInvalid, short(name))
		}
		if seen[name] {
			return nil, fmt.Errorf("%w: %s is listed twice", ferryman.ErrInvalid, name)
		}
		seen[name] = true
		hosts = append(hosts, Host{Name: name, Address: entry})
	}
	return hosts, nil
}

// ValidName tells whether name can be that of a host or a cluster. It becomes
// part of paths: no slash, and no dot or dash at its beginning.
func ValidName(name string) bool { return namePattern.MatchString(name) }

// Report pushes what the leader knows. To a minimal server that is no error:
// nothing was asked of it that it has.
func (c *Client) Report(ctx context.Context, r ferryman.Report) error {
	err := c.post(ctx, PathStatus, r)
	var status *StatusError
	if errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusMethodNotAllowed) {
		c.full.Store(false)
		return nil
	}
	if err != nil {
		return fmt.Errorf("report to the api-server: %w", err)
	}
	c.full.Store(true)
	return nil
}

// ErrNoReport means that the server keeps reports and has none.
var ErrNoReport = errors.New("no leader has reported yet")

// LastReport returns the newest report that a leader pushed, and how long ago
// that was by the server's clock. A server that keeps none is
// ferryman.ErrUnsupported.
func (c *Client) LastReport(ctx context.Context) (r ferryman.Report, age time.Duration, err error) {
	u := c.connection.base.JoinPath(PathStatus)
	got, err := c.connection.do(ctx, http.MethodGet, u, nil, nil, 0, MaxReport)
	if err != nil {
		return r, 0, fmt.Errorf("read the last report: %w", err)
	}
	if got.status == http.StatusNoContent {
		return r, 0, fmt.Errorf("read the last report: GET %s: %w", u.Redacted(), ErrNoReport)
	}
	if err := json.Unmarshal(got.body, &r); err != nil {
		return r, 0, fmt.Errorf("read the last report: GET %s: %w: the answer is not a report: %w", u.Redacted(), ferryman.ErrInvalid, err)
	}
	if r.Time.IsZero() {
		return r, 0, fmt.Errorf("read the last report: GET %s: %w: the answer is not a report: it has no time", u.Redacted(), ferryman.ErrInvalid)
	}
	age = max(0, time.Since(r.Time)) // by two clocks, where the server does not say
	if seconds, err := strconv.ParseUint(got.header.Get("Age"), 10, 31); err == nil {
		age = time.Duration(seconds) * time.Second
	}
	return r, age, nil
}

// Minimal tells whether the server has the three conventional endpoints only,
// and therefore chooses itself which host it stops. Until it took a Report it
// counts as minimal, which is the careful assumption: report first.
func (c *Client) Minimal() bool { return !c.full.Load() }

// post succeeds as soon as the server took the request: an answer that is too
// long or too slow must not make the leader ask for the same hosts again.
func (c *Client) post(ctx context.Context, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = c.connection.do(ctx, http.MethodPost, c.connection.base.JoinPath(path), nil, raw, 0, 0)
	return err
}
