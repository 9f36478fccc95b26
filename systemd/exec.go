package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// check fills what was left out and refuses what cannot be run, with the reason that the shell in between could only write to the log.
func (u *Unit) check() error {
	if err := checkName(u.Name); err != nil {
		return err
	}
	if len(u.Exec) == 0 {
		return fmt.Errorf("unit %s: no program to run", u.Name)
	}
	if u.Dir == "" {
		u.Dir = "/"
	}
	if u.StopSignal == 0 {
		u.StopSignal = syscall.SIGTERM
	}
	if u.StopTimeout <= 0 {
		u.StopTimeout = DefaultStopTimeout
	}
	program, err := u.program()
	if err != nil {
		return fmt.Errorf("unit %s: %w", u.Name, err)
	}
	u.Exec = append([]string{program}, u.Exec[1:]...)
	return nil
}

// program finds the executable: a path as it is, a bare name in the PATH of the unit's own environment.
func (u *Unit) program() (string, error) {
	name := u.Exec[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(u.Dir, name)
		}
		return name, executable(name)
	}
	path := "/usr/local/bin:/usr/bin:/bin"
	if i := slices.IndexFunc(u.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }); i >= 0 {
		path = strings.TrimPrefix(u.Env[i], "PATH=")
	}
	for _, dir := range filepath.SplitList(path) {
		if p := filepath.Join(dir, name); filepath.IsAbs(p) && executable(p) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("program %s: not found in %s", name, path)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("program %w", err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("program %s: %w", path, fs.ErrPermission)
	}
	return nil
}

// maxLog is the size above which a unit's log is set aside at its next start. One older log is kept.
const maxLog = 16 << 20

// openLog opens a log for appending. It is not turned over while the program runs: the program holds the file itself, so that it outlives the agent.
func openLog(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
}
