package dbhooks

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"ferryman"
)

// WriteRelease makes a release archive (tar.gz) at path, for demo and tests: bin/<name>, which is a copy of the program, and release.json, which is
// about as JSON. The same input gives the same bytes. The caller fills in the URL of the returned archive.
func WriteRelease(path, name, program string, about any) (ferryman.Archive, error) {
	f, err := os.Create(path)
	if err != nil {
		return ferryman.Archive{}, fmt.Errorf("release %s: %w", path, err)
	}
	sum := sha256.New()
	err = writeRelease(io.MultiWriter(f, sum), name, program, about)
	size, seekErr := f.Seek(0, io.SeekEnd)
	if err = errors.Join(err, seekErr, f.Close()); err != nil {
		return ferryman.Archive{}, fmt.Errorf("release %s: %w", path, err)
	}
	return ferryman.Archive{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: size}, nil
}

func writeRelease(w io.Writer, name, program string, about any) error {
	content, err := json.Marshal(about)
	if err != nil {
		return err
	}
	source, err := os.Open(program)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
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
			return archive.WriteHeader(header("release.json", tar.TypeReg, 0o644, int64(len(content))))
		},
		func() error { _, err := archive.Write(content); return err },
		func() error { return archive.WriteHeader(header("bin/", tar.TypeDir, 0o755, 0)) },
		func() error { return archive.WriteHeader(header("bin/"+name, tar.TypeReg, 0o755, info.Size())) },
		func() error { _, err := io.Copy(archive, source); return err },
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
