package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"

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
			if program := agent.Launch(cfg, log); program != "" {
				err := syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
				log.Error("the installed agent runs, as its current release cannot", "program", program, "error", err)
			}
			a, err := agent.New(cfg, agent.Deps{Log: log, Version: version, Ready: func() {
				if err := systemd.Ready(); err != nil {
					log.Warn("systemd was not told that the agent serves", "error", err)
				}
			}})
			if err != nil {
				return err
			}
			switch err := a.Run(c.Context()); {
			case errors.Is(err, agent.ErrRestart):
				return exitStatus{code: exitRestart}
			case errors.Is(err, agent.ErrStopped):
				return exitStatus{code: exitStay}
			case errors.Is(err, agent.ErrDeparted):
				// systemd takes one that ends before it was ready for a failure, whatever its status.
				_ = systemd.Ready()
				_ = systemd.Say(err.Error())
				if agent.IsRelease(cfg) {
					// No release's word alone keeps a host down: the installed agent is started next, and finds the same.
					fmt.Fprintln(c.ErrOrStderr(), "ferryman:", err)
					return nil
				}
				return exitStatus{exitStay, err}
			default:
				return err
			}
		}}
	configFlag(c, &path)
	return c
}

// watchCommand is what the agent that the host has installed starts beside a
// release of it that is on trial.
func watchCommand() *cobra.Command {
	var store string
	var pid int
	var step uint64
	var detach bool
	c := &cobra.Command{Use: "watch-trial", Short: "End an agent whose release is not back in the cluster in time", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if detach {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				again := exec.Command(self, "watch-trial", "--store", store, "--agent", fmt.Sprint(pid), "--step", fmt.Sprint(step))
				again.Stderr, again.SysProcAttr = os.Stderr, &syscall.SysProcAttr{Setsid: true}
				return again.Start()
			}
			return agent.WatchTrial(c.Context(), store, pid, step, newLogger(c.ErrOrStderr(), config.Default().Log))
		}}
	c.Flags().StringVar(&store, "store", "", "where the releases are")
	c.Flags().IntVar(&pid, "agent", 0, "the agent's process")
	c.Flags().Uint64Var(&step, "step", 0, "the step that began the trial")
	c.Flags().BoolVar(&detach, "detach", false, "go on as a process that is nobody's child")
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
