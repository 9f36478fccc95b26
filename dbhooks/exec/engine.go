package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ferryman"
	"ferryman/dbhooks"
)

// Engine is a program that keeps the contract; it is a dbhooks.Engine.
type Engine struct {
	cfg    dbhooks.Config
	hook   string
	traits ferryman.Traits
}

// New asks the program at the path hook for its traits, once.
func New(ctx context.Context, cfg dbhooks.Config, hook string) (*Engine, error) {
	e := &Engine{cfg: cfg, hook: hook}
	if err := e.call(ctx, "traits", ferryman.Args{}, nil, &e.traits); err != nil {
		return nil, fmt.Errorf("engine exec: %w", err)
	}
	for _, op := range e.traits.Ops {
		if !op.ByEngine() {
			return nil, fmt.Errorf("engine exec: %s traits: %w: %q is no operation of an engine", hook, ferryman.ErrInvalid, op)
		}
	}
	return e, nil
}

// Traits are what the program answered first.
func (e *Engine) Traits() ferryman.Traits {
	t := e.traits
	t.Tiers, t.Ops = slices.Clone(t.Tiers), slices.Clone(t.Ops)
	return t
}

// Status runs `status`. A program that takes too long is taken for a database that does not answer.
func (e *Engine) Status(ctx context.Context) (ferryman.Instance, error) {
	var in ferryman.Instance
	err := e.call(ctx, "status", ferryman.Args{}, nil, &in)
	if err != nil && (ctx.Err() != nil || errors.Is(err, ferryman.ErrUnavailable)) {
		return ferryman.Instance{Running: true, Reason: "does not answer: " + err.Error()}, nil
	}
	return in, err
}

// Do runs the operation.
func (e *Engine) Do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	var result ferryman.Result
	if !e.traits.Can(op) {
		return result, fmt.Errorf("%s: %s: %w", e.hook, op, ferryman.ErrUnsupported)
	}
	return result, e.call(ctx, string(op), args, nil, &result)
}

// Command runs `command`.
func (e *Engine) Command(ctx context.Context, home string) (dbhooks.Command, error) {
	var c dbhooks.Command
	if err := e.call(ctx, "command", ferryman.Args{}, []string{"FERRYMAN_HOME=" + home}, &c); err != nil {
		return c, err
	}
	if len(c.Exec) == 0 {
		return c, fmt.Errorf("%s command: %w: exec is empty", e.hook, ErrOutput)
	}
	return c, nil
}

func (e *Engine) call(ctx context.Context, op string, args ferryman.Args, env []string, answer any) error {
	input, err := json.Marshal(args)
	if err != nil {
		return err
	}
	out, err := Run(ctx, e.hook, op, append(e.environment(args), env...), input)
	if err != nil || len(bytes.TrimSpace(out)) == 0 && op != "status" && op != "traits" {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(answer); err != nil {
		return fmt.Errorf("%s %s: %w: %w", e.hook, op, ErrOutput, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s %s: %w: more than one JSON value", e.hook, op, ErrOutput)
	}
	return nil
}

func (e *Engine) environment(args ferryman.Args) []string {
	env := []string{
		"FERRYMAN_ADDRESS=" + e.cfg.Address, "FERRYMAN_LISTEN=" + e.cfg.Bind(), "FERRYMAN_DIR=" + e.cfg.Dir, "FERRYMAN_PROGRAM=" + e.cfg.Program,
		"FERRYMAN_USERNAME=" + e.cfg.Username, "FERRYMAN_PASSWORD=" + e.cfg.Password,
	}
	for _, name := range slices.Sorted(maps.Keys(e.cfg.Extra)) {
		env = append(env, "FERRYMAN_EXTRA_"+strings.ToUpper(name)+"="+e.cfg.Extra[name])
	}
	given := func(name, value string) {
		if value != "" && value != "0" {
			env = append(env, name+"="+value)
		}
	}
	given("FERRYMAN_EPOCH", strconv.FormatUint(args.Epoch, 10))
	given("FERRYMAN_FROM", args.From)
	given("FERRYMAN_HISTORY", args.History)
	given("FERRYMAN_POSITION", strconv.FormatUint(args.Position, 10))
	given("FERRYMAN_VERSION", args.Version)
	if args.Alone {
		given("FERRYMAN_ALONE", "true")
	}
	return env
}

var _ dbhooks.Engine = (*Engine)(nil)
