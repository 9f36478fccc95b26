package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The files of one node, all in one directory.
const (
	caFile    = "ca.crt"
	caKeyFile = "ca.key" // only on nodes that may sign
	certFile  = "node.crt"
	keyFile   = "node.key"
)

// Exists tells whether dir holds a node's certificate already: a node without
// one has to enrol first.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, certFile))
	return err == nil
}

// WriteNode writes what a node needs to be itself: the CA's certificate, the
// node's certificate and its key (mode 0600), all PEM. It refuses what does
// not fit together. The certificate comes last, so that a crash in between
// leaves a directory for which Exists is false.
func WriteNode(dir string, caPEM, certPEM, keyPEM []byte) error {
	if _, err := parseMaterial(caPEM, certPEM, keyPEM); err != nil {
		return fmt.Errorf("write certificates to %s: %w", dir, err)
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, keyFile), keyPEM, 0o600); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, caFile), caPEM, 0o644); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, certFile), certPEM, 0o644)
}

// makeDir makes the directory with the strictest mode that serves; an existing
// one keeps its own.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for certificates: %w", err)
	}
	return nil
}

// writeFile replaces a file whole, or not at all: written beside it, synced,
// renamed.
func writeFile(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func readPublic(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return b, nil
}

// readKey reads a private key and refuses one that others may read.
func readKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("private key %s has mode %04o: others may read it; chmod 0600 %s, and if this host is shared, make a new key", path, mode, path)
	}
	return b, nil
}

// unreadable adds to a read error what the person at the console would look up
// next: mode, owner, and who we are.
func unreadable(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("certificates: %w", err)
	}
	info, statErr := os.Stat(path)
	if statErr != nil {
		return fmt.Errorf("certificates: this process (uid %d) may not look into %s: %w", os.Geteuid(), filepath.Dir(path), err)
	}
	return fmt.Errorf("certificates: %s has mode %04o%s and this process is uid %d: %w", path, info.Mode().Perm(), owner(info), os.Geteuid(), err)
}

func owner(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf(" of uid %d, gid %d", st.Uid, st.Gid)
	}
	return ""
}
