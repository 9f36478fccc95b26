package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
	"ferryman/apiserver"
	"ferryman/demo/port"
)

const (
	clusterID    = "demo-1"
	documentFile = "desired.json"
	serverLog    = "api-server.log"
	serverRecord = "api-server.pid"
	dirPattern   = "ferryman-demo-*"
	// insideEnv marks the demo's processes: one that is not what it is taken for
	// must not begin another demo, and so on without end.
	insideEnv = "FERRYMAN_DEMO"
)

// stage is everything on disk and all processes of one demo.
type stage struct {
	dir      string
	program  string // a copy of this executable, which outlives `go run`
	document string
	eng      engine
	network  network
	address  string // of the api-server
	server   *exec.Cmd
	done     chan error
	owner    *os.File // locked while the demo plays
}

// build makes the demo's directory: a copy of the program, the cluster's CA,
// releases.
func build(ctx context.Context, eng engine, program string) (*stage, error) {
	if dir := os.Getenv(insideEnv); dir != "" {
		return nil, fmt.Errorf("the program that the demo in %s started began a demo of its own; it must be the ferryman binary", dir)
	}
	dir, err := os.MkdirTemp("", dirPattern)
	if err != nil {
		return nil, err
	}
	s := reopen(dir)
	s.eng = eng
	if err := errors.Join(s.own(), s.fill(ctx, program)); err != nil {
		return nil, errors.Join(fmt.Errorf("set the stage in %s: %w", dir, err), os.RemoveAll(dir))
	}
	return s, nil
}

func reopen(dir string) *stage {
	return &stage{dir: dir, program: filepath.Join(dir, "ferryman"), document: filepath.Join(dir, documentFile), network: loopback{}}
}

func (s *stage) fill(ctx context.Context, program string) error {
	if err := copyFile(s.program, program); err != nil {
		return err
	}
	ca, err := identity.CreateCA(clusterID)
	if err != nil {
		return err
	}
	if err := ca.Save(filepath.Join(s.dir, "ca")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "engine"), []byte(s.eng.name()), 0o600); err != nil {
		return err
	}
	artefacts := filepath.Join(s.dir, "artefacts")
	if err := os.Mkdir(artefacts, 0o700); err != nil {
		return err
	}
	return s.eng.prepare(ctx, artefacts, s.program)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// serve starts the api-server as a process of its own, where it was before if
// it was.
func (s *stage) serve(context.Context) error {
	if s.address == "" {
		s.address = port.Free()
	}
	log, err := os.OpenFile(filepath.Join(s.dir, serverLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.program, "demo-api-server", s.dir, s.address)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.dir
	cmd.Env = append(os.Environ(), insideEnv+"="+s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for the demo alone, which then ends this
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the api-server: %w", err)
	}
	s.server, s.done = cmd, make(chan error, 1)
	go func() { s.done <- cmd.Wait() }()
	return os.WriteFile(filepath.Join(s.dir, serverRecord), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

// ServeAPI is the api-server of a demo: the reference one, with a provisioner
// that prepares hosts below dir. It makes the first host by itself.
func ServeAPI(ctx context.Context, dir, address string, log *slog.Logger) error {
	s := reopen(dir)
	s.address = address
	return s.runServer(ctx, log)
}

func (s *stage) runServer(ctx context.Context, log *slog.Logger) error {
	name, err := os.ReadFile(filepath.Join(s.dir, "engine"))
	if err != nil {
		return fmt.Errorf("%s is not the directory of a demo: %w", s.dir, err)
	}
	if s.eng, err = newEngine(string(name)); err != nil {
		return err
	}
	server, err := apiserver.New(apiserver.Config{Document: s.document, Artefacts: filepath.Join(s.dir, "artefacts"),
		State: filepath.Join(s.dir, "api-server.json"), Provisioner: s.provisioner(log), Log: log})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	if hosts, err := s.provisioner(log).List(ctx); err == nil && len(hosts) == 0 {
		if err := server.RequestHosts(ctx, firstHost); err != nil {
			return errors.Join(fmt.Errorf("make the first host: %w", err), ln.Close())
		}
	}
	return server.Run(ctx, ln)
}

func (s *stage) provisioner(log *slog.Logger) *apiserver.Process {
	return &apiserver.Process{Base: filepath.Join(s.dir, "hosts"), Prepare: s.prepareHost, StopTimeout: 10 * time.Second, Log: log}
}

// quiet is the provisioner as the demo itself uses it: to see and to kill.
func (s *stage) quiet() *apiserver.Process { return s.provisioner(slog.New(slog.DiscardHandler)) }

// hosts are the names of those that run.
func (s *stage) hosts() ([]string, error) {
	list, err := s.quiet().List(context.Background())
	var names []string
	for _, h := range list {
		names = append(names, h.Name)
	}
	return names, err
}

func (s *stage) socket(host string) string { return filepath.Join(s.dir, "hosts", host, "agent.sock") }

// report asks all agents at once for what the leader knows, and takes the first
// answer: one that hangs holds nobody up.
func (s *stage) report(ctx context.Context) (ferryman.Report, error) {
	hosts, err := s.hosts()
	if err != nil {
		return ferryman.Report{}, err
	}
	type answer struct {
		ferryman.Report
		err error
	}
	answers := make(chan answer, len(hosts))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, h := range hosts {
		go func() {
			r, err := s.ask(ctx, h)
			answers <- answer{r, err}
		}()
	}
	last := errors.New("no host runs yet")
	for range hosts {
		a := <-answers
		if a.err == nil {
			return a.Report, nil
		}
		last = a.err
	}
	return ferryman.Report{}, last
}

func (s *stage) ask(ctx context.Context, host string) (ferryman.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := rpc.DialControl(s.socket(host))
	if err != nil {
		return ferryman.Report{}, err
	}
	defer c.Close()
	return c.Report(ctx)
}

// strike ends the demo and removes its directory.
func (s *stage) strike() error {
	errs := []error{s.end(), os.RemoveAll(s.dir)}
	if s.owner != nil {
		errs = append(errs, s.owner.Close())
	}
	return errors.Join(errs...)
}

// leave ends the demo and leaves what tells how it went, without its releases,
// which are most of its size. No later demo removes it.
func (s *stage) leave() error {
	errs := []error{s.end(), os.RemoveAll(filepath.Join(s.dir, "artefacts"))}
	releases, _ := filepath.Glob(filepath.Join(s.dir, "hosts", "*", "data", "releases"))
	for _, dir := range releases {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(append(errs, s.disown())...)
}

// end ends every process of the demo. Each is found by records that the demo
// itself wrote.
func (s *stage) end() error {
	var errs []error
	if s.server != nil {
		_ = s.server.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(5 * time.Second):
			_ = s.server.Process.Kill()
			<-s.done
		}
	} else {
		s.endRecorded()
	}
	// Hosts that were killed may have left a database behind: all are asked.
	entries, _ := os.ReadDir(filepath.Join(s.dir, "hosts"))
	for _, e := range entries {
		errs = append(errs, s.quiet().Kill(context.Background(), e.Name()))
	}
	return errors.Join(errs...)
}

// endRecorded ends the api-server that another process started, and waits until
// it is gone: while it runs, it may make hosts.
func (s *stage) endRecorded() {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	patient := time.After(5 * time.Second)
	for sig := syscall.SIGTERM; ; {
		pid, ok := s.recorded()
		if !ok {
			return
		}
		_ = syscall.Kill(pid, sig)
		select {
		case <-again.C:
		case <-patient:
			sig = syscall.SIGKILL
		}
	}
}

// recorded is the pid of the api-server, if it still is one of this demo.
func (s *stage) recorded() (int, bool) {
	raw, err := os.ReadFile(filepath.Join(s.dir, serverRecord))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return pid, err == nil && strings.Contains(string(cmdline), s.dir)
}
