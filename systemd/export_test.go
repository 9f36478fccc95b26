package systemd

import "context"

// ProcessAlive says whether a process of that pid runs code.
func ProcessAlive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && !s.dead()
}

// WaitGone returns when the process that has this pid now has ended.
func WaitGone(ctx context.Context, pid int) error {
	s, err := readStat(pid)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.wait(ctx)
}
