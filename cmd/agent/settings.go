package main

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ferryman/agent/config"
	"ferryman/agent/setup"
)

// defaultConfig is where an agent's configuration is.
const defaultConfig = setup.DefaultConfig

// socketEnv names the control socket for people's verbs.
const socketEnv = "FERRYMAN_SOCKET"

// environment is what overrides a configuration: without the variables that
// are for verbs, which the configuration would refuse as unknown.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, socketEnv+"=") || strings.HasPrefix(kv, "FERRYMAN_REDIS_RELEASES=")
	})
}

// configFlag lets a verb read the agent's configuration.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", defaultConfig, "the agent's configuration")
}

// loadConfig reads the agent's configuration as the agent does.
func loadConfig(path string) (config.Config, error) { return config.Load(path, environment()) }
