package apiserver

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// stat is what we use of /proc/<pid>/stat; proc(5) describes it.
type stat struct {
	parent   int
	start    uint64 // clock ticks since boot
	terminal bool   // it has a controlling terminal
	dead     bool   // it ended, and its parent did not ask for its status yet
}

func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The program's name is in parentheses and may hold some itself: fields
	// count from the last one.
	i := strings.LastIndexByte(string(raw), ')')
	fields := strings.Fields(string(raw[i+1:]))
	if i < 0 || len(fields) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat cannot be read: %q", pid, raw)
	}
	s := stat{terminal: fields[4] != "0", dead: fields[0] == "Z" || fields[0] == "X"}
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return stat{}, err
	}
	s.start, err = strconv.ParseUint(fields[19], 10, 64)
	return s, err
}

// bootID is another one after each boot of the machine, when pids start anew.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // then pid and start must do
	}
	return strings.TrimSpace(string(raw))
}
