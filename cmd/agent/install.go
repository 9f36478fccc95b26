package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ferryman/agent/installer"
	"ferryman/agent/setup"
	"ferryman/upgrade/install"
)

// installCommand is what ferryman-install@.service runs, as root.
func installCommand() *cobra.Command {
	var instance string
	c := &cobra.Command{Use: "install", Short: "Carry out what an agent asks of root: stage or switch a package", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("install: it installs packages, and is run by ferryman-install@.service alone")
			}
			r := installer.Root{Run: installer.RunDir, State: installer.StateDir, List: installer.List, Config: setup.DefaultConfig, Environ: environment(),
				Manager: packageManager}
			if err := r.Do(c.Context(), instance); err != nil {
				return fmt.Errorf("install: %w", err)
			}
			return nil
		}}
	c.Flags().StringVar(&instance, "instance", "", "what is asked for: the instance of the unit")
	_ = c.MarkFlagRequired("instance") // it is there
	return c
}

// packageManager is that of this host.
func packageManager() (installer.Manager, error) {
	host, keep := install.OnHost{}, install.Keep(installer.KeepDir(installer.StateDir))
	tool, err := install.ToolOf(host, keep)
	return install.Manager{Keep: keep, Host: host, Patience: 30 * time.Second, Tool: tool}, err
}
