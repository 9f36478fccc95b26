package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"ferryman"
	"ferryman/agent"
	"ferryman/agent/config"
	"ferryman/dbhooks/demodb"
)

// TestMain plays the ferryman binary where it is called by one of its verbs, so
// that the tests need nothing but themselves.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		verb, ok := verbs[os.Args[1]]
		if !ok { // and not the tests, which would call themselves without an end
			os.Exit(failed(fmt.Errorf("there is no verb %q", os.Args[1])))
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := verb(ctx, os.Args[2:])
		stop()
		os.Exit(code)
	}
	// The tests mostly wait, each for a cluster of its own: more of them run at a
	// time than there are cores.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("4")
	}
	os.Exit(m.Run())
}

var verbs = map[string]func(context.Context, []string) int{
	"agent": func(ctx context.Context, args []string) int {
		cfg, err := config.Load(args[1], os.Environ()) // after --config
		if err != nil {
			return failed(err)
		}
		a, err := agent.New(cfg, agent.Deps{Version: "0.1.0-test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		if err == nil {
			err = a.Run(ctx)
		}
		switch {
		case errors.Is(err, agent.ErrRestart):
			return ferryman.ExitRestart
		case errors.Is(err, agent.ErrStopped), errors.Is(err, agent.ErrDeparted):
			return ferryman.ExitStay
		case err != nil:
			return failed(err)
		}
		return 0
	},
	"guard": func(ctx context.Context, args []string) int {
		// guard --spec FILE [--standby]
		if err := agent.RunGuard(ctx, args[1], len(args) > 2, "0.1.0-test", slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			return failed(err)
		}
		return 0
	},
	"demo-api-server": func(ctx context.Context, args []string) int {
		st := reopen(args[0])
		st.address = args[1]
		if l, ok := lanOf(st.address); ok {
			st.network = l
		}
		if err := st.runServer(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			return failed(err)
		}
		return 0
	},
	"demodb": func(ctx context.Context, args []string) int {
		return demodb.Main(ctx, args, os.Stdout, os.Stderr)
	},
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "ferryman:", err)
	return 1
}
