package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ferryman"
	"ferryman/agent/source"
)

// hosts answers requests for a total number of hosts: it counts those that run
// and are not going, and those that are being made, and makes or removes the
// difference. What is under way is counted, so a request that is repeated asks
// for nothing more.
type hosts struct {
	provisioner Provisioner
	path        string
	log         *slog.Logger

	ctx     context.Context // of what is under way
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu     sync.Mutex
	memory memory
	making map[string]bool
	going  map[string]bool
	closed bool
}

// memory is what must survive a restart of the server.
type memory struct {
	// Term is the newest leader's; an older one has been replaced.
	Term uint64 `json:"term"`
	// Last is the newest host's number. A number is not used again: the agents
	// may still know the name of the old one.
	Last int `json:"last"`
}

func newHosts(p Provisioner, path string, log *slog.Logger) (*hosts, error) {
	h := &hosts{provisioner: p, path: path, log: log, making: map[string]bool{}, going: map[string]bool{}}
	if path != "" {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, &h.memory)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the api-server's state %s: %w", path, err)
		}
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h, nil
}

// close ends what is under way, and waits for it.
func (h *hosts) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.workers.Wait()
}

// RequestHosts does what POST /desired_hosts does; it makes the first host of a
// cluster, before there is an agent that could ask.
func (s *Server) RequestHosts(ctx context.Context, r source.HostRequest) error {
	return s.hosts.request(ctx, r)
}

func (h *hosts) request(ctx context.Context, r source.HostRequest) error {
	if r.NumDesiredHosts < 1 || r.NumDesiredHosts > source.MaxNodes {
		return fmt.Errorf("%w: numDesiredHosts is %d; expected 1 to %d", ferryman.ErrInvalid, r.NumDesiredHosts, source.MaxNodes)
	}
	if len(r.LostHosts)+len(r.RemoveHosts) > source.MaxNodes {
		return fmt.Errorf("%w: more than %d hosts are named", ferryman.ErrInvalid, source.MaxNodes)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("%w: the api-server is stopping", ferryman.ErrUnavailable)
	}
	if r.Term != 0 && r.Term < h.memory.Term {
		forget := "restart the api-server"
		if h.path != "" {
			forget = "stop the api-server, delete " + h.path + ", and start it again"
		}
		return fmt.Errorf("%w: term %d is over, the leader of term %d has asked since; for a new cluster, %s",
			ferryman.ErrConflict, r.Term, h.memory.Term, forget)
	}
	running, err := h.provisioner.List(ctx)
	if err != nil {
		return fmt.Errorf("%w: list the hosts: %w", ferryman.ErrUnavailable, err)
	}
	var present []string
	for _, host := range running {
		h.memory.Last = max(h.memory.Last, number(host.Name))
		present = append(present, host.Name)
	}
	h.memory.Term = max(h.memory.Term, r.Term)
	present = slices.DeleteFunc(present, func(name string) bool { return h.going[name] || h.making[name] })

	var remove, lost []string
	for _, name := range r.LostHosts {
		if source.ValidName(name) && !h.going[name] && !h.making[name] && !slices.Contains(lost, name) {
			lost = append(lost, name) // also one that runs no more: its end is confirmed
		}
	}
	for _, name := range r.RemoveHosts {
		if slices.Contains(present, name) && !slices.Contains(lost, name) && !slices.Contains(remove, name) {
			remove = append(remove, name)
		}
	}
	present = slices.DeleteFunc(present, func(name string) bool { return slices.Contains(lost, name) || slices.Contains(remove, name) })

	missing := r.NumDesiredHosts - len(present) - len(h.making)
	var create []string
	for range missing {
		h.memory.Last++
		create = append(create, fmt.Sprintf("n%d", h.memory.Last))
	}
	if missing < 0 && r.Term == 0 {
		// Who knows numDesiredHosts only leaves the choice to us: the newest go.
		slices.SortFunc(present, func(a, b string) int { return number(b) - number(a) })
		remove = append(remove, present[:min(-missing, len(present))]...)
	} else if missing < 0 {
		h.log.Info("more hosts run than were asked for; which one goes is the cluster's to say", "running", len(present), "asked", r.NumDesiredHosts)
	}
	if _, static := h.provisioner.(Static); static && len(create)+len(remove) > 0 {
		return fmt.Errorf("%w: this api-server has no provisioner; make %d hosts by hand, and remove %v", ferryman.ErrUnsupported, len(create), remove)
	} else if static {
		return h.save()
	}
	if err := h.save(); err != nil {
		return fmt.Errorf("%w: %w", ferryman.ErrUnavailable, err)
	}
	for _, name := range create {
		h.begin(h.making, name, "make", func(ctx context.Context) error { return h.provisioner.Create(ctx, name) })
	}
	for _, name := range remove {
		h.begin(h.going, name, "remove", func(ctx context.Context) error { return h.provisioner.Remove(ctx, name, false) })
	}
	for _, name := range lost {
		h.begin(h.going, name, "remove lost", func(ctx context.Context) error { return h.provisioner.Remove(ctx, name, true) })
	}
	return nil
}

// begin does one thing to a host in the background, and notes it in under while
// it lasts. What fails is not repeated here: the leader asks again.
func (h *hosts) begin(under map[string]bool, name, what string, do func(context.Context) error) {
	under[name] = true
	h.workers.Go(func() {
		err := do(h.ctx)
		h.mu.Lock()
		delete(under, name)
		h.mu.Unlock()
		if err != nil {
			h.log.Error(what+" host", "host", name, "error", err)
			return
		}
		h.log.Info(what+" host", "host", name)
	})
}

// number is the n of a host named n<number>, or 0.
func number(name string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "n"))
	if err != nil || !strings.HasPrefix(name, "n") {
		return 0
	}
	return n
}

// save makes the memory durable.
func (h *hosts) save() error {
	if h.path == "" {
		return nil
	}
	raw, err := json.Marshal(h.memory)
	if err != nil {
		return err
	}
	return writeFile(h.path, raw)
}

// writeFile replaces a file as a whole, and durably.
func writeFile(path string, raw []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// maxRequest is the size of the largest host request that is taken, in bytes.
const maxRequest = 256 << 10

func (s *Server) postDesiredHosts(w http.ResponseWriter, r *http.Request) {
	raw, ok := body(w, r, maxRequest)
	if !ok {
		return
	}
	var request source.HostRequest // keys of newer clients are let pass
	if err := json.Unmarshal(raw, &request); err != nil {
		http.Error(w, "expected an object such as {\"numDesiredHosts\": 3}", http.StatusBadRequest)
		return
	}
	err := s.hosts.request(r.Context(), request)
	if err != nil {
		s.config.Log.Warn("host request refused", "error", err, "asked", request.NumDesiredHosts, "term", request.Term)
		http.Error(w, err.Error(), code(err))
		return
	}
	s.config.Log.Info("host request", "asked", request.NumDesiredHosts, "remove", request.RemoveHosts, "lost", request.LostHosts, "term", request.Term)
	w.WriteHeader(http.StatusOK)
}

func code(err error) int {
	switch {
	case errors.Is(err, ferryman.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, ferryman.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, ferryman.ErrUnsupported):
		return http.StatusNotImplemented
	}
	return http.StatusServiceUnavailable
}

func (s *Server) getCurrentHosts(w http.ResponseWriter, r *http.Request) {
	running, err := s.config.Provisioner.List(r.Context())
	if err != nil {
		s.config.Log.Error("list hosts", "error", err)
		http.Error(w, "the hosts cannot be listed now", http.StatusServiceUnavailable)
		return
	}
	entries := make([]string, 0, len(running)) // [] and not null
	for _, host := range running {
		entries = append(entries, host.Address)
	}
	raw, err := json.Marshal(entries)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw)
}
