package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ferryman"
	"ferryman/agent/source"
)

// Command is how the agent of one host is started.
type Command struct {
	Exec []string // program and arguments
	Env  []string // the whole environment, KEY=value; nothing is inherited
	Dir  string   // working directory; the host's own if empty
	Port int      // where its agent listens, for the list of hosts; 0 if it is the default
}

// Process is the Provisioner that starts agents as processes of this machine,
// for a demonstration and for tests: a host is the directory <Base>/<name>. It
// runs until its agent ends other than with 0 or ferryman.ExitRestart; a host
// whose agent was killed is dead, and stays so. Hosts outlive the api-server, and are
// restarted also while it is away: a small shell loop beside each sees to that.
type Process struct {
	// Base is the directory that holds the hosts'.
	Base string
	// Prepare makes a host's directory ready, which exists, and says what to run.
	Prepare func(ctx context.Context, name, dir string) (Command, error)
	// StopTimeout is how long an agent that is asked to stop has;
	// DefaultStopTimeout if zero.
	StopTimeout time.Duration
	Log         *slog.Logger
}

var _ Provisioner = (*Process)(nil)

// DefaultStopTimeout is how long Remove waits before it kills.
const DefaultStopTimeout = 20 * time.Second

// loop runs in a session of its own for as long as the host lives: $1 is the
// host's directory, $2 the restart status, the rest the agent. It begins only
// once its process is on record, and reads the end of its pipe if that never
// happens. What it leaves behind says how the host ended.
const loop = `read -r go <&3 && [ "$go" = go ] || exit 1
exec 3<&-
dir=$1 again=$2
shift 2
while :; do
	sh -c 'echo $$ >"$0/agent.pid"; exec "$@"' "$dir" "$@"
	status=$?
	[ "$status" -eq 0 ] || [ "$status" -eq "$again" ] || break
	[ ! -e "$dir/stop" ] || break
	sleep 0.1
done
echo "$status" >"$dir/exit"
`

// record is <Base>/<name>/host.json: the loop that keeps the host, by a pid
// that is of use only with the time of its start and the boot of the machine.
type record struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
	Port  int    `json:"port,omitempty"`
}

func (p *Process) dir(name string) string {
	dir := filepath.Join(p.Base, name)
	if absolute, err := filepath.Abs(dir); err == nil {
		return absolute
	}
	return dir
}

func (p *Process) recordPath(name string) string { return filepath.Join(p.dir(name), "host.json") }

func (p *Process) read(name string) (record, error) {
	var r record
	raw, err := os.ReadFile(p.recordPath(name))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", p.recordPath(name), err)
	}
	return r, nil
}

// alive tells whether the host's loop runs.
func (p *Process) alive(r record) bool {
	stat, err := readStat(r.PID)
	if err != nil || stat.start != r.Start || r.Boot != bootID() {
		return false
	}
	if stat.dead && stat.parent == os.Getpid() {
		// Ours, and waiting for its status to be asked for.
		_, _ = syscall.Wait4(r.PID, nil, syscall.WNOHANG, nil)
	}
	return !stat.dead
}

// List returns the hosts that run, in the order of their numbers.
func (p *Process) List(context.Context) ([]source.Host, error) {
	entries, err := os.ReadDir(p.Base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var hosts []source.Host
	for _, entry := range entries {
		r, err := p.read(entry.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !p.alive(r) {
			continue
		}
		host := source.Host{Name: entry.Name(), Address: entry.Name()}
		if r.Port != 0 {
			host.Address += ":" + strconv.Itoa(r.Port)
		}
		hosts = append(hosts, host)
	}
	slices.SortStableFunc(hosts, func(a, b source.Host) int { return number(a.Name) - number(b.Name) })
	return hosts, nil
}

// Create prepares a host's directory and starts its agent. A name whose
// directory is there already is refused: its disk would not be empty.
func (p *Process) Create(ctx context.Context, name string) error {
	if err := p.create(ctx, name); err != nil {
		return fmt.Errorf("make host %s in %s: %w", name, p.Base, err)
	}
	return nil
}

func (p *Process) create(ctx context.Context, name string) error {
	if !source.ValidName(name) {
		return fmt.Errorf("%w: not the name of a host", ferryman.ErrInvalid)
	}
	if err := os.MkdirAll(p.Base, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(p.dir(name), 0o755); err != nil {
		return err
	}
	command, err := p.Prepare(ctx, name, p.dir(name))
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if len(command.Exec) == 0 {
		return fmt.Errorf("%w: nothing to run", ferryman.ErrInvalid)
	}
	if command.Dir == "" {
		command.Dir = p.dir(name)
	}
	return p.Start(name, command)
}

// Start starts the agent of a host whose directory is there: a new one's, or
// that of a host that died and comes back with its disk.
func (p *Process) Start(name string, command Command) error {
	log, err := os.OpenFile(filepath.Join(p.dir(name), "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	gate, open, err := os.Pipe()
	if err != nil {
		return err
	}
	defer gate.Close()
	defer open.Close()
	args := append([]string{"sh", "-c", loop, "host", p.dir(name), strconv.Itoa(ferryman.ExitRestart)}, command.Exec...)
	pid, err := syscall.ForkExec("/bin/sh", args, &syscall.ProcAttr{
		Dir: command.Dir, Env: command.Env,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd(), gate.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true}, // it outlives us, and no key pressed reaches it
	})
	if err != nil {
		return fmt.Errorf("start in %s: %w", command.Dir, err)
	}
	stat, err := readStat(pid)
	if err == nil {
		err = p.write(name, record{PID: pid, Start: stat.start, Boot: bootID(), Port: command.Port})
	}
	if err == nil {
		_, err = open.WriteString("go\n")
	}
	if err != nil {
		open.Close() // the loop ends by itself
		_, _ = syscall.Wait4(pid, nil, 0, nil)
		return errors.Join(err, os.RemoveAll(p.recordPath(name)))
	}
	return nil
}

func (p *Process) write(name string, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(p.recordPath(name), raw)
}

// Remove asks the agent to stop, kills whatever of the host is left when it did
// or its time is over, and forgets the host. Its directory stays: no data is
// deleted by a machine.
func (p *Process) Remove(ctx context.Context, name string, lost bool) error {
	if !source.ValidName(name) {
		return fmt.Errorf("remove host: %w: %q is not the name of a host", ferryman.ErrInvalid, name)
	}
	r, err := p.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !lost {
		err = p.stop(ctx, name, r)
	}
	if err == nil {
		err = p.Kill(ctx, name)
	}
	if err == nil && p.alive(r) {
		err = errors.New("it still runs")
	}
	if err == nil {
		err = os.Remove(p.recordPath(name))
	}
	if err != nil {
		return fmt.Errorf("remove host %s: %w", name, err)
	}
	return nil
}

// stop asks the agent to stop and waits until the host has ended, or its time
// is over.
func (p *Process) stop(ctx context.Context, name string, r record) error {
	if err := os.WriteFile(filepath.Join(p.dir(name), "stop"), nil, 0o644); err != nil {
		return err
	}
	timeout := p.StopTimeout
	if timeout <= 0 {
		timeout = DefaultStopTimeout
	}
	over := time.NewTimer(timeout)
	defer over.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	asked := 0 // the agent may be between two starts when we look
	for p.alive(r) {
		if agent := p.Agent(name); agent != 0 && agent != asked {
			asked = agent
			if err := syscall.Kill(agent, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		select {
		case <-again.C:
		case <-over.C:
			p.Log.Warn("the agent did not stop in time; killing its host", "host", name, "after", timeout)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Agent is the pid of a host's agent; 0 when none runs.
func (p *Process) Agent(name string) int {
	r, err := p.read(name)
	if err != nil || !p.alive(r) {
		return 0
	}
	raw, err := os.ReadFile(filepath.Join(p.dir(name), "agent.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 {
		return 0
	}
	// Only a child of the loop is the agent; another one has its old pid.
	if stat, err := readStat(pid); err != nil || stat.parent != r.PID || stat.dead {
		return 0
	}
	return pid
}

// Kill ends a host as a power failure would: its agent, its database, and what
// else belongs to it, with SIGKILL. The host is dead then, and not forgotten.
func (p *Process) Kill(ctx context.Context, name string) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	dying := map[int]uint64{} // what was killed, by pid and start: one that gives up its memory shows nothing of itself
	for unsure := 0; ; {
		left, sure, err := p.processes(name)
		if err != nil {
			return err
		}
		for pid, start := range left {
			dying[pid] = start
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		maps.DeleteFunc(dying, func(pid int, start uint64) bool {
			stat, err := readStat(pid)
			return err != nil || stat.dead || stat.start != start
		})
		if !sure {
			unsure++
		}
		if len(left) == 0 && len(dying) == 0 && (sure || unsure > maxUnsure) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%d processes still run: %w", len(dying), ctx.Err())
		}
	}
}

// maxUnsure is how many looks at a process that does not show itself are waited
// for; one that never does is none that we started.
const maxUnsure = 50

// processes are those that belong to a host, with the times of their start. A
// database outlives the agent that started it, in a session and environment of
// its own; what it has in common with its host is the directory: it works
// there, was started from there, or was told of it. Whoever sits at a terminal
// only looks on. It is not sure while a process is between two programs, and
// shows no arguments.
func (p *Process) processes(name string) (pids map[int]uint64, sure bool, err error) {
	dir := p.dir(name)
	within := func(text string) bool {
		return text == dir || strings.HasSuffix(text, "="+dir) || strings.Contains(text, dir+"/")
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false, err
	}
	pids, sure = map[int]uint64{}, true
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid <= 1 || pid == os.Getpid() {
			continue
		}
		stat, err := readStat(pid)
		if err != nil || stat.dead || stat.terminal {
			continue
		}
		proc := "/proc/" + entry.Name()
		cwd, _ := os.Readlink(proc + "/cwd") // all are empty for a process of another user
		exe, _ := os.Readlink(proc + "/exe")
		args, _ := os.ReadFile(proc + "/cmdline")
		if within(cwd) || within(exe) || slices.ContainsFunc(strings.Split(string(args), "\x00"), within) {
			pids[pid] = stat.start
		} else if exe != "" && len(args) == 0 {
			sure = false
		}
	}
	return pids, sure, nil
}
