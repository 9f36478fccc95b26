package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ferryman/agent/setup"
)

func setupCommand() *cobra.Command {
	var path, root string
	var remove bool
	c := &cobra.Command{Use: "setup", Short: "Make this host fit for its agent: units, users, and what the agent may do (as root)", Args: cobra.NoArgs,
		Long: "Make this host fit for its agent. Where systemd runs the database (database.supervisor), a drop-in keeps the database's unit\n" +
			"from coming up with writes, agent and guard run as the database's user, and a polkit rule allows the agent that unit.\n" +
			"It says what it writes, and changes nothing the second time. Nothing is started or stopped.",
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 && root == "" {
				return errors.New("setup: it writes below /etc: run it as root (sudo ferryman setup)")
			}
			h := setup.Host{Root: root, Out: c.OutOrStdout()}
			if remove {
				if err := h.Remove(); err != nil {
					return fmt.Errorf("setup --remove: %w", err)
				}
				return nil
			}
			cfg, err := loadConfig(filepath.Join(root, path))
			if err != nil {
				return unusable(err)
			}
			if err := h.Apply(cfg, path); err != nil {
				return fmt.Errorf("setup: %w", err)
			}
			return nil
		}}
	configFlag(c, &path)
	c.Flags().BoolVar(&remove, "remove", false, "undo it: the database's unit is again as its own package made it")
	c.Flags().StringVar(&root, "root", "", "write below this directory, for a host that does not run (an image)")
	return c
}
