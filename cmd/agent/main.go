// The ferryman binary: the agent beside a database node, the reference
// api-server, the demo, and the verbs by which a person talks to a cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "0.1.0-dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program; it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	// What fails before a verb begins was wrong on the command line.
	began := false
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var status exitStatus
	if errors.As(err, &status) {
		if status.err != nil {
			complain(stderr, status.err)
		}
		return status.code
	}
	if !began {
		complain(stderr, fmt.Errorf("%w; `%s --help` says how it is meant", err, c.CommandPath()))
		return exitUsage
	}
	complain(stderr, err)
	return exitCode(err)
}

// The groups of verbs in the help.
const (
	groupWatch  = "watch"
	groupChange = "change"
	groupSetUp  = "set-up"
	groupRun    = "run"
)

func newRoot() *cobra.Command {
	root := family("ferryman", "Carry a database cluster on plain hosts across versions, losses and changes of size")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; `%s --help` lists what there is", err, c.CommandPath())
	})
	add := func(id, title string, verbs ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range verbs {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add(groupWatch, "See what happens:", statusCommand(), nodesCommand(), planCommand(), rolloutCommand(), eventsCommand(), debugCommand())
	add(groupChange, "Ask for something:", switchoverCommand(), failoverCommand(), restartCommand(), freezeCommand(), unfreezeCommand(), adoptCommand(), stopCommand(), leaveCommand())
	add(groupSetUp, "Set up:", setupCommand(), initCommand(), joinCommand(), certsCommand(), configCommand(), desiredCommand())
	add(groupRun, "Run:", agentCommand(), apiServerCommand(), demoCommand())
	root.AddCommand(demoAPIServerCommand(), demodbCommand(), databaseCommand(), guardCommand(), installCommand(), watchCommand(), manCommand(), versionCommand(), exitCodesTopic())
	return root
}

// family is a verb that only has verbs below it. Cobra alone would answer an
// unknown one with the help and success.
func family(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := fmt.Sprintf("`%s --help` lists the verbs", c.CommandPath())
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				hint = fmt.Sprintf("did you mean `%s %s`?", c.CommandPath(), near[0])
			}
			return usage("unknown verb %q; %s", args[0], hint)
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(verbs...)
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), version)
			return err
		}}
}
