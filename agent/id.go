package agent

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"ferryman"
	"ferryman/agent/runner"
)

const idFile = "node-id"

var idPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)

// nodeID reads the id of the data directory, or makes it, once. An empty disk
// is a new node, whatever its name: what it held is gone, and the others must
// not count on it.
func nodeID(dir string, random io.Reader) (ferryman.NodeID, error) {
	file := runner.OpenFile(filepath.Join(dir, idFile))
	raw, err := file.Load()
	switch {
	case err == nil:
		id := string(trimNewline(raw))
		if !idPattern.MatchString(id) {
			return "", fmt.Errorf("node id: %s holds %q, not 16 hexadecimal digits; restore it, or move %s away and let the node join anew", filepath.Join(dir, idFile), id, dir)
		}
		return ferryman.NodeID(id), nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("node id: %w", err)
	}
	id, err := randomID(random)
	if err != nil {
		return "", err
	}
	if err := file.Save([]byte(id + "\n")); err != nil {
		return "", fmt.Errorf("node id: %w; the agent needs a data directory that it can write", err)
	}
	return ferryman.NodeID(id), nil
}

func trimNewline(raw []byte) []byte {
	for len(raw) > 0 && raw[len(raw)-1] == '\n' {
		raw = raw[:len(raw)-1]
	}
	return raw
}

func randomID(random io.Reader) (string, error) {
	raw := make([]byte, 8)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return hex.EncodeToString(raw), nil
}

// makeDir makes the data directory, and says what to do where it cannot.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w; make it and give it to the agent's user (uid %d)", err, os.Geteuid())
	}
	return nil
}
