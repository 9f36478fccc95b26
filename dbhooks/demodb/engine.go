package demodb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"ferryman"
	"ferryman/dbhooks"
)

// Engine drives one demodb process; it is a dbhooks.Engine.
type Engine struct {
	cfg   dbhooks.Config
	watch *Client // for Status; each operation has a client of its own
}

// New returns the engine of the demodb that cfg describes. Program defaults to this executable, which must understand `demodb serve`.
func New(cfg dbhooks.Config) *Engine {
	return &Engine{cfg: cfg, watch: Dial(cfg.Address)}
}

// Close gives up the connection.
func (e *Engine) Close() error { return e.watch.Close() }

var ops = []ferryman.Op{
	ferryman.OpInitialise, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFollow, ferryman.OpFence, ferryman.OpUnfence,
	ferryman.OpConfigure, ferryman.OpVerify, ferryman.OpPreflight,
}

// Traits of a database with one primary.
func (e *Engine) Traits() ferryman.Traits {
	return ferryman.Traits{Primaries: 1, Ops: slices.Clone(ops)}
}

// Command runs bin/demodb of the release, or the configured program.
func (e *Engine) Command(_ context.Context, home string) (dbhooks.Command, error) {
	program := e.cfg.Program
	if home != "" {
		program = filepath.Join(home, "bin", "demodb")
	}
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return dbhooks.Command{}, err
		}
	}
	exec := []string{
		program, "demodb", "serve", "--data", e.cfg.Dir, "--listen", e.cfg.Bind(), "--name", e.cfg.Address,
		"--sync-replicas", strconv.Itoa(e.defaults().SyncReplicas),
	}
	if home != "" {
		exec = append(exec, "--home", home)
	}
	return dbhooks.Command{Exec: exec, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Dir: "/"}, os.MkdirAll(e.cfg.Dir, 0o700)
}

// defaults are what holds where no parameter says otherwise: with a replica's acknowledgement, unless Extra's sync_replicas is 0.
func (e *Engine) defaults() Settings {
	if e.cfg.Extra["sync_replicas"] == "0" {
		return DefaultSettings(0)
	}
	return DefaultSettings(1)
}

// Status asks the process; one that does not listen is not running.
func (e *Engine) Status(ctx context.Context) (ferryman.Instance, error) {
	st, err := e.watch.Status(ctx)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ferryman.Instance{Reason: "does not run: nothing listens on " + e.cfg.Address}, nil
	case err != nil:
		return ferryman.Instance{Running: true, Reason: fmt.Sprintf("does not answer: %v", err)}, nil
	}
	in := ferryman.Instance{
		Running: true, Initialised: st.Initialised, Role: ferryman.RoleReplica, Writable: st.Writable, Fenced: st.Fenced, Version: st.Version, Epoch: st.Epoch,
		History: st.History, Position: st.Position, Following: st.Following, Streaming: st.Streaming, Diverged: st.Diverged, Lag: ferryman.Bytes(st.Lag),
		Replicas: st.Replicas, SyncReplicas: st.Settings.SyncReplicas, Healthy: st.Healthy, Reason: st.Reason,
	}
	if st.Role == "primary" {
		in.Role = ferryman.RolePrimary
	}
	return in, nil
}

// Do carries out one operation, with the process that it finds. Whether the marker allows it is for that process to say: it read the marker when it
// started, and saves over nothing else.
func (e *Engine) Do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	if !slices.Contains(ops, op) {
		return ferryman.Result{}, fmt.Errorf("demodb: %s: %w", op, ferryman.ErrUnsupported)
	}
	if op == ferryman.OpConfigure {
		return e.configure(ctx, args)
	}
	client, err := bind(ctx, e.cfg.Address)
	if err != nil {
		return ferryman.Result{}, err
	}
	defer client.Close()
	switch op {
	case ferryman.OpVerify:
		return e.verify(ctx, client, args)
	case ferryman.OpPreflight:
		return e.preflight(ctx, client, args)
	default:
		res, err := client.do(ctx, request{Op: string(op), Epoch: args.Epoch, From: args.From})
		return ferryman.Result{Position: res.Position, History: res.History, SetAside: res.SetAside}, err
	}
}

func (e *Engine) verify(ctx context.Context, client *Client, args ferryman.Args) (ferryman.Result, error) {
	if args.History != "" {
		if _, err := client.do(ctx, request{Op: "wait", History: args.History, Position: args.Position}); err != nil {
			return ferryman.Result{}, err
		}
	}
	st, err := client.Status(ctx)
	if err == nil && args.Version != "" && st.Version != args.Version {
		err = fmt.Errorf("demodb %s: runs version %s and not %s", e.cfg.Address, st.Version, args.Version)
	}
	return ferryman.Result{Position: st.Position, History: st.History}, err
}

// configure stores all parameters; those that are not named go back to their defaults. It works on a stopped instance too.
func (e *Engine) configure(ctx context.Context, args ferryman.Args) (ferryman.Result, error) {
	old, err := e.defaults().load(e.cfg.Dir)
	if err != nil {
		return ferryman.Result{}, err
	}
	settings, err := e.defaults().With(args.Parameters)
	if err != nil {
		return ferryman.Result{}, fmt.Errorf("demodb: %w: %w", ferryman.ErrInvalid, err)
	}
	if settings != old {
		if err := settings.save(e.cfg.Dir); err != nil {
			return ferryman.Result{}, err
		}
	}
	client, err := bind(ctx, e.cfg.Address)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return ferryman.Result{}, nil // it reads them when it starts
	}
	if err != nil {
		return ferryman.Result{}, err
	}
	defer client.Close()
	if _, err := client.do(ctx, request{Op: "reload"}); err != nil {
		return ferryman.Result{}, err
	}
	st, err := client.Status(ctx)
	return ferryman.Result{RestartNeeded: st.Settings != settings}, err
}

// preflight: versions of one major number read each other's log and follow each other. The position is that of the log on disk: a replica acknowledges
// an entry once it is in there, and whether the primary can still be reached changes nothing about it.
func (e *Engine) preflight(ctx context.Context, client *Client, args ferryman.Args) (ferryman.Result, error) {
	var res ferryman.Result
	st, err := client.Status(ctx)
	if err != nil {
		return res, err
	}
	if args.Version != "" {
		res.NoReturn = major(args.Version) != major(st.Version)
	}
	if settings, err := e.defaults().With(args.Parameters); err != nil {
		res.Blockers = append(res.Blockers, err.Error())
	} else if args.Parameters != nil {
		res.RestartNeeded = settings.MaxValueBytes != st.Settings.MaxValueBytes
	}
	if args.Epoch > 0 {
		marker := dbhooks.Marker{Epoch: st.Epoch, Fenced: st.Fenced, Primary: st.Promoted, From: st.Following}
		if _, err := marker.Promote(args.Epoch); err != nil {
			res.Blockers = append(res.Blockers, err.Error())
		}
		if !st.Initialised || !st.Writable && !st.Streaming && !args.Alone {
			res.Blockers = append(res.Blockers, st.Reason)
		}
	}
	res.Position, res.History = st.Position, st.History
	return res, nil
}

func major(version string) string {
	m, _, _ := strings.Cut(version, ".")
	return m
}
