package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ferryman"
	"ferryman/agent/rpc"
)

// cluster is a demo that was left running.
type cluster struct {
	dir, document string
}

func (c *cluster) dial(host string) (*rpc.ControlClient, error) {
	return rpc.DialControl(filepath.Join(c.dir, "hosts", host, "agent.sock"))
}

// report asks any agent that answers.
func (c *cluster) report(ctx context.Context) (ferryman.Report, error) {
	hosts, err := os.ReadDir(filepath.Join(c.dir, "hosts"))
	last := errors.Join(err, fmt.Errorf("no agent of %s answers", c.dir))
	for _, h := range hosts {
		client, err := c.dial(h.Name())
		if err != nil {
			last = err
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		r, err := client.Report(ctx)
		cancel()
		client.Close()
		if err == nil {
			return r, nil
		}
		last = err
	}
	return ferryman.Report{}, last
}

// agents are the processes of the cluster's agents.
func (c *cluster) agents() ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	var pids []int
	for _, f := range files {
		raw, _ := os.ReadFile(f) // it may have ended
		if strings.HasPrefix(string(raw), c.dir+"/ferryman\x00agent\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 && err == nil {
		err = fmt.Errorf("no agent runs in %s", c.dir)
	}
	return pids, err
}

// idle is what an agent costs that has nothing to do; one run is one agent for span.
func (c *cluster) idle(ctx context.Context, out io.Writer, n int, span time.Duration) error {
	if _, err := c.settled(ctx); err != nil {
		return err
	}
	pids, err := c.agents()
	if err != nil {
		return err
	}
	var memory, share []float64
	for range n {
		before := make([]time.Duration, len(pids))
		for i, pid := range pids {
			if before[i], err = used(pid); err != nil {
				return err
			}
		}
		began := time.Now()
		select {
		case <-time.After(span):
		case <-ctx.Done():
			return ctx.Err()
		}
		for i, pid := range pids {
			after, err := used(pid)
			if err != nil {
				return err
			}
			share = append(share, 100*(after-before[i]).Seconds()/time.Since(began).Seconds())
			kib, err := resident(pid)
			if err != nil {
				return err
			}
			memory = append(memory, kib/1024)
		}
	}
	tell(out, fmt.Sprintf("an idle agent of %d: resident memory", len(pids)), "MiB", memory)
	tell(out, fmt.Sprintf("an idle agent of %d: share of a core", len(pids)), "%", share)
	return nil
}

// used is the processor time of a process so far, of all its threads, to the nanosecond: /proc/PID/stat counts in hundredths of a second.
func used(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("process %d ended", pid)
	}
	var sum time.Duration
	for _, f := range threads {
		raw, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		var ns int64
		if _, err := fmt.Sscan(string(raw), &ns); err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// resident is a process's resident memory in KiB.
func resident(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		}
	}
	return 0, fmt.Errorf("process %d has no memory", pid)
}
