package agent_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman/agent"
	"ferryman/agent/config"
)

// The installed agent becomes the release that is current, unless what is there
// says otherwise: then it runs itself.
func TestLaunch(t *testing.T) {
	t.Parallel()
	const journal, trial = "journal.json", "releases/releases/ferryman/trial.json"
	for name, test := range map[string]struct {
		files   map[string]string // by their paths in the data directory
		release bool
	}{
		"a release is current":        {nil, true},
		"its node runs":               {map[string]string{journal: `{"format":1}`}, true},
		"its node departed":           {map[string]string{journal: `{"format":1,"departed":"step 7 removed it"}`}, false},
		"the journal cannot be read":  {map[string]string{journal: "{"}, true},
		"its trial cannot be counted": {map[string]string{trial: "{"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.DataDir = t.TempDir()
			sha := strings.Repeat("a", 64)
			store := filepath.Join(cfg.DataDir, "releases", "releases", "ferryman")
			program := filepath.Join(store, "1-"+sha[:12], "bin", "ferryman")
			err := errors.Join(
				os.MkdirAll(filepath.Dir(program), 0o755), os.WriteFile(program, nil, 0o755),
				os.WriteFile(filepath.Join(store, "1-"+sha[:12], ".complete"), fmt.Appendf(nil, `{"engine":"ferryman","version":"1","sha256":%q}`, sha), 0o644),
				os.Symlink("1-"+sha[:12], filepath.Join(store, "current")), os.Symlink("installed", filepath.Join(store, "back")),
			)
			for path, text := range test.files {
				err = errors.Join(err, os.WriteFile(filepath.Join(cfg.DataDir, path), []byte(text), 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if test.release {
				want = program
			}
			if got := agent.Launch(cfg, slog.New(slog.DiscardHandler)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
