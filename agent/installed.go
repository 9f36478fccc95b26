package agent

import (
	"context"
	"os"
	"strings"
	"time"
)

// restartRequired names the version that the agent's package installed beside
// this agent, which goes on (packaging/scripts/postinst). The next start of the
// agent's unit removes it.
const restartRequired = "/run/ferryman-restart-required"

// lookForInstalled is how often it is read: a person looks after an upgrade of
// the package, and nothing else waits for it.
const lookForInstalled = 5 * time.Second

// installed is the version that waits for the agent's restart; empty where none
// does.
func installed(marker, running string) string {
	raw, err := os.ReadFile(marker)
	version := strings.TrimSpace(string(raw))
	if err != nil || version == running {
		return ""
	}
	return version
}

// watchInstalled has the board say when another version was installed.
func (n *node) watchInstalled(ctx context.Context) {
	for again := time.NewTicker(lookForInstalled); ; {
		if v := installed(restartRequired, n.deps.Version); v != n.installed.Swap(v).(string) {
			n.nudge()
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}
