package guard_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/guard"
	"ferryman/dbhooks"
)

// TestMain plays the ferryman binary where it is called as a guard, and an agent that only arms one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard":
			os.Exit(exit(runGuard(os.Args[2:])))
		case "agent":
			os.Exit(exit(runAgent(os.Args[2])))
		}
	}
	os.Exit(m.Run())
}

func exit(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runGuard(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("guard", flag.ExitOnError)
	path := flags.String("spec", "", "")
	standby := flags.Bool("standby", false, "")
	alone := flags.Bool("alone", false, "")
	version := flags.String("version", "1", "")
	hang := flags.Duration("hang", 0, "")
	slow := flags.Duration("slow", 0, "a start that takes its time")
	_ = flags.Parse(args)
	time.Sleep(*slow)
	spec, err := guard.ReadSpec(*path)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return guard.Run(ctx, guard.Config{
		Spec: spec, Version: *version, Program: program, Args: []string{"guard", "--version", *version, "--hang", hang.String(), "--spec", *path},
		Hang: *hang, Standby: *standby, Alone: *alone,
		Log:    slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Engine: func(context.Context) (dbhooks.Engine, error) { return fileEngine{dir: spec.Database.Dir}, nil },
		Ready: func() {
			if *alone {
				fmt.Println("ready")
			}
		},
	})
}

// fileEngine says what is in a file.
type fileEngine struct {
	dbhooks.Engine
	dir string
}

func (e fileEngine) Status(context.Context) (in ferryman.Instance, err error) {
	raw, err := os.ReadFile(filepath.Join(e.dir, "instance.json"))
	if err == nil {
		err = json.Unmarshal(raw, &in)
	}
	return in, err
}

// runAgent arms a guard for long, says so, and waits for its end.
func runAgent(path string) error {
	spec, err := guard.ReadSpec(path)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	c, err := guard.Start(context.Background(), spec, program, "guard")
	if err != nil {
		return err
	}
	if _, err := c.Arm(context.Background(), 1, guard.Boottime()+time.Hour); err != nil {
		return err
	}
	fmt.Println("armed")
	select {}
}
