package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"ferryman/agent/source"
)

// Exec is the Provisioner that runs the user's program:
//
//	PROGRAM create NAME    makes a host that starts an agent named NAME, and
//	                       returns once that is certain to happen
//	PROGRAM remove NAME    ends it; that there is none is no error
//	PROGRAM list           prints the hosts that run, a name or name:port a line
//
// Its standard input is one JSON object, {"operation": "remove", "name": "n2",
// "lost": true}; a lost host is dead to the cluster, and need not be asked to
// stop. An exit status other than 0 is a failure, told with the end of what it
// wrote to standard error. Its environment is PATH, HOME and LANG only.
type Exec struct {
	Program string

	mu     sync.Mutex
	hosts  []source.Host // what list printed last
	listed time.Time     // when that was; zero if something changed since
}

var _ Provisioner = (*Exec)(nil)

const (
	createTimeout = 10 * time.Minute
	removeTimeout = 5 * time.Minute
	listTimeout   = 30 * time.Second
	// fresh is how long the answer of list is used again: each agent may ask.
	fresh = time.Second
	// maxOutput is how much of a program's output is kept, in bytes.
	maxOutput = 64 << 10
)

type order struct {
	Operation string `json:"operation"`
	Name      string `json:"name,omitempty"`
	Lost      bool   `json:"lost,omitempty"`
}

// List runs PROGRAM list.
func (e *Exec) List(ctx context.Context) ([]source.Host, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.listed.IsZero() && time.Since(e.listed) < fresh {
		return e.hosts, nil
	}
	out, err := e.run(ctx, listTimeout, order{Operation: "list"})
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(strings.Fields(out))
	if err != nil {
		return nil, err
	}
	hosts, err := source.ParseHosts(raw)
	if err != nil {
		return nil, fmt.Errorf("%s list: %w", e.Program, err)
	}
	e.hosts, e.listed = hosts, time.Now()
	return hosts, nil
}

// Create runs PROGRAM create NAME.
func (e *Exec) Create(ctx context.Context, name string) error {
	defer e.forget()
	_, err := e.run(ctx, createTimeout, order{Operation: "create", Name: name})
	return err
}

// Remove runs PROGRAM remove NAME.
func (e *Exec) Remove(ctx context.Context, name string, lost bool) error {
	defer e.forget()
	_, err := e.run(ctx, removeTimeout, order{Operation: "remove", Name: name, Lost: lost})
	return err
}

func (e *Exec) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listed = time.Time{}
}

func (e *Exec) run(ctx context.Context, timeout time.Duration, o order) (string, error) {
	input, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	args := []string{o.Operation}
	if o.Name != "" {
		args = append(args, o.Name)
	}
	var stdout, stderr tail
	command := exec.CommandContext(ctx, e.Program, args...)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &stdout, &stderr
	command.Env = []string{}
	for _, key := range []string{"PATH", "HOME", "LANG"} {
		if value, ok := os.LookupEnv(key); ok {
			command.Env = append(command.Env, key+"="+value)
		}
	}
	// The program and what it started end together, also when the time is over.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	err = command.Run()
	what := strings.Join(append([]string{e.Program}, args...), " ")
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: killed: %w", what, ctx.Err())
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		if text := strings.TrimSpace(strings.ToValidUTF8(stderr.last(1000), "?")); text != "" {
			return "", fmt.Errorf("%s: %w: %s", what, err, text)
		}
		return "", fmt.Errorf("%s: %w", what, err)
	case stdout.cut:
		return "", fmt.Errorf("%s: %w: it printed more than %d bytes", what, source.ErrTooLarge, maxOutput)
	}
	return string(stdout.text), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	text []byte
	cut  bool // something was dropped
}

func (t *tail) Write(p []byte) (int, error) {
	begin := max(0, len(p)-maxOutput)
	t.text, t.cut = append(t.text, p[begin:]...), t.cut || begin > 0
	if over := len(t.text) - maxOutput; over > 0 {
		t.text, t.cut = append(t.text[:0], t.text[over:]...), true
	}
	return len(p), nil
}

func (t *tail) last(n int) string { return string(t.text[max(0, len(t.text)-n):]) }
