package apiserver_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman"
)

// TestMain lets the test binary be the agents that the process provisioner
// starts.
func TestMain(m *testing.M) {
	switch os.Getenv("APISERVER_TEST_AGENT") {
	case "obedient":
		os.Exit(agent(false))
	case "stubborn":
		os.Exit(agent(true))
	}
	if len(os.Args) == 3 && os.Args[1] == "database" {
		time.Sleep(time.Hour)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// agent starts a "database" that outlives it, notes each start in the file
// starts, and does as its signals say.
func agent(stubborn bool) int {
	dir, err := os.Getwd()
	if err != nil {
		return 1
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	if _, err := os.Stat("database.pid"); err != nil {
		database := exec.Command(os.Args[0], "database", filepath.Join(dir, "data"))
		database.Dir, database.Env, database.SysProcAttr = "/", []string{}, &syscall.SysProcAttr{Setsid: true}
		if err := database.Start(); err != nil {
			return 1
		}
		if err := os.WriteFile("database.pid", fmt.Appendln(nil, database.Process.Pid), 0o600); err != nil {
			return 1
		}
	}
	starts, err := os.OpenFile("starts", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	fmt.Fprintln(starts, strings.Join(os.Args[1:], " "))
	starts.Close()
	for {
		switch <-signals {
		case syscall.SIGUSR1:
			return ferryman.ExitRestart
		case syscall.SIGUSR2:
			return ferryman.ExitStay
		default:
			if !stubborn {
				return 0
			}
		}
	}
}

// eventually waits for what other processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
