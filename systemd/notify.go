package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The notifications below are those of sd_notify(3). All do nothing, without error, where systemd did not start the agent.

// Ready tells systemd that start-up, or a reload, is finished.
func Ready() error { return notify(daemon.SdNotifyReady) }

// Stopping tells systemd that the agent shuts down.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

// Reloading tells systemd that the configuration is being read again; Ready ends it. Type=notify-reload wants the monotonic time with it.
func Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// SetStatus sets the line that `systemctl status` shows.
func SetStatus(text string) error {
	return notify("STATUS=" + strings.ReplaceAll(text, "\n", " "))
}

// ExtendTimeout asks systemd to wait for start, stop or reload for d from now, where its unit file says less.
func ExtendTimeout(d time.Duration) error {
	return notify("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10))
}

func notify(state string) error {
	// Never unset the environment: every later notification would be lost without an error.
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog tells systemd that the agent is alive, as long as it is: when Alive says no for longer than the unit's WatchdogSec, systemd restarts the agent.
type Watchdog struct {
	Alive func() bool // says whether the main loop makes progress; must not block
	Log   *slog.Logger
}

// Run speaks up twice in each WatchdogSec until ctx ends. Without a watchdog in the unit file it only waits.
func (w Watchdog) Run(ctx context.Context) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if every <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for silent := false; ; {
		if alive := w.Alive(); !alive && !silent {
			silent = true
			w.Log.Error("the agent makes no progress; systemd restarts it unless that changes", "within", every)
		} else if alive {
			silent = false
			if err := notify(daemon.SdNotifyWatchdog); err != nil {
				w.Log.Warn("watchdog", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
