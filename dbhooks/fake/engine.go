package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"time"

	"ferryman"
	"ferryman/dbhooks"
)

// DefaultVersion is what runs where no release is selected.
const DefaultVersion = "1.0"

// RestartParameter is the one parameter that takes effect only after a restart; all others do at once.
const RestartParameter = "restart"

// Engine is one instance: a dbhooks.Engine for the agent, and a program for the unit (Start, Stop).
type Engine struct {
	c       *Cluster
	address string

	// What is on disk.
	log        []entry
	marker     dbhooks.Marker
	parameters map[string]string
	aside      int

	// What is in the process.
	running   bool
	ended     chan struct{} // closed when the process ends; each has its own
	version   string
	started   time.Time
	crash     *time.Timer
	primary   bool
	writable  bool // promoted since it started, and not fenced
	promoted  bool // promoted since it started
	streaming bool
	diverged  bool
	drained   bool
	inForce   map[string]string

	faults Faults
	takes  func(ferryman.Op) time.Duration
	fail   func(ferryman.Op) error
	calls  map[ferryman.Op]int
	said   string
}

var ops = []ferryman.Op{
	ferryman.OpInitialise, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFollow, ferryman.OpFence, ferryman.OpUnfence,
	ferryman.OpConfigure, ferryman.OpDrain, ferryman.OpUndrain, ferryman.OpVerify, ferryman.OpPreflight,
}

// Faults sets what is wrong with this instance.
func (e *Engine) Faults(f Faults) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.c.replicate()
	e.faults = f
}

// Takes says how long operations take, before their effect; nil for no time.
func (e *Engine) Takes(f func(ferryman.Op) time.Duration) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.takes = f
}

// Fail says which operations fail, without an effect; nil for none.
func (e *Engine) Fail(f func(ferryman.Op) error) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.fail = f
}

// Calls is how often op was asked for.
func (e *Engine) Calls(op ferryman.Op) int {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	return e.calls[op]
}

// Log is what the process said last.
func (e *Engine) Log() string {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	return e.said
}

// Wipe empties the disk of an instance that does not run: a new host at the same address.
func (e *Engine) Wipe() {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.log, e.marker, e.parameters = nil, dbhooks.Marker{}, nil
}

// bad is what is wrong with it now. c.mu is held.
func (e *Engine) bad() Faults { return e.faults.or(e.c.versions[e.version]) }

var digestSuffix = regexp.MustCompile(`-[0-9a-fA-F]{12}$`)

// Command names a program that Start understands; the last element of home is a version, with or without a digest.
func (e *Engine) Command(_ context.Context, home string) (dbhooks.Command, error) {
	version := DefaultVersion
	if home != "" {
		version = digestSuffix.ReplaceAllString(path.Base(home), "")
	}
	return dbhooks.Command{Exec: []string{"fakedb", version}}, nil
}

// Fence marks the instance fenced in what is on disk, as a guard does: no process needs to run, and one that runs is not told.
func (e *Engine) Fence(epoch uint64) error {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	m, err := e.marker.Fence(epoch)
	if err != nil {
		return fmt.Errorf("fakedb %s: %w", e.address, err)
	}
	e.marker = m
	return nil
}

// Start is the unit's: the process comes up, without writes.
func (e *Engine) Start(exec []string, exit func(code int)) error {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	if len(exec) != 2 {
		return fmt.Errorf("start %s: %q is no command of this database", e.address, exec)
	}
	e.c.replicate()
	e.version = exec[1]
	f := e.bad()
	if f.NoStart != "" {
		e.said = f.NoStart
		return errors.New(f.NoStart)
	}
	e.said = "fakedb " + e.version + " listens on " + e.address
	e.running, e.started, e.ended = true, time.Now(), make(chan struct{})
	e.primary, e.inForce = e.marker.Primary, maps.Clone(e.parameters)
	if f.CrashAfter > 0 {
		ended := e.ended
		e.crash = time.AfterFunc(f.CrashAfter, func() {
			e.c.mu.Lock()
			if e.ended == ended {
				e.kill()
			}
			e.c.mu.Unlock()
			exit(3)
		})
	}
	e.c.replicate()
	return nil
}

// Stop is the unit's: the process is gone, what it wrote is not.
func (e *Engine) Stop() {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.end()
}

// Kill ends the process as SIGKILL and a power cut do: where the cluster is volatile, its data are gone too. The unit is not told; its Exit may follow.
func (e *Engine) Kill() {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.kill()
}

// kill does nothing to an instance that does not run. c.mu is held.
func (e *Engine) kill() {
	running := e.running
	e.end()
	if running && e.c.volatile {
		e.log = nil
	}
}

// end is the process's. c.mu is held.
func (e *Engine) end() {
	e.c.replicate()
	if e.crash != nil {
		e.crash.Stop()
		e.crash = nil
	}
	if e.running {
		close(e.ended)
	}
	e.running, e.primary, e.writable, e.promoted, e.streaming, e.diverged, e.drained = false, false, false, false, false, false, false
}

// Traits are those of a database with one primary.
func (e *Engine) Traits() ferryman.Traits {
	return ferryman.Traits{Primaries: 1, Ops: slices.Clone(ops)}
}

// Status sees nothing of an instance that does not run, as is so with most databases.
func (e *Engine) Status(ctx context.Context) (ferryman.Instance, error) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	if err := e.hang(ctx); err != nil {
		return ferryman.Instance{Running: true, Reason: "does not answer: " + err.Error()}, nil
	}
	e.c.replicate()
	if !e.running {
		return ferryman.Instance{Reason: "does not run"}, nil
	}
	f := e.bad()
	in := ferryman.Instance{
		Running: true, Initialised: len(e.log) > 0, Role: ferryman.RoleReplica, Writable: e.writable, Fenced: e.marker.Fenced, Version: e.version,
		Epoch: e.marker.Epoch, History: e.history(), Position: uint64(len(e.log)), Following: e.marker.From, Streaming: e.streaming, Diverged: e.diverged,
		Replicas: e.replicas(), SyncReplicas: e.c.sync, Blockers: slices.Clone(f.Blockers), Drained: e.drained,
	}
	source := e.c.engines[e.marker.From]
	switch {
	case e.primary:
		in.Role, in.Healthy = ferryman.RolePrimary, e.writable
		if !e.writable {
			in.Reason = "accepts no writes"
		}
	case len(e.log) == 0:
		in.Reason = "has no data: initialise or clone it"
	case e.marker.From == "":
		in.Reason = "follows nobody and is not promoted"
	case f.LieHealthy:
		in.Streaming, in.Healthy = true, true
	case e.diverged:
		in.Reason = "its data are not a part of the history of " + e.marker.From
	case !e.streaming:
		in.Reason = "does not stream from " + e.marker.From
	default:
		in.Healthy = true
		in.Lag = ferryman.Bytes(len(source.log) - len(e.log))
	}
	if f.Unhealthy != "" {
		in.Healthy, in.Reason = false, f.Unhealthy
	}
	return in, nil
}

// hang waits for the end of ctx, or of the process, if that runs and does not answer. c.mu is held, and not while it waits.
func (e *Engine) hang(ctx context.Context) error {
	if !e.running || !e.bad().Hang {
		return ctx.Err()
	}
	ended := e.ended
	e.c.mu.Unlock()
	defer e.c.mu.Lock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return errEnded
	}
}

var errEnded = fmt.Errorf("%w: the process that was found ended meanwhile", ferryman.ErrUnavailable)

// history is the id of the newest one in the log.
func (e *Engine) history() string {
	for _, x := range slices.Backward(e.log) {
		if x.history != "" {
			return x.history
		}
	}
	return ""
}
