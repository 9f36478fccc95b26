package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"ferryman"
	"ferryman/dbhooks"
)

// Engine drives one Redis or Valkey server; it is a dbhooks.Engine.
type Engine struct {
	cfg dbhooks.Config

	mu       sync.Mutex
	diverged string // why it could not follow, when that was divergence; until it is cloned or promoted
}

// New returns the engine of the server that cfg describes.
func New(cfg dbhooks.Config) *Engine {
	return &Engine{cfg: cfg}
}

// server is the engine while it talks to its server, for one observation or operation.
type server struct {
	*Engine
	client *client
	known  state // as it was loaded or saved last
}

// dial connects to the server, or says that nothing listens. Connections are not kept: each belongs to one process and one operation.
func (e *Engine) dial(ctx context.Context) (*server, error) {
	c, err := connect(ctx, e.cfg.Address, e.cfg.Username, e.cfg.Password)
	return &server{Engine: e, client: c}, err
}

var ops = []ferryman.Op{
	ferryman.OpInitialise, ferryman.OpClone, ferryman.OpPromote, ferryman.OpFollow, ferryman.OpFence, ferryman.OpUnfence,
	ferryman.OpConfigure, ferryman.OpVerify, ferryman.OpPreflight,
}

// Traits of a database with one primary.
func (e *Engine) Traits() ferryman.Traits {
	return ferryman.Traits{Primaries: 1, Ops: slices.Clone(ops)}
}

// Status reads INFO, the fence and the marker.
func (e *Engine) Status(ctx context.Context) (ferryman.Instance, error) {
	st, err := e.load()
	if err != nil {
		return ferryman.Instance{}, err
	}
	out := ferryman.Instance{Initialised: st.with(e.hasFiles()).Initialised, Fenced: st.Fenced, Epoch: st.Epoch}
	db, err := e.dial(ctx)
	var in info
	if err == nil {
		defer db.client.Close()
		in, err = ask(ctx, db.client)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		out.Reason = "does not run: nothing listens on " + e.cfg.Address
		return out, nil
	case err != nil:
		out.Running, out.Reason = true, fmt.Sprintf("does not answer: %v", err)
		return out, nil
	}
	st = st.with(in.hasKeys() || in.loading())
	out.Running, out.Version, out.Initialised = true, in.version(), st.Initialised
	out.History, out.Position = in.history(), in.position()
	out.Replicas, out.Blockers = in.replicas()
	if in.master() {
		err = db.statusPrimary(ctx, st, in, &out)
	} else {
		e.statusReplica(st, in, &out)
	}
	if in.loading() {
		out.Healthy, out.Reason = false, "loads its data"
	}
	if err != nil {
		out.Healthy, out.Reason = false, err.Error()
	}
	return out, nil
}

func (e *server) statusPrimary(ctx context.Context, st state, in info, out *ferryman.Instance) error {
	out.Role = ferryman.RolePrimary
	fenced, err := e.refusesWrites(ctx)
	if err != nil {
		return err
	}
	out.Writable = !fenced && !in.loading()
	out.Healthy = out.Writable && st.Primary
	switch {
	case fenced:
		out.Reason = "fenced: accepts no writes"
	case !st.Primary:
		out.Reason = "accepts writes, and was not promoted by ferryman: somebody made it a primary by hand"
	}
	return nil
}

func (e *Engine) statusReplica(st state, in info, out *ferryman.Instance) {
	e.mu.Lock()
	diverged := e.diverged
	e.mu.Unlock()
	out.Role, out.Following, out.Streaming = ferryman.RoleReplica, in.upstream(), in.streaming()
	out.Healthy = out.Streaming && st.Initialised
	if behind := in.number("slave_read_repl_offset") - min(in.number("slave_repl_offset"), in.number("slave_read_repl_offset")); out.Streaming {
		out.Lag = ferryman.Bytes(behind)
	}
	switch {
	case e.cameUpEmpty(st, in):
		out.Initialised, out.Reason = false, "its data are gone: it crashed without a snapshot; clone it"
	case !st.Initialised:
		out.Reason = "has no data: initialise or clone it"
	case diverged != "":
		out.Diverged, out.Reason = true, diverged
	case out.Following == "":
		out.Reason = "follows nobody and is not promoted"
	case in["master_sync_in_progress"] == "1":
		out.Reason = "receives a full copy from " + out.Following
	case !out.Streaming:
		out.Reason = "is not connected to " + out.Following
	}
}

// Do carries out one operation.
func (e *Engine) Do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	if !slices.Contains(ops, op) {
		return ferryman.Result{}, fmt.Errorf("redis: %s: %w", op, ferryman.ErrUnsupported)
	}
	result, err := e.do(ctx, op, args)
	if err != nil {
		err = fmt.Errorf("redis %s: %s: %w", e.cfg.Address, op, err)
	}
	return result, err
}

func (e *Engine) do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	db, err := e.dial(ctx)
	if err != nil {
		return ferryman.Result{}, err
	}
	defer db.client.Close()
	// Only now: a process that came up after the marker was fenced is not the one that is connected, unless the fence is read here.
	st, err := e.load()
	if err != nil {
		return ferryman.Result{}, err
	}
	db.known = st
	in, err := ask(ctx, db.client)
	if err != nil {
		return ferryman.Result{}, err
	}
	st = st.with(in.hasKeys() || in.loading())
	switch op {
	case ferryman.OpInitialise:
		return db.initialise(st, in)
	case ferryman.OpPromote:
		return db.promote(ctx, st, in, args)
	case ferryman.OpFence:
		return db.fence(ctx, st, in, args)
	case ferryman.OpUnfence:
		return db.unfence(ctx, st, in, args)
	case ferryman.OpFollow:
		return db.follow(ctx, st, in, args)
	case ferryman.OpClone:
		return db.clone(ctx, st, in, args)
	case ferryman.OpConfigure:
		return db.configure(ctx, args)
	case ferryman.OpPreflight:
		return db.preflight(ctx, st, in, args)
	default:
		return db.verify(ctx, args)
	}
}

func (e *server) verify(ctx context.Context, args ferryman.Args) (ferryman.Result, error) {
	var in info
	err := dbhooks.Poll(ctx, func(ctx context.Context) (ok bool, why string, err error) {
		if in, err = ask(ctx, e.client); err != nil {
			return false, "", err
		}
		why = fmt.Sprintf("has %d of history %s and not %d of %s", in.position(), in.history(), args.Position, args.History)
		return args.History == "" || in.contains(args.History, args.Position), why, nil
	})
	if err != nil {
		return ferryman.Result{}, err
	}
	if version := in.version(); args.Version != "" && version != args.Version {
		err = fmt.Errorf("runs version %s and not %s", version, args.Version)
	}
	return ferryman.Result{Position: in.position(), History: in.history()}, err
}

// preflight reads the position of data that are applied: on a replica master_repl_offset moves with slave_repl_offset, by each command once it was
// executed. The same number is what a replica tells its primary (REPLCONF ACK), and WAIT, by which writes are acknowledged here, counts nothing else.
// So the position covers every write that was acknowledged because this instance has it, whether or not the link still stands. What was received and
// not executed, part of a command or of a transaction, was never told, and Redis drops it with the link.
func (e *server) preflight(ctx context.Context, st state, in info, args ferryman.Args) (ferryman.Result, error) {
	result := ferryman.Result{Position: in.position(), History: in.history()}
	if args.Version != "" {
		// A snapshot's format, which a full copy has too, only grows from release to release.
		result.NoReturn = release(args.Version) != release(in.version())
	}
	wrong, err := e.checkParameters(ctx, args.Parameters)
	if err != nil {
		return result, err
	}
	result.Blockers = wrong
	// What a replica has is the primary's, and cloned anew where that is older.
	if in.master() && older(args.Version, in.version()) {
		result.Blockers = append(result.Blockers, fmt.Sprintf("an older release cannot load what %s has written: name %[1]s or newer in the document, "+
			"or move the data by hand to a new cluster", release(in.version())))
	}
	if args.Epoch > 0 {
		if _, err := st.Promote(args.Epoch); err != nil {
			result.Blockers = append(result.Blockers, err.Error())
		}
		if err := e.promotable(st, in); err != nil {
			result.Blockers = append(result.Blockers, err.Error())
		}
		if !in.master() && !in.streaming() && !args.Alone {
			result.Blockers = append(result.Blockers, "it is not connected to a primary")
		}
	}
	return result, nil
}

// release is major.minor of a version.
func release(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// older tells whether version a is of an older release than b. A build that a person named otherwise is none.
func older(a, b string) bool {
	var old, now [2]int
	if n, _ := fmt.Sscanf(a, "%d.%d", &old[0], &old[1]); n < 2 {
		return false
	}
	n, _ := fmt.Sscanf(b, "%d.%d", &now[0], &now[1])
	return n == 2 && slices.Compare(old[:], now[:]) < 0
}

const (
	snapshotName = "dump.rdb"
	logName      = "appendonlydir"
)

// hasFiles says whether there is anything on disk that a start would load.
func (e *Engine) hasFiles() bool {
	parameters, err := e.parameters()
	if err != nil || e.hasLog(parameters) {
		return true
	}
	_, err = os.Stat(filepath.Join(e.cfg.Dir, snapshotName))
	return err == nil
}

// hasLog says whether the data are in a log of commands: one that is there is gone on with unless the parameters say no. Otherwise a Redis whose own
// configuration had one, which is adopted, or whose parameter was taken back, would start from a snapshot that is older, or from none.
func (e *Engine) hasLog(parameters map[string]string) bool {
	_, err := os.Stat(filepath.Join(e.cfg.Dir, logName))
	return err == nil && parameters["appendonly"] != "no"
}
