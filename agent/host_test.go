package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman/systemd"
)

func TestUnfit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		command, restart string
		want             string // "" for a unit that is as setup makes it
	}{
		{"/usr/bin/ferryman database", "no", ""},
		{"/usr/local/bin/ferryman database --config /etc/other.yaml", "no", ""},
		{"/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd", "always", `starts "/usr/bin/redis-server /etc/redis/redis.conf`},
		{"/usr/bin/ferryman database", "always", "has Restart=always"},
		{"/usr/bin/ferryman database", "on-failure", "has Restart=on-failure"},
		{"/usr/bin/ferryman agent", "no", `starts "/usr/bin/ferryman agent"`},
		{"/usr/bin/ferryman database; /usr/bin/redis-server", "no", "starts "},
		{"/usr/bin/ferryman", "no", "starts "},
		{"", "no", "starts "},
	} {
		got := unfit("redis-server.service", systemd.UnitStatus{Command: tt.command, Restart: tt.restart})
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || got != "" && !(strings.Contains(got, "redis-server.service") && strings.Contains(got, "sudo ferryman setup")) {
			t.Errorf("%q, Restart=%s: got %q, want %q, the unit and the command to run", tt.command, tt.restart, got, tt.want)
		}
	}
}

func TestInstalled(t *testing.T) {
	t.Parallel()
	marker := filepath.Join(t.TempDir(), "restart-required")
	if got := installed(marker, "0.1.1"); got != "" {
		t.Errorf("without an upgrade of the package: got %q", got)
	}
	if err := os.WriteFile(marker, []byte("0.1.2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := installed(marker, "0.1.1"); got != "0.1.2" {
		t.Errorf("after one: got %q, want 0.1.2", got)
	}
	if got := installed(marker, "0.1.2"); got != "" {
		t.Errorf("of what runs: got %q, want nothing", got)
	}
}
