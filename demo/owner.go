package demo

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ownerFile is locked for as long as the process lives whose demo it is. The
// kernel takes the lock away even from one that is killed: a demo whose file is
// there and not locked has lost its process, and the next demo ends it.
const ownerFile = "owner"

// own locks the stage. The file gets its name once it is locked, so that nobody
// finds it free in between.
func (s *stage) own() error {
	path := filepath.Join(s.dir, ownerFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_RDWR, 0o600) // closed in children
	if err != nil {
		return err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	s.owner = f
	return nil
}

// disown leaves the stage to a person: no later demo ends it.
func (s *stage) disown() error {
	return errors.Join(os.Remove(filepath.Join(s.dir, ownerFile)), s.owner.Close())
}

// sweep ends what demos below root left behind that were killed, and says so.
func sweep(root string, w io.Writer) error {
	owners, err := filepath.Glob(filepath.Join(root, dirPattern, ownerFile))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range owners {
		dir := filepath.Dir(path)
		lost, err := abandoned(dir)
		if err == nil && lost {
			fmt.Fprintf(w, "ending what a demo that was killed left in %s\n", dir)
			err = reopen(dir).strike()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may end just now
			errs = append(errs, fmt.Errorf("end the demo in %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// abandoned tells whether nobody holds the lock of a demo of ours. The records
// in the directory say which processes are ended, so that one of another user,
// who may write anything into it, is not believed.
func abandoned(dir string) (bool, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return false, err
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm()&0o022 != 0 || int(of.Uid) != os.Geteuid() {
		return false, nil
	}
	f, err := os.Open(filepath.Join(dir, ownerFile))
	if err != nil {
		return false, err
	}
	defer f.Close()
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}
