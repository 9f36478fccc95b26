package demo

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// usage is what the kernel counts of one process.
type usage struct {
	cpu       time.Duration // user and system
	rss, anon int           // bytes resident, and those of them that no file backs
}

// clockTick is USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

func usageOf(pid int) (u usage, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return u, err
	}
	// The second field, the name, may hold anything; those after it are plain:
	// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			u.rss = kb << 10
		} else if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kb); n == 1 {
			u.anon = kb << 10
		}
	}
	return u, nil
}

// agents are the processes of the agents, by the host's name.
func (c *troupe) agents() map[string]int {
	c.b.Helper()
	hosts, err := c.stage.hosts()
	if err != nil {
		c.b.Fatal(err)
	}
	pids := map[string]int{}
	for _, name := range hosts {
		raw, err := os.ReadFile(filepath.Join(c.stage.dir, "hosts", name, "agent.pid"))
		if err != nil {
			c.b.Fatal(err)
		}
		if pids[name], err = strconv.Atoi(strings.TrimSpace(string(raw))); err != nil {
			c.b.Fatal(err)
		}
	}
	return pids
}

// BenchmarkIdle is what agents cost that have nothing to do, beside databases
// that nobody writes to: each iteration is ten seconds of three of them. Run it
// with -benchtime=6x.
func BenchmarkIdle(b *testing.B) {
	c := form(b, demoEngine{}, byPerson)
	r := c.settle()
	time.Sleep(5 * time.Second) // what the forming left behind
	leader := r.State.Members[r.View.Self].Name
	pids := c.agents()
	measure := func() map[string]usage {
		all := map[string]usage{}
		for name, pid := range pids {
			u, err := usageOf(pid)
			if err != nil {
				b.Fatal(err)
			}
			all[name] = u
		}
		return all
	}
	before, began := measure(), time.Now()
	for b.Loop() {
		time.Sleep(10 * time.Second)
	}
	after, took := measure(), time.Since(began)
	if now := c.settle(); now.View.Term != r.View.Term {
		b.Fatal("the leader changed: the agents were not idle")
	}
	var rss, anon int
	var followers float64
	for name, u := range after {
		share := 100 * (u.cpu - before[name].cpu).Seconds() / took.Seconds()
		rss, anon = max(rss, u.rss), max(anon, u.anon)
		b.Logf("%s: %.2f %% of a core, %.1f MB resident, %.1f MB of it anonymous (leader: %v)", name, share, float64(u.rss)/1e6, float64(u.anon)/1e6, name == leader)
		if name == leader {
			b.ReportMetric(share, "%core-leader")
		} else {
			followers = max(followers, share)
		}
	}
	b.ReportMetric(followers, "%core-follower")
	b.ReportMetric(float64(rss)/1e6, "MB-resident")
	b.ReportMetric(float64(anon)/1e6, "MB-anonymous")
	b.ReportMetric(0, "ns/op")
}
