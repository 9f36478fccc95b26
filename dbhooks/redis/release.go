package redis

import (
	"encoding/json"
	"os"
	"path/filepath"

	"ferryman"
	"ferryman/dbhooks"
)

// Release is release.json at the top of an unpacked release: what this build is called. Builds of one upstream version, such as two of a
// distribution's, report the same version themselves.
type Release struct {
	Version string `json:"version"`
}

// ReadRelease reads release.json in home.
func ReadRelease(home string) (Release, error) {
	var r Release
	raw, err := os.ReadFile(filepath.Join(home, "release.json"))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(raw, &r)
}

// WriteArchive makes a release archive of a redis-server or valkey-server binary, see dbhooks.WriteRelease. What the binary is linked to (liblua,
// libjemalloc and others in Debian's build) is not in it: the host needs that installed.
func (r Release) WriteArchive(path, executable string) (ferryman.Archive, error) {
	return dbhooks.WriteRelease(path, "redis-server", executable, r)
}
