package exec_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/dbhooks/conformance"
	"ferryman/dbhooks/demodb"
	"ferryman/dbhooks/exec"
)

// TestMain makes the test binary a demodb, as the ferryman binary is one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "demodb" {
		os.Exit(demodb.Main(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestExample tries the worked example as its user would try his own.
func TestExample(t *testing.T) {
	hook, err := filepath.Abs("../../configs/exec/demodb")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A binary with the race detector sleeps for a second at each end, unless told otherwise; the example runs many.
	program := script(t, "GORACE=atexit_sleep_ms=0 exec '"+binary+"' \"$@\"")
	conformance.Run(t, conformance.Suite{
		New: func(cfg dbhooks.Config) dbhooks.Engine {
			cfg.Program = program
			e, err := exec.New(context.Background(), cfg, hook)
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		Put: func(ctx context.Context, cfg dbhooks.Config, key, value string) error {
			c := demodb.Dial(cfg.Address)
			defer c.Close()
			return c.Put(ctx, key, value)
		},
		Get: func(ctx context.Context, cfg dbhooks.Config, key string) (string, bool, error) {
			c := demodb.Dial(cfg.Address)
			defer c.Close()
			return c.Get(ctx, key)
		},
		SyncReplicas: 1,
	})
}

// hook writes a program whose traits allow promote, and which otherwise does what body says.
func hook(t *testing.T, body string) string {
	t.Helper()
	return script(t, "if [ \"$1\" = traits ]; then echo '{\"primaries\":1,\"ops\":[\"promote\"]}'; exit; fi\n"+body)
}

func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	// No fork may happen meanwhile: its child would hold the file open for writing, and the kernel refuses to run such a file.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, body string) *exec.Engine {
	t.Helper()
	e, err := exec.New(t.Context(), dbhooks.Config{Address: "127.0.0.1:9", Dir: t.TempDir(), Password: "secret"}, hook(t, body))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExitCodesAndOutput(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       error // nil: any
		say        string
	}{
		{"failed", "echo the disk is full >&2; exit 1", nil, "the disk is full"},
		{"unsupported", "exit 2", ferryman.ErrUnsupported, ""},
		{"epoch", "exit 4", dbhooks.ErrEpoch, ""},
		{"diverged", "exit 5", dbhooks.ErrDiverged, ""},
		{"try again", "exit 75", ferryman.ErrUnavailable, ""},
		{"not JSON", "echo done", exec.ErrOutput, ""},
		{"unknown field", `echo '{"postion": 3}'`, exec.ErrOutput, "postion"},
		{"two values", `echo '{}{}'`, exec.ErrOutput, "more than one"},
		{"too much", "yes | head -c 100000", exec.ErrOutput, "65536"},
		{"a long reason is cut", "yes | head -c 100000 >&2; echo the end >&2; exit 1", nil, "the end"},
		{"leaves a process behind", "sleep 1000 & echo '{}'", nil, "left a process behind"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := open(t, test.body).Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 3})
			switch {
			case err == nil:
				t.Fatal("got nil, want an error")
			case test.want != nil && !errors.Is(err, test.want):
				t.Errorf("got %v, want %v", err, test.want)
			case !strings.Contains(err.Error(), test.say):
				t.Errorf("got %q, want it to say %q", err, test.say)
			case len(err.Error()) > 5000:
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestTimeKillsTheWholeGroup(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "fifo")
	// The grandchild holds the pipe's other end open for as long as it lives: the read below ends when it is gone.
	e := open(t, `mkfifo "`+mark+`"; (exec sleep 1000 >"`+mark+`") & wait`)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := e.Do(ctx, ferryman.OpPromote, ferryman.Args{Epoch: 1})
		answer <- err
	}()
	wait, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	err := dbhooks.Poll(wait, func(context.Context) (bool, string, error) {
		_, err := os.Stat(mark)
		return err == nil, "no fifo yet", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := os.Open(mark) // returns once the grandchild has it open too
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := pipe.Read(make([]byte, 1)); err == nil {
		t.Error("something was written")
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("FROM_THE_AGENT", "1")
	e := open(t, `if [ -n "${FROM_THE_AGENT:-}" ]; then echo leaked >&2; exit 1; fi
[ "$FERRYMAN_EPOCH" = 3 ] && [ "$FERRYMAN_ALONE" = true ] && [ "$FERRYMAN_PASSWORD" = secret ] && [ "$FERRYMAN_ADDRESS" = 127.0.0.1:9 ] || { env >&2; exit 1; }
grep -q '"epoch":3,"alone":true' || { echo no JSON on stdin >&2; exit 1; }
echo '{"position": 7, "history": "h"}'`)
	got, err := e.Do(t.Context(), ferryman.OpPromote, ferryman.Args{Epoch: 3, Alone: true})
	if err != nil || got.Position != 7 || got.History != "h" {
		t.Errorf("got %+v, %v; want position 7 of h", got, err)
	}
}
