package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"ferryman/agent"
	"ferryman/agent/config"
)

func configCommand() *cobra.Command {
	return family("config", "Check and show the configuration of this host", configValidateCommand(), configShowCommand())
}

func configValidateCommand() *cobra.Command {
	var path string
	var server bool
	c := &cobra.Command{Use: "validate", Short: "Tell all that is wrong with a configuration", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if server {
				_, err = config.LoadAPIServer(path, environment())
			} else {
				var cfg config.Config
				if cfg, err = loadConfig(path); err == nil {
					if _, err = agent.TrustedKeys(cfg.Source); err != nil {
						err = fmt.Errorf("%s: %w", path, err)
					}
				}
			}
			if err != nil {
				return unusable(err)
			}
			say(c, "%s is good", path)
			return nil
		}}
	configFlag(c, &path)
	c.Flags().BoolVar(&server, "api-server", false, "it is that of an api-server")
	return c
}

func configShowCommand() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "show", Short: "Print the configuration in force: file, drop-ins, environment, defaults; no secrets", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return unusable(err)
			}
			raw, err := config.Marshal(cfg.Redacted())
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(raw)
			return err
		}}
	configFlag(c, &path)
	return c
}

// unusable is what a configuration or document that cannot be read exits with.
func unusable(err error) error { return exitStatus{exitUsage, err} }
