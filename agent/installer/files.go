package installer

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"ferryman/agent/source"
)

// read reads a small file that somebody else may have put there: no link, no pipe that never ends, no second name of another's file, and only so much.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || !ok || st.Nlink != 1 {
		return nil, fmt.Errorf("%s is no plain file of its own", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, source.MaxEnvelope+1))
	if err == nil && len(raw) > source.MaxEnvelope {
		err = fmt.Errorf("%s is longer than %d bytes", path, source.MaxEnvelope)
	}
	return raw, err
}

// own refuses what others than root could have written, or put in its place. Links are not followed: each would be another way to be looked at.
func own(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if real != path {
		return fmt.Errorf("%s leads over a link to %s: name that", path, real)
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		others := !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid()
		// In a directory like /tmp nobody can put something in the place of what is another's.
		shared := info.Mode().Perm()&0o022 != 0 && (at == path || info.Mode()&os.ModeSticky == 0)
		if others || shared {
			return fmt.Errorf("%s can be changed by others than root, who could have root install what they like by it: chown root %s; chmod go-w %s", at, at, at)
		}
		if at == "/" {
			return nil
		}
	}
}
