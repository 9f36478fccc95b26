package demodb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ferryman/dbhooks"
)

const usage = `usage: demodb serve --data DIR --listen HOST:PORT [--name HOST:PORT] [--home DIR] [--sync-replicas 0|1] [--fault NAME[=VALUE]]...
       demodb CLIENT-VERB --addr HOST:PORT [--timeout 10s] ...
client verbs, each printing one line of JSON:
       status | put KEY VALUE | get KEY | initialise | promote --epoch N | fence --epoch N | unfence --epoch N
       follow --from ADDR --epoch N | clone --from ADDR | wait --history ID --position N | reload
exit codes: 0 done, 1 failed, 2 wrong usage, 3 crashed on request (fault crashAfter), 4 epoch refused or fenced, 5 diverged, 75 not now
`

// Main is the program: a server, and a client for scripts. It returns the exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	var err error
	if args[0] == "serve" {
		err = serveMain(ctx, args[1:], stderr)
	} else {
		err = clientMain(ctx, args[0], args[1:], stdout)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "demodb: %v\n", err)
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(stderr, usage)
		return 2
	case errors.Is(err, errCrash):
		return 3
	case errors.Is(err, dbhooks.ErrEpoch), errors.Is(err, dbhooks.ErrFenced):
		return 4
	case errors.Is(err, dbhooks.ErrDiverged):
		return 5
	case errors.Is(err, context.DeadlineExceeded):
		return 75
	}
	return 1
}

var (
	errUsage = errors.New("wrong usage")
	errCrash = errors.New("crashing, as this release was made to (fault crashAfter)")
)

func serveMain(ctx context.Context, args []string, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	log := slog.New(slog.NewTextHandler(stderr, nil))
	cfg := Config{Log: log}
	flags.StringVar(&cfg.Dir, "data", "", "")
	flags.StringVar(&cfg.Listen, "listen", "", "")
	flags.StringVar(&cfg.Name, "name", "", "")
	flags.IntVar(&cfg.SyncReplicas, "sync-replicas", 1, "")
	home := flags.String("home", "", "")
	var faults []string
	flags.Func("fault", "", func(s string) error { faults = append(faults, s); return nil })
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || cfg.Dir == "" || cfg.Listen == "" {
		return fmt.Errorf("%w: serve %s: %w", errUsage, strings.Join(args, " "), cmp.Or(err, errors.New("--data and --listen are needed, and nothing else may follow")))
	}
	if cfg.SyncReplicas < 0 || cfg.SyncReplicas > 1 {
		return fmt.Errorf("%w: --sync-replicas %d: 0 or 1", errUsage, cfg.SyncReplicas)
	}
	if *home == "" {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		*home = filepath.Dir(filepath.Dir(program)) // from HOME/bin/demodb
	}
	var err error
	if cfg.Release, err = ReadRelease(*home); err != nil {
		return err
	}
	for _, f := range faults {
		name, value, _ := strings.Cut(f, "=")
		if err := cfg.Release.Faults.set(name, value); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	if cfg.Release.Faults.NoStart {
		return fmt.Errorf("version %s does not start: this release was made so (fault noStart)", cfg.Release.Version)
	}
	if after := cfg.Release.Faults.CrashAfter.Std(); after > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, after, errCrash)
		defer cancel()
	}
	return Serve(ctx, cfg, func(a net.Addr) {
		log.Info("listening", "version", cfg.Release.Version, "addr", a.String(), "data", cfg.Dir)
	})
}

func clientMain(ctx context.Context, verb string, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	req := request{Op: verb}
	addr := flags.String("addr", "", "")
	timeout := flags.Duration("timeout", 10*time.Second, "")
	flags.Uint64Var(&req.Epoch, "epoch", 0, "")
	flags.StringVar(&req.From, "from", "", "")
	flags.StringVar(&req.History, "history", "", "")
	flags.Uint64Var(&req.Position, "position", 0, "")
	if err := flags.Parse(args); err != nil || *addr == "" {
		return fmt.Errorf("%w: %s: %w", errUsage, verb, cmp.Or(err, errors.New("--addr is needed")))
	}
	req.Key, req.Value = flags.Arg(0), flags.Arg(1)
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	client := Dial(*addr)
	defer client.Close()
	res, err := client.do(ctx, req)
	if err != nil {
		return err
	}
	if res.Status != nil {
		return json.NewEncoder(stdout).Encode(res.Status)
	}
	// In the words of ferryman.Result, so that a hook can pass it on.
	return json.NewEncoder(stdout).Encode(res)
}
