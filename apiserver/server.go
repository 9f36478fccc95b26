package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"ferryman/agent/source"
)

// Config says what a Server serves.
type Config struct {
	// Document is the file that holds the desired state. It is the truth: the
	// server has no call that changes it.
	Document string
	// TokenFile holds the bearer token that callers of the control API must
	// show, read anew for each request; without it, everybody may call.
	TokenFile string
	// Artefacts is a directory that is served below /artefacts/, to everybody:
	// what is taken from there is bound by digest. Without it, there is none.
	Artefacts string
	// TLS holds the server's certificate; without it, the server speaks HTTP.
	TLS *tls.Config
	// Provisioner makes and removes hosts; Static{} if nil.
	Provisioner Provisioner
	// State is the file that keeps, over a restart, the newest leader's term
	// and the numbers of hosts; without it, neither survives.
	State string
	// Log takes what the server has to say.
	Log *slog.Logger
}

// Server is the reference api-server.
type Server struct {
	config    Config
	document  document
	hosts     *hosts
	reports   reports
	artefacts *os.Root      // nil when there are none
	closing   chan struct{} // closed when Run ends: nothing is held any longer
}

// The bounds of a request.
const (
	headerTimeout   = 10 * time.Second // to send the request's header
	bodyTimeout     = 30 * time.Second // to send its body, and to take the answer
	downloadTimeout = time.Hour        // to take an artefact
	shutdownTimeout = 5 * time.Second  // to finish what is under way
)

// New makes a server; Run makes it serve. A Document that is not there yet, or
// is wrong, is no error: it is served once it is right.
func New(config Config) (*Server, error) {
	if config.Provisioner == nil {
		config.Provisioner = Static{}
	}
	s := &Server{config: config, closing: make(chan struct{})}
	s.document.changed = make(chan struct{})
	s.document.problem = "it was not read yet"
	var err error
	if s.hosts, err = newHosts(config.Provisioner, config.State, config.Log); err != nil {
		return nil, err
	}
	if config.Artefacts != "" {
		if s.artefacts, err = os.OpenRoot(config.Artefacts); err != nil {
			return nil, fmt.Errorf("serve artefacts: %w", err)
		}
	}
	return s, nil
}

// Run serves on listener until ctx ends. It then answers what is under way,
// waits for what it began, and leaves hosts as they are.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	if s.config.TLS != nil {
		listener = tls.NewListener(listener, s.config.TLS)
	}
	watching, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	workers.Go(func() { s.document.watch(watching, source.NewFile(s.config.Document, look), s.config.Log) })
	ended := make(chan error, 1)
	workers.Go(func() { ended <- server.Serve(listener) })

	var err error
	select {
	case <-ctx.Done():
		close(s.closing)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		if server.Shutdown(bounded) != nil {
			server.Close()
		}
		cancel()
	case err = <-ended:
		close(s.closing)
		err = fmt.Errorf("api-server: serve on %s: %w", listener.Addr(), err)
	}
	stop()
	s.hosts.close()
	workers.Wait()
	if s.artefacts != nil {
		err = errors.Join(err, s.artefacts.Close())
	}
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+source.PathDesiredState, s.authorized(s.getDesiredState))
	mux.HandleFunc("POST "+source.PathDesiredHosts, s.authorized(s.postDesiredHosts))
	mux.HandleFunc("GET "+source.PathCurrentHosts, s.authorized(s.getCurrentHosts))
	mux.HandleFunc("POST "+source.PathStatus, s.authorized(s.postStatus))
	mux.HandleFunc("GET "+source.PathStatus, s.authorized(s.getStatus))
	if s.artefacts != nil {
		mux.HandleFunc("GET /artefacts/{path...}", s.getArtefact)
	}
	return mux
}
