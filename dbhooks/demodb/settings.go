package demodb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"ferryman/dbhooks"
)

// Settings are the parameters of a demodb, kept in its data directory.
type Settings struct {
	// SyncReplicas is how many replicas must have a write on disk before it is acknowledged: 0 or 1. It takes effect at once.
	SyncReplicas int `json:"syncReplicas"`
	// MaxValueBytes bounds a value. It takes effect with a restart.
	MaxValueBytes int `json:"maxValueBytes"`
}

// DefaultSettings hold for what no parameter names.
func DefaultSettings(syncReplicas int) Settings {
	return Settings{SyncReplicas: syncReplicas, MaxValueBytes: 4096}
}

// With returns the settings changed by parameters as a desired state has them, each value as text.
func (s Settings) With(parameters map[string]string) (Settings, error) {
	for name, value := range parameters {
		n, err := strconv.Atoi(value)
		if err != nil {
			return s, fmt.Errorf("parameter %s: %q is not a number", name, value)
		}
		switch {
		case name == "syncReplicas" && (n == 0 || n == 1):
			s.SyncReplicas = n
		case name == "syncReplicas":
			return s, fmt.Errorf("parameter syncReplicas: %d is neither 0 nor 1", n)
		case name == "maxValueBytes" && n >= 1 && n <= 32<<10:
			s.MaxValueBytes = n
		case name == "maxValueBytes":
			return s, fmt.Errorf("parameter maxValueBytes: %d is not between 1 and %d", n, 32<<10)
		default:
			return s, fmt.Errorf("unknown parameter %q: known are syncReplicas and maxValueBytes", name)
		}
	}
	return s, nil
}

// load reads the settings in a data directory; where there are none, s holds.
func (s Settings) load(dir string) (Settings, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "settings.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read settings.json in %s: %w", dir, err)
	}
	return s, nil
}

func (s Settings) save(dir string) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return dbhooks.WriteFile(filepath.Join(dir, "settings.json"), append(raw, '\n'), 0o600)
}
