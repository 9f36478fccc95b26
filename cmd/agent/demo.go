package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ferryman/dbhooks/demodb"
	"ferryman/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	var stop string
	c := &cobra.Command{Use: "demo", Short: "Show a cluster on this machine: upgrade, loss, growth, restart, a bad release", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if stop != "" {
				return demo.Stop(stop)
			}
			o.Out = c.OutOrStdout()
			if f, ok := o.Out.(*os.File); ok {
				o.Width, _, _ = term.GetSize(int(f.Fd()))
			}
			return demo.Run(c.Context(), o)
		}}
	c.Flags().StringVar(&o.Engine, "engine", "demodb", "the database: demodb or redis")
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave the cluster running, and print how to talk to it")
	c.Flags().BoolVar(&o.Plain, "plain", false, "lines rather than a live view")
	c.Flags().StringVar(&stop, "stop", "", "end the demo that was left running in this directory, and remove it")
	return c
}

// demoAPIServerCommand is the demo's own api-server process.
func demoAPIServerCommand() *cobra.Command {
	return &cobra.Command{Use: "demo-api-server DIR ADDRESS", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return demo.ServeAPI(c.Context(), args[0], args[1], slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)))
		}}
}

// demodbCommand is the demo database itself.
func demodbCommand() *cobra.Command {
	return &cobra.Command{Use: "demodb", Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			if code := demodb.Main(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr()); code != 0 {
				return exitStatus{code: code}
			}
			return nil
		}}
}
