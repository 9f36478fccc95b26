package guard

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"ferryman/dbhooks"
	"ferryman/systemd"
)

// Spec is what a guard is for. The agent writes it to a file whose path is on the guard's command line.
type Spec struct {
	// Dir is the guard's own: its state, lock, socket and log. An absolute path of at most 90 bytes, for one guard alone. A disk that hangs must not hang
	// the renewals, so a directory in memory (/run) is best.
	Dir string `json:"dir"`
	// Target is what is killed.
	Target systemd.Target `json:"target"`
	// Marker is the data directory whose marker says afterwards that it is fenced; empty when the engine keeps none there.
	Marker string `json:"marker,omitempty"`
	// Listen is the host:port of the health endpoints; empty: there are none. What follows is for them alone.
	Listen string `json:"listen,omitempty"`
	// Engine and Database name the engine that is asked, and Exec its program where the engine is one of the user's own. The password stays in its file.
	Engine       string         `json:"engine,omitempty"`
	Database     dbhooks.Config `json:"database,omitzero"`
	Exec         string         `json:"exec,omitempty"`
	PasswordFile string         `json:"passwordFile,omitempty"`
}

// maxDir leaves room for the socket's name: the kernel takes 107 bytes.
const maxDir = 90

// Check says what is wrong with a spec.
func (s Spec) Check() error {
	if !filepath.IsAbs(s.Dir) || len(s.Dir) > maxDir {
		return fmt.Errorf("guard: directory %q: want an absolute path of at most %d bytes", s.Dir, maxDir)
	}
	if s.Marker != "" && !filepath.IsAbs(s.Marker) {
		return fmt.Errorf("guard: data directory %q: want an absolute path", s.Marker)
	}
	if err := s.Target.Check(); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return nil
}

// ReadSpec reads and checks the file that the agent wrote.
func ReadSpec(path string) (Spec, error) {
	var s Spec
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("guard: read what it is for from %s: %w; the agent writes it when it starts", path, err)
	}
	return s, s.Check()
}

// write makes the directory and puts the spec there.
func (s Spec) write() error {
	if err := s.Check(); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(s.public(), "", "  ")
	if err == nil {
		err = os.MkdirAll(s.Dir, 0o700)
	}
	if err == nil {
		err = dbhooks.WriteFile(s.path(), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("guard: write what it is for: %w", err)
	}
	return nil
}

// public is the spec without a password.
func (s Spec) public() Spec {
	s.Database.Password = ""
	return s
}

// digest tells whether a guard that runs was started for this spec.
func (s Spec) digest() string {
	raw, _ := json.Marshal(s.public()) // text, numbers and maps of text: there is nothing to fail
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

func (s Spec) path() string   { return filepath.Join(s.Dir, "spec.json") }
func (s Spec) socket() string { return filepath.Join(s.Dir, "guard.sock") }
func (s Spec) log() string    { return filepath.Join(s.Dir, "guard.log") }
