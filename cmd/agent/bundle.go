package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// bundle is the files of a debug bundle. What is added is without secrets.
type bundle struct {
	at      time.Time
	secrets secrets
	files   []file
	missing []error
}

type file struct {
	name string
	raw  []byte
}

// text adds what is read as it is, but for secrets.
func (b *bundle) text(name string, raw []byte, err error) {
	if err != nil {
		b.missing = append(b.missing, fmt.Errorf("%s: %w", name, err))
		return
	}
	b.files = append(b.files, file{name, []byte(b.secrets.hide(string(raw)))})
}

// data adds what JSON says of it.
func (b *bundle) data(name string, data any, err error) {
	var raw []byte
	if err == nil {
		raw, err = redacted(data)
	}
	b.text(name, raw, err)
}

// maxTail is how much of a log is taken, in bytes: its end.
const maxTail = 1 << 20

// tail adds the end of a file that grows.
func (b *bundle) tail(name, path string) {
	raw, err := func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Size() > maxTail {
			if _, err := f.Seek(-maxTail, io.SeekEnd); err != nil {
				return nil, err
			}
		}
		return io.ReadAll(io.LimitReader(f, maxTail))
	}()
	b.text(name, raw, err)
}

func (b *bundle) write(w io.Writer) error {
	if len(b.missing) > 0 {
		b.files = append(b.files, file{"missing.txt", []byte(b.secrets.hide(errors.Join(b.missing...).Error() + "\n"))})
	}
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, f := range b.files {
		h := tar.Header{Typeflag: tar.TypeReg, Name: "ferryman-debug/" + f.name, Mode: 0o600, Size: int64(len(f.raw)), ModTime: b.at}
		if err := archive.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := archive.Write(f.raw); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}
