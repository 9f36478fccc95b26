package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman"
	"ferryman/agent/config"
)

// What the configuration says of the database reaches its engine.
func TestTheEngineIsToldHowItRunsAndLogsIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	db := config.Database{Engine: config.EngineExec, Address: "127.0.0.1:1", Listen: "0.0.0.0:2", DataDir: dir, Program: "mydb", Username: "who",
		PasswordFile: write("password", "hunter2\n", 0o600),
		Exec: write("hook", `#!/bin/sh
echo "$FERRYMAN_LISTEN $FERRYMAN_PROGRAM $FERRYMAN_USERNAME $FERRYMAN_PASSWORD" >"$FERRYMAN_DIR/seen"
echo '{"primaries": 1}'
`, 0o755)}
	if _, err := newEngine(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "seen"))
	if want := "0.0.0.0:2 mydb who hunter2\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	db.PasswordFile = filepath.Join(dir, "nowhere")
	if _, err := newEngine(t.Context(), db); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "database.password_file") {
		t.Errorf("without the file: got %v, want an error that names the key", err)
	}
}

func TestReadPassword(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"one line":       {"hunter2\n", "hunter2"},
		"no end of line": {"hunter2", "hunter2"},
		"with spaces":    {" a b \r\n", " a b "},
		"empty":          {"\n", ""},
		"two lines":      {"hunter2\nuser x\n", ""},
		"not ASCII":      {"hunter2\u00fc", ""},
		"too long":       {strings.Repeat("x", maxPassword+1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readPassword(path)
			if got != test.want || (test.want == "") != errors.Is(err, ferryman.ErrInvalid) {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
