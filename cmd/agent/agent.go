package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"ferryman/agent"
	"ferryman/agent/config"
	"ferryman/agent/telemetry"
	"ferryman/systemd"
)

func agentCommand() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "agent", Short: "Run the agent beside a database node", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			log := newLogger(c.ErrOrStderr(), cfg.Log)
			a, err := agent.New(cfg, agent.Deps{Log: log, Version: version, Ready: func() {
				if err := systemd.Ready(); err != nil {
					log.Warn("systemd was not told that the agent serves", "error", err)
				}
			}})
			if err != nil {
				return err
			}
			err = a.Run(c.Context())
			if errors.Is(err, agent.ErrRestart) {
				return exitStatus{code: exitRestart}
			}
			if errors.Is(err, agent.ErrDeparted) {
				// systemd takes one that ends before it was ready for a failure, and starts it again.
				_ = systemd.Ready()
				_ = systemd.Say(err.Error())
				fmt.Fprintln(c.ErrOrStderr(), "ferryman:", err)
				return nil // it is over, and not to be started again
			}
			return err
		}}
	configFlag(c, &path)
	return c
}

// newLogger writes to w, and text to the journal with its fields where w is its
// stream.
func newLogger(w io.Writer, l config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	if telemetry.OnJournal(w) {
		if h, err := telemetry.NewJournal(telemetry.JournalSocket, w, level); err == nil {
			return slog.New(h)
		} // else its stream takes lines
	}
	return slog.New(slog.NewTextHandler(w, options))
}
