package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/guard"
	"ferryman/agent/runner"
	"ferryman/systemd"
	"ferryman/upgrade/install"
)

// The service manager always starts the agent that the host has installed. That
// one looks for the release that is current, counts its starts while it is on
// trial, and becomes it. A release that does not hold is put back by the next
// start: by code that is not the release's own.

// Launch returns the program that is to run in the place of this one, for an
// agent; empty means this one. While a release is on trial a watch over it
// begins, which ends what is not back in the cluster in time.
//
// What keeps it from knowing is said in the log, and this program runs: a host
// without an agent could not be mended by the cluster.
func Launch(cfg config.Config, log *slog.Logger) string {
	store, self, ok := launcher(cfg, log)
	if !ok {
		return ""
	}
	if runner.ReadDeparted(openJournal(cfg)) != "" {
		return "" // this program says so, in a way that its unit understands
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		log.Error("which boot of the host this is cannot be read", "error", err)
	}
	trial, err := store.Start(ferryman.AgentEngine, strings.TrimSpace(string(boot)), guard.Boottime())
	if err != nil {
		log.Error("the installed agent runs, as the trial of its release can be neither counted nor ended", "error", err)
		return ""
	}
	if trial.Open() && !trial.Arrived {
		if err := startWatch(store.Base(), self, trial.Step); err != nil {
			log.Error("nobody watches over the agent's release", "error", err)
		}
	}
	return program(store, log)
}

// launcher is the store of releases, and this program, if that is the one which
// looks: no release does, and nobody where there are none.
func launcher(cfg config.Config, log *slog.Logger) (store *install.Store, self string, ok bool) {
	if _, err := os.Stat(storeDir(cfg)); errors.Is(err, fs.ErrNotExist) {
		return nil, "", false
	}
	store, err := install.Open(storeDir(cfg), install.Options{Log: log})
	if err == nil {
		self, err = os.Executable()
	}
	if err != nil {
		log.Error("the installed agent runs, as the releases cannot be looked at", "error", err)
		return nil, "", false
	}
	_, release := store.Holds(ferryman.AgentEngine, self)
	return store, self, !release
}

// IsRelease tells whether this program is a release's, and not what the host
// has installed.
func IsRelease(cfg config.Config) bool {
	store, err := install.Open(storeDir(cfg), install.Options{})
	return err == nil && runningRelease(store) != ""
}

// openJournal is the runner's record of what ran on this node.
func openJournal(cfg config.Config) runner.File {
	return runner.OpenFile(filepath.Join(cfg.DataDir, "journal.json"))
}

// program is that of the release that is current; empty when none is.
func program(store *install.Store, log *slog.Logger) string {
	in, err := store.Current(ferryman.AgentEngine)
	if errors.Is(err, install.ErrNone) {
		return ""
	}
	path := programOf(in.Path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		log.Error("the installed agent runs, as its current release cannot", "error", err)
		return ""
	}
	return path
}

// programOf is where a release of the agent has its program.
func programOf(dir string) string { return filepath.Join(dir, "bin", "ferryman") }

// runningRelease is the digest of the release that this process runs from;
// empty when it is the installed agent.
func runningRelease(store *install.Store) string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	in, ok := store.Holds(ferryman.AgentEngine, self)
	if !ok {
		return ""
	}
	return in.Release().Digest()
}

// checkTime is how long a program may take to say which version it is.
const checkTime = 10 * time.Second

// checkAgent refuses a release of the agent whose program cannot run here, or
// is another version than the document says.
func checkAgent(ctx context.Context, engine, version, dir string) error {
	if engine != ferryman.AgentEngine {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	c := exec.CommandContext(ctx, programOf(dir), "version")
	c.Env, c.Dir, c.WaitDelay = []string{"PATH=/usr/bin:/bin"}, dir, time.Second
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Run(); err != nil {
		return fmt.Errorf("its bin/ferryman cannot run on this host (`bin/ferryman version`: %w); is it for another kind of machine?", err)
	}
	if said := strings.TrimSpace(out.String()); said != version {
		return fmt.Errorf("its bin/ferryman says that it is version %q, and the document says %q", said, version)
	}
	return nil
}

// prove has the runner note what the cluster knows of this agent's release.
func (n *node) prove(ctx context.Context) {
	for {
		status, changed := n.board.look()
		s, _ := n.store.State()
		if status.Leader != "" { // else the state is one of before
			if err := n.runner.Prove(n.id, s); err != nil {
				n.log.Warn("how far the agent's release has come could not be written down; it is put back if that lasts", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// startWatch starts a watch over this process, whatever program it becomes: a
// process that is nobody's child, so that no agent has to reap it.
func startWatch(base, self string, step uint64) error {
	args := []string{"watch-trial", "--store", base, "--agent", fmt.Sprint(os.Getpid()), "--step", fmt.Sprint(step)}
	c := exec.Command(self, append(args, "--detach")...)
	c.Stderr = os.Stderr
	return c.Run()
}

// WatchTrial ends the process of an agent whose release was not back in the
// cluster in time, so that its next start puts back what was there before. It
// returns when there is nothing to be watched any more.
func WatchTrial(ctx context.Context, base string, pid int, step uint64, log *slog.Logger) error {
	agent, err := systemd.FindProcess(pid)
	if err != nil {
		return err
	}
	store, err := install.Open(base, install.Options{Log: log})
	if err != nil {
		return err
	}
	var trial install.Trial
	for {
		now, err := store.Trial(ferryman.AgentEngine)
		switch {
		case err == nil:
			trial = now
		case trial.Step == 0:
			return err
		} // else what was read last holds: in a record that is broken since, no arrival could be noted
		if !trial.Open() || trial.Arrived || trial.Step != step {
			return nil
		}
		left := trial.Until - guard.Boottime()
		if left <= 0 {
			log.Error("the agent is killed, as its release was not back in the cluster in time", "version", trial.Version, "limit", trial.Limit, "pid", pid)
			return agent.Kill()
		}
		look, cancel := context.WithTimeout(ctx, min(left, time.Second))
		err = agent.Wait(look)
		cancel()
		if err == nil || ctx.Err() != nil {
			return nil // it ended by itself; its next start counts
		}
	}
}
