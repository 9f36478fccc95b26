package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

const (
	// fresh is for how long one look at the database answers everybody.
	fresh = 250 * time.Millisecond
	// lookTime bounds one look, and answerTime an answer: a load balancer learns within a second that the database hangs.
	lookTime   = 700 * time.Millisecond
	answerTime = 900 * time.Millisecond
)

// health answers load balancers.
type health struct {
	ctx    context.Context // ends with the endpoints; the looks live in it
	engine func(context.Context) (dbhooks.Engine, error)
	lease  func() lease

	turn   chan struct{} // has a token in it while somebody looks, who alone uses what follows
	looker dbhooks.Engine
	seen   ferryman.Instance
	failed error
	at     time.Time
}

// lease is what the guard knows of the right to write.
type lease struct {
	held     bool // armed, with time left
	enforced bool // nothing is the primary without one
}

func (s state) lease(now time.Duration) lease { return lease{s.Armed && !s.due(now), s.Enforced} }

func newHealth(ctx context.Context, engine func(context.Context) (dbhooks.Engine, error), l func() lease) *health {
	return &health{ctx: ctx, engine: engine, lease: l, turn: make(chan struct{}, 1)}
}

// serveHealth binds the address, which the guard before this one may have for a moment longer, and serves until ctx ends.
func (a *active) serveHealth(ctx context.Context) {
	h := newHealth(ctx, a.Engine, func() lease { return a.now().lease(Boottime()) })
	defer h.close()
	again := time.NewTicker(killAgain)
	defer again.Stop()
	var ln net.Listener
	for said := false; ; {
		var err error
		if ln, err = net.Listen("tcp", a.Spec.Listen); err == nil {
			break
		}
		if !said {
			a.Log.Warn("guard: cannot serve the health endpoints yet; trying on", "listen", a.Spec.Listen, "error", err)
			said = true
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
	srv := &http.Server{Handler: h.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		a.Log.Error("guard: the health endpoints ended", "error", err)
	}
}

// answer is the body of every reply.
type answer struct {
	Role     ferryman.Role  `json:"role,omitempty"`
	Writable bool           `json:"writable"`
	Epoch    uint64         `json:"epoch"`
	Lease    string         `json:"lease"` // held or none
	Lag      ferryman.Bytes `json:"lag"`
	Reason   string         `json:"reason,omitempty"` // why the answer is no
}

// question says why an instance is not what was asked for; empty: it is.
type question func(in ferryman.Instance, l lease, args url.Values) (reason string, err error)

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	for path, q := range map[string]question{
		"/primary": isPrimary, "/read-write": isPrimary, "/replica": isReplica, "/read-only": isReadable, "/health": isHealthy,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { h.reply(w, r, q) })
	}
	return mux
}

func (h *health) reply(w http.ResponseWriter, r *http.Request, q question) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, "only GET, HEAD and OPTIONS", http.StatusMethodNotAllowed)
		return
	}
	in, err := h.look(r.Context())
	l := h.lease() // after the look, which takes a while
	a := answer{Role: in.Role, Writable: in.Writable, Epoch: in.Epoch, Lease: "none", Lag: in.Lag}
	if l.held {
		a.Lease = "held"
	}
	code := http.StatusOK
	reason, bad := q(in, l, r.URL.Query())
	switch {
	case bad != nil:
		code, a.Reason = http.StatusBadRequest, bad.Error()
	case err != nil:
		code, a.Reason = http.StatusServiceUnavailable, err.Error()
	case reason != "":
		code, a.Reason = http.StatusServiceUnavailable, reason
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(a) // to nobody, when it fails
	}
}

// isPrimary asks the database and, where a lease is needed, the guard: the database may not know yet that its lease is over.
func isPrimary(in ferryman.Instance, l lease, _ url.Values) (string, error) {
	switch {
	case !in.Running:
		return "the database does not run", nil
	case !in.Writable:
		return "accepts no writes" + because(in), nil
	case l.enforced && !l.held:
		return "the lease is not held", nil
	}
	return "", nil
}

// powers makes PostgreSQL's units, which checks written for Patroni have, ours: they are powers of 1024, too.
var powers = strings.NewReplacer("kB", "KiB", "MB", "MiB", "GB", "GiB")

func isReplica(in ferryman.Instance, _ lease, args url.Values) (string, error) {
	most := ferryman.Bytes(-1)
	if args.Has("lag") {
		if err := most.UnmarshalText([]byte(powers.Replace(args.Get("lag")))); err != nil {
			return "", fmt.Errorf("lag: %w", err)
		}
	}
	switch {
	case !in.Running:
		return "the database does not run", nil
	case in.Role != ferryman.RoleReplica:
		return "is no replica", nil
	case !in.Healthy || !in.Streaming:
		return "does not stream from its primary" + because(in), nil
	case most >= 0 && in.Lag > most:
		return fmt.Sprintf("lags by %v, and at most %v was asked for", in.Lag, most), nil
	}
	return "", nil
}

func isReadable(in ferryman.Instance, l lease, args url.Values) (string, error) {
	if reason, _ := isPrimary(in, l, args); reason == "" || in.Role != ferryman.RoleReplica {
		return reason, nil
	}
	return isReplica(in, l, args)
}

func isHealthy(in ferryman.Instance, _ lease, _ url.Values) (string, error) {
	switch {
	case !in.Running:
		return "the database does not run", nil
	case !in.Healthy:
		return "is not healthy" + because(in), nil
	}
	return "", nil
}

func because(in ferryman.Instance) string {
	if in.Reason == "" {
		return ""
	}
	return ": " + in.Reason
}

// look returns what was seen of the database at most a moment ago. However many ask, one looks, and the others wait for it.
func (h *health) look(ctx context.Context) (ferryman.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return ferryman.Instance{}, fmt.Errorf("the database did not answer: %w", ctx.Err())
	}
	if !h.at.IsZero() && time.Since(h.at) < fresh {
		return h.seen, h.failed
	}
	// Not in the asker's context, which ends when it hangs up: the others want the answer too.
	ctx, cancel = context.WithTimeout(h.ctx, lookTime)
	defer cancel()
	h.seen, h.failed = h.ask(ctx)
	h.at = time.Now()
	return h.seen, h.failed
}

func (h *health) ask(ctx context.Context) (ferryman.Instance, error) {
	if h.looker == nil {
		e, err := h.engine(ctx)
		if err != nil {
			return ferryman.Instance{}, fmt.Errorf("make the engine: %w", err)
		}
		h.looker = e
	}
	in, err := h.looker.Status(ctx)
	if err != nil {
		return ferryman.Instance{}, fmt.Errorf("ask the engine: %w", err)
	}
	return in, nil
}

// close gives up the engine, after the last look.
func (h *health) close() {
	h.turn <- struct{}{}
	if c, ok := h.looker.(interface{ Close() error }); ok {
		_ = c.Close()
	}
}
