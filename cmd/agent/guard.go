package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"ferryman/agent"
	"ferryman/agent/guard"
	"ferryman/dbhooks"
	"ferryman/systemd"
)

// guardCommand is what the agent, or its unit, starts.
func guardCommand() *cobra.Command {
	var path string
	var standby bool
	c := &cobra.Command{Use: "guard", Short: "Fence the database when its lease is over", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			spec, err := guard.ReadSpec(path)
			if err != nil {
				return err
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			return guard.Run(c.Context(), guard.Config{
				Spec: spec, Version: version, Program: program, Args: []string{"guard", "--spec", path},
				Standby: standby, Alone: os.Getenv("NOTIFY_SOCKET") != "", Log: log,
				Engine: func(ctx context.Context) (dbhooks.Engine, error) {
					return agent.NewEngine(ctx, spec.Engine, spec.Database, spec.PasswordFile, spec.Exec)
				},
				Watchdog: systemd.Watchdog,
				Ready: func() {
					if err := systemd.Ready(); err != nil {
						log.Warn("systemd was not told that the guard holds", "error", err)
					}
				},
			})
		}}
	c.Flags().StringVar(&path, "spec", "", "the file in which the agent wrote what it is for")
	c.Flags().BoolVar(&standby, "standby", false, "wait for the place of the guard that runs")
	_ = c.MarkFlagRequired("spec") // it is there
	return c
}
