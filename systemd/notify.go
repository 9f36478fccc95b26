package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells systemd that start-up is finished, by sd_notify(3). It does nothing, without error, where systemd did not start the agent.
func Ready() error { return notify(daemon.SdNotifyReady) }

// Watchdog tells systemd that this process lives, twice in the time that its unit gives (WatchdogSec=), until ctx ends: one that hangs is killed and started
// again. Where systemd watches nothing it returns at once.
func Watchdog(ctx context.Context) error {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("systemd's watchdog: %w", err)
	}
	if within <= 0 {
		return nil
	}
	tick := time.NewTicker(within / 2)
	defer tick.Stop()
	for {
		if err := notify(daemon.SdNotifyWatchdog); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func notify(state string) error {
	// Never unset the environment: every later notification would be lost without an error.
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
