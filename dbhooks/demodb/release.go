package demodb

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
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

// Archive describes a release archive as a desired state names it.
type Archive struct {
	Path   string
	SHA256 string // hexadecimal
	Size   int64
}

// WriteArchive makes the release archive (tar.gz) at path: bin/demodb, which is a copy of the executable, and release.json. The same input gives the
// same bytes. The executable is a ferryman binary, or anything else that understands `demodb serve`.
func (r Release) WriteArchive(path, executable string) (Archive, error) {
	f, err := os.Create(path)
	if err != nil {
		return Archive{}, fmt.Errorf("release demodb %s: %w", r.Version, err)
	}
	sum := sha256.New()
	err = r.write(io.MultiWriter(f, sum), executable)
	size, seekErr := f.Seek(0, io.SeekEnd)
	if err = errors.Join(err, seekErr, f.Close()); err != nil {
		return Archive{}, fmt.Errorf("release demodb %s: %w", r.Version, err)
	}
	return Archive{Path: path, SHA256: hex.EncodeToString(sum.Sum(nil)), Size: size}, nil
}

func (r Release) write(w io.Writer, executable string) error {
	about, err := json.Marshal(r)
	if err != nil {
		return err
	}
	program, err := os.Open(executable)
	if err != nil {
		return err
	}
	defer program.Close()
	info, err := program.Stat()
	if err != nil {
		return err
	}
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zip)
	header := func(name string, kind byte, mode, size int64) *tar.Header {
		return &tar.Header{Typeflag: kind, Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	}
	steps := []func() error{
		func() error {
			return archive.WriteHeader(header("release.json", tar.TypeReg, 0o644, int64(len(about))))
		},
		func() error { _, err := archive.Write(about); return err },
		func() error { return archive.WriteHeader(header("bin/", tar.TypeDir, 0o755, 0)) },
		func() error { return archive.WriteHeader(header("bin/demodb", tar.TypeReg, 0o755, info.Size())) },
		func() error { _, err := io.Copy(archive, program); return err },
		archive.Close,
		zip.Close,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
