package redis_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/dbhooks/redis"
	"ferryman/demo/port"
)

// byHand is where a server is to be, and the command with which its user runs it there.
func byHand(t *testing.T, program string) (cfg dbhooks.Config, command []string) {
	t.Helper()
	cfg = dbhooks.Config{Address: port.Free(), Dir: t.TempDir(), Program: program}
	host, number, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, []string{program, "--bind", host, "--port", number}
}

// run starts a server of any command and waits for it. It is ended by the function that is returned, or by the test's end.
func run(t *testing.T, e dbhooks.Engine, dir string, command ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := dbhooks.Poll(ctx, func(ctx context.Context) (bool, string, error) {
		in, err := e.Status(ctx)
		return in.Running && in.Version != "" && in.Reason != "loads its data", in.Reason, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return stop
}

// A Redis that holds keys since before there was an agent is a database: nothing is made in its place, and it can be promoted. Its keys survive that, and
// the starts that follow.
func TestDataFromBeforeAreAdopted(t *testing.T) {
	t.Parallel()
	program := server(t)
	for _, tt := range []struct {
		name string
		own  []string // of the user's configuration
		live bool     // it is adopted as it runs; else it is started by the agent first
	}{
		{"as it runs", nil, true},
		{"with a snapshot", nil, false},
		{"with a log of commands", []string{"--appendonly", "yes", "--save", ""}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, command := byHand(t, program)
			e := redis.New(cfg)
			stop := run(t, e, cfg.Dir, append(command, tt.own...)...)
			look := func(what string, want ferryman.Instance) {
				t.Helper()
				in, err := e.Status(t.Context())
				got := ferryman.Instance{Running: in.Running, Initialised: in.Initialised, Writable: in.Writable, Healthy: in.Healthy}
				if err != nil || got.Running != want.Running || got.Initialised != want.Initialised || got.Writable != want.Writable || got.Healthy != want.Healthy {
					t.Errorf("%s: got %+v (%s), %v; want %+v", what, got, in.Reason, err, want)
				}
			}
			look("an empty server", ferryman.Instance{Running: true, Writable: true})
			c := client(cfg)
			defer c.Close()
			has := func(what string, keys ...string) {
				t.Helper()
				for _, k := range keys {
					if v, ok, err := get(t.Context(), cfg, k); v != "1" || !ok || err != nil {
						t.Errorf("%s: %s is %q, %v, %v; want 1", what, k, v, ok, err)
					}
				}
			}
			restart := func() {
				t.Helper()
				stop()
				command, err := e.Command(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				stop = run(t, e, cfg.Dir, command.Exec...)
			}
			if err := c.Set(t.Context(), "mine", "1", 0).Err(); err != nil {
				t.Fatal(err)
			}
			look("one with a key", ferryman.Instance{Running: true, Initialised: true, Writable: true})
			if _, err := e.Do(t.Context(), ferryman.OpInitialise, ferryman.Args{}); !errors.Is(err, ferryman.ErrConflict) {
				t.Errorf("initialise: got %v, want a conflict", err)
			}
			if !tt.live {
				stop()
				look("while it is down", ferryman.Instance{Initialised: true})
				restart()
				look("started by the agent", ferryman.Instance{Running: true, Initialised: true})
			}
			if _, err := e.Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 1}); err != nil {
				t.Fatal(err)
			}
			look("promoted", ferryman.Instance{Running: true, Initialised: true, Writable: true, Healthy: true})
			has("promoted", "mine")
			if err := c.Set(t.Context(), "next", "1", 0).Err(); err != nil {
				t.Fatal(err)
			}
			restart()
			look("started again", ferryman.Instance{Running: true, Initialised: true})
			if _, err := e.Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 1}); err != nil {
				t.Fatal(err)
			}
			has("started again", "mine", "next")
		})
	}
}

// Data from before are set aside where another's take their place, and half of a copy is no database.
func TestDataFromBeforeAreSetAside(t *testing.T) {
	t.Parallel()
	program := server(t)
	var engines []*redis.Engine
	var configs []dbhooks.Config
	for _, key := range []string{"theirs", "mine"} {
		cfg, command := byHand(t, program)
		e := redis.New(cfg)
		run(t, e, cfg.Dir, command...)
		c := client(cfg)
		if err := errors.Join(c.Set(t.Context(), key, "1", 0).Err(), c.Close()); err != nil {
			t.Fatal(err)
		}
		engines, configs = append(engines, e), append(configs, cfg)
	}
	if _, err := engines[0].Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	args := ferryman.Args{Epoch: 1, From: configs[0].Address}
	if _, err := engines[1].Do(t.Context(), ferryman.OpFollow, args); !errors.Is(err, dbhooks.ErrDiverged) {
		t.Errorf("follow: got %v, want that it diverged", err)
	}
	gone := args
	gone.From = "127.0.0.1:1"
	if _, err := engines[1].Do(t.Context(), ferryman.OpClone, gone); err == nil {
		t.Error("a copy of nobody's: got nil, want an error")
	}
	result, err := engines[1].Do(t.Context(), ferryman.OpClone, args)
	if err != nil || filepath.Dir(result.SetAside) != configs[1].Dir {
		t.Fatalf("clone: got %+v, %v; want the old data set aside in %s", result, err, configs[1].Dir)
	}
	if info, err := os.Stat(result.SetAside); err != nil || info.Size() == 0 {
		t.Errorf("what was set aside: got %v, %v", info, err)
	}
	if v, ok, err := get(t.Context(), configs[1], "theirs"); v != "1" || !ok || err != nil {
		t.Errorf("the copy: theirs is %q, %v, %v; want 1", v, ok, err)
	}
	if _, ok, err := get(t.Context(), configs[1], "mine"); ok || err != nil {
		t.Errorf("the copy: mine is there: %v, %v", ok, err)
	}
}
