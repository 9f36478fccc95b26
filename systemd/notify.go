package systemd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// What follows is sd_notify(3): what this process says to the systemd that started it. It does nothing, without error, where none did.

// Ready tells that start-up is finished.
func Ready() error { return notify(daemon.SdNotifyReady) }

// Stopping tells that this process is about to end.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

// Say tells in one line what this process does; `systemctl status` shows it.
func Say(text string) error { return notify("STATUS=" + strings.Join(strings.Fields(text), " ")) }

// Extend asks for so much more time, from now on, before systemd loses its patience with a start or a stop.
func Extend(by time.Duration) error {
	return notify("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(by.Microseconds(), 10))
}

// Watchdog tells that this process lives, twice in the time that its unit gives (WatchdogSec=), until ctx ends: one that hangs is killed and started again.
// Before each time it asks alive, if that is set: it lives when that returns, and returns nil. Where systemd watches nothing it returns at once.
func Watchdog(ctx context.Context, alive func(context.Context) error) error {
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
		var hangs error
		if alive != nil {
			hangs = alive(ctx)
		}
		if hangs == nil {
			err = notify(daemon.SdNotifyWatchdog)
		} else {
			err = Say("hangs, and will be ended by the watchdog: " + hangs.Error())
		}
		if err != nil {
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
