package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"ferryman/agent"
)

// databaseCommand is what the database's unit starts, once `ferryman setup`
// said so.
func databaseCommand() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "database", Short: "Become the database of this node, without writes", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return unusable(err)
			}
			run, err := agent.DatabaseCommand(c.Context(), cfg, newLogger(c.ErrOrStderr(), cfg.Log))
			if err != nil {
				return fmt.Errorf("start %s without writes: %w", cfg.Database.Slot, err)
			}
			program, err := exec.LookPath(run.Exec[0])
			if err == nil && run.Dir != "" {
				err = os.Chdir(run.Dir)
			}
			if err == nil {
				err = syscall.Exec(program, run.Exec, run.Env)
			}
			return fmt.Errorf("start %s without writes: %w", cfg.Database.Slot, err)
		}}
	configFlag(c, &path)
	return c
}
