package main

import (
	"github.com/spf13/cobra"

	"ferryman/agent"
	"ferryman/agent/config"
)

// guardCommand is what the agent, or its unit, starts.
func guardCommand() *cobra.Command {
	var path string
	var standby bool
	c := &cobra.Command{Use: "guard", Short: "Fence the database when its lease is over", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return agent.RunGuard(c.Context(), path, standby, version, newLogger(c.ErrOrStderr(), config.Default().Log))
		}}
	c.Flags().StringVar(&path, "spec", "", "the file in which the agent wrote what it is for")
	c.Flags().BoolVar(&standby, "standby", false, "wait for the place of the guard that runs")
	_ = c.MarkFlagRequired("spec") // it is there
	return c
}
