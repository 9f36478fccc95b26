package demodb

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"ferryman/dbhooks"
)

// server is one demodb process.
//
// Who appends to the journal is settled by the role: the committer while writes are accepted, the follower while it runs, or the one administrative
// request that holds admin and has stopped both. Everything else is under mu; changed is closed, and replaced, whenever something under mu changed
// that somebody may be waiting for.
type server struct {
	dir      string
	name     string
	release  Release
	settings Settings
	log      *slog.Logger
	pid      int
	life     context.Context         // the process's: what a request starts and leaves running lives in it
	fail     context.CancelCauseFunc // ends the process: the log can no longer be trusted

	admin chan struct{} // holds one token: role changes are done one at a time

	mu       sync.Mutex
	changed  chan struct{}
	marker   dbhooks.Marker
	journal  *journal
	data     map[string]string
	primary  bool // was promoted, and has not stepped down since; the primary of the marker's epoch
	writable bool
	pending  []*write // accepted, not yet in the log
	busy     bool     // the committer is writing
	waiting  []*write // in the log, not yet acknowledged; by position
	streams  map[net.Conn]*stream
	follow   following

	wake    chan struct{} // tells the committer that there is something pending
	started time.Time

	background sync.WaitGroup
	stopFollow func() // stops the follower and waits for it; nil when there is none
}

// longestRequest bounds every request: nobody waits longer for its answer, and a client that went away is not served for ever.
const longestRequest = 10 * time.Minute

// Config is what a demodb process needs to run.
type Config struct {
	Dir     string // the data directory; nobody else may use it
	Listen  string // host:port
	Name    string // host:port under which others know it; Listen if empty
	Release Release
	// SyncReplicas is how many replicas must have a write before it is acknowledged, 0 or 1, unless a parameter says otherwise.
	SyncReplicas int
	Log          *slog.Logger
}

// Serve runs a demodb until ctx ends. It comes up without writes, following whom it followed last. Ready, if not nil, is called with the address once
// it answers.
func Serve(ctx context.Context, cfg Config, ready func(net.Addr)) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &server{
		dir: cfg.Dir, name: cmp.Or(cfg.Name, cfg.Listen), release: cfg.Release, log: cfg.Log, pid: os.Getpid(), life: ctx, fail: fail,
		admin: make(chan struct{}, 1), changed: make(chan struct{}), streams: map[net.Conn]*stream{}, wake: make(chan struct{}, 1), started: time.Now(),
	}
	if s.settings, err = DefaultSettings(cfg.SyncReplicas).load(cfg.Dir); err != nil {
		return err
	}
	if err := dbhooks.LoadMarker(cfg.Dir, &s.marker); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	defer func() { s.journal.close() }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if s.marker.From != "" && s.journal.last() > 0 {
		s.startFollow()
	}
	if ready != nil {
		ready(listener.Addr())
	}
	return s.run(ctx, listener)
}

// run serves until ctx ends, then ends everything that it started.
func (s *server) run(ctx context.Context, listener net.Listener) error {
	s.background.Go(func() { s.commit(ctx) })
	stopAccepting := context.AfterFunc(ctx, func() { listener.Close() })
	defer stopAccepting()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() == nil {
				s.fail(fmt.Errorf("accept: %w", err))
			}
			break
		}
		s.background.Go(func() { s.serve(ctx, conn) })
	}
	s.background.Wait()
	s.admin <- struct{}{}
	if s.stopFollow != nil {
		s.stopFollow()
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// open reads the log of the data directory; what an interrupted clone left behind is a copy of another node's data and goes.
func (s *server) open() error {
	leftover, err := filepath.Glob(filepath.Join(s.dir, "incoming-*"))
	if err != nil {
		return err
	}
	for _, dir := range leftover {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	data := map[string]string{}
	j, err := openJournal(filepath.Join(s.dir, "db"), func(e entry) { applyTo(data, e) })
	if err != nil {
		return err
	}
	s.journal, s.data = j, data
	return nil
}

func applyTo(data map[string]string, e entry) {
	if e.kind == kindPut {
		data[e.key] = e.value
	}
}

// serve answers the requests of one connection.
func (s *server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if s.release.Faults.Hang {
		<-ctx.Done()
		return
	}
	r := bufio.NewReaderSize(conn, maxLine)
	for {
		var req request
		if err := readLine(r, &req); err != nil {
			return
		}
		if req.Op == "stream" || req.Op == "copy" {
			s.serveStream(ctx, conn, r, req)
			return
		}
		res, err := s.answer(ctx, req)
		if err != nil {
			res.Error, res.Code = err.Error(), codeOf(err)
			var not *NotPrimaryError
			if errors.As(err, &not) {
				res.Error, res.Primary = not.Reason, not.Primary
			}
		}
		if err := writeLine(conn, res); err != nil {
			return
		}
	}
}

func (s *server) answer(ctx context.Context, req request) (response, error) {
	timeout := cmp.Or(time.Duration(req.Timeout)*time.Millisecond, longestRequest)
	ctx, cancel := context.WithTimeout(ctx, min(timeout, longestRequest))
	defer cancel()
	switch req.Op {
	case "put":
		return response{}, s.put(ctx, req.Key, req.Value)
	case "get":
		return s.get(ctx, req.Key, req.Primary)
	case "status":
		st := s.status()
		return response{Status: &st}, nil
	case "wait":
		return response{}, s.waitFor(ctx, req.History, req.Position)
	}
	res, err := s.change(ctx, req)
	if err == nil && req.Op == "follow" {
		err = s.untilStreaming(ctx, req.From) // outside of change: a promotion must not wait for a dead primary
	}
	return res, err
}

// change carries out a change of role, one at a time.
func (s *server) change(ctx context.Context, req request) (response, error) {
	select {
	case s.admin <- struct{}{}:
		defer func() { <-s.admin }()
	case <-ctx.Done():
		return response{}, codedError{codeTimeout, fmt.Errorf("%s: another change of role is under way: %w", req.Op, ctx.Err())}
	}
	switch req.Op {
	case "initialise":
		return s.initialise()
	case "promote":
		return s.promote(req.Epoch)
	case "fence":
		return s.fence(ctx, req.Epoch)
	case "unfence":
		return s.unfence(req.Epoch)
	case "follow":
		return response{}, s.followPrimary(ctx, req.Epoch, req.From)
	case "clone":
		return s.clone(ctx, req.From)
	case "reload":
		return response{}, s.reload()
	default:
		return response{}, refused("unknown request %q", req.Op)
	}
}

func codeOf(err error) string {
	var coded codedError
	var not *NotPrimaryError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &not):
		return codeNotPrimary
	case errors.Is(err, ErrUnknown):
		return codeUnknown
	case errors.Is(err, dbhooks.ErrEpoch):
		return codeEpoch
	case errors.Is(err, dbhooks.ErrFenced):
		return codeFenced
	case errors.Is(err, dbhooks.ErrDiverged):
		return codeDiverged
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return codeTimeout
	}
	return ""
}

// notify wakes everybody who waits for a change; mu is held.
func (s *server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits until done, called with mu held, says so.
func (s *server) until(ctx context.Context, done func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *server) waitFor(ctx context.Context, history string, position uint64) error {
	err := s.until(ctx, func() bool { return s.journal.contains(history, position) })
	if err == nil {
		return nil
	}
	st := s.status()
	return codedError{codeTimeout, fmt.Errorf("has %d of history %s and not %d of %s: %w", st.Position, st.History, position, history, err)}
}

// lockDir keeps a second process off the data directory.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s: in use by another process: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// newHistory names a history: the epoch for people, and something random so that two of them are never taken for one.
func newHistory(epoch uint64) string {
	var b [6]byte
	rand.Read(b[:])
	return fmt.Sprintf("%d-%s", epoch, hex.EncodeToString(b[:]))
}
