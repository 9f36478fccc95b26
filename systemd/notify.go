package systemd

import (
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells systemd that start-up is finished, by sd_notify(3). It does nothing, without error, where systemd did not start the agent.
func Ready() error { return notify(daemon.SdNotifyReady) }

func notify(state string) error {
	// Never unset the environment: every later notification would be lost without an error.
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
