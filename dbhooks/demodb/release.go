package demodb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ferryman"
	"ferryman/dbhooks"
)

// DefaultVersion is the version of a demodb that runs without a release.
const DefaultVersion = "1.0.0"

// Release is the content of release.json at the top of an unpacked release: what it calls itself, and what is wrong with it.
type Release struct {
	Version string `json:"version"`
	Faults  Faults `json:"faults,omitzero"`
}

// ReadRelease reads release.json in home. Where there is none, it is the default version without faults.
func ReadRelease(home string) (Release, error) {
	r := Release{Version: DefaultVersion}
	path := filepath.Join(home, "release.json")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read the release %s: %w", path, err)
	}
	return r, nil
}

// WriteArchive makes the release archive at path, see dbhooks.WriteRelease. The executable is a ferryman binary, or anything else that understands
// `demodb serve`.
func (r Release) WriteArchive(path, executable string) (ferryman.Archive, error) {
	return dbhooks.WriteRelease(path, "demodb", executable, r)
}
