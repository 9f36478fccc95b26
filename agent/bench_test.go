package agent_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkLeader is what leading 3 to 50 idle agents costs. They are the real
// composition root, in real time, in one process: without TLS and sockets, which
// cost each message the same, and with a database in memory. Each iteration is
// ten seconds; run it with -benchtime=3x.
//
// The leader's processor time is that of the goroutines which its agent
// started, as the profiler samples them (a hundred times in each second of
// processor time). What a node does to answer the leader counts as the leader's
// here. Memory is what lives on the heap in all, for each agent.
func BenchmarkLeader(b *testing.B) {
	for _, n := range []int{3, 10, 25, 50} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { benchmarkLeader(b, n) })
	}
}

func benchmarkLeader(b *testing.B, n int) {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	l := newLab(b, 1, names...)
	b.Cleanup(l.close)
	began := time.Now()
	l.hosts["n1"].found()
	for _, h := range l.hosts {
		pprof.Do(context.Background(), pprof.Labels("agent", h.name), func(context.Context) { h.start() })
	}
	l.doc.set(document(n, 1, ""))
	r, leader := l.until("formed", 10*time.Minute, settled(n))
	b.Logf("%d agents were a cluster after %v", n, time.Since(began).Round(time.Second))
	// What forming left behind: connections, snapshots, garbage.
	time.Sleep(5 * time.Second)

	path := filepath.Join(b.TempDir(), "cpu")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	before := processorTime(b)
	began = time.Now()
	if err := pprof.StartCPUProfile(out); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		time.Sleep(10 * time.Second)
	}
	pprof.StopCPUProfile()
	took, used := time.Since(began), processorTime(b)-before
	if now, _, ok := l.report(); !ok || now.View.Term != r.View.Term || !settled(n)(now) {
		b.Fatalf("the agents were not idle\n%s", describe(now, ok))
	}
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go of
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)

	led := labelled(b, path)[leader.name]
	b.ReportMetric(100*led.Seconds()/took.Seconds(), "%core-leader")
	b.ReportMetric(100*led.Seconds()/took.Seconds()/float64(n), "%core-leader/agent")
	b.ReportMetric(100*used.Seconds()/took.Seconds()/float64(n), "%core-all/agent")
	b.ReportMetric(float64(heap.HeapAlloc)/1e6/float64(n), "MB-heap/agent")
	b.ReportMetric(0, "ns/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// labelled is the processor time in a profile by the label of its agent.
func labelled(b *testing.B, path string) map[string]time.Duration {
	b.Helper()
	text, err := exec.Command("go", "tool", "pprof", "-tags", path).Output()
	if err != nil {
		b.Fatalf("go tool pprof -tags: %v", err)
	}
	all := map[string]time.Duration{}
	line := regexp.MustCompile(`^\s*([0-9.]+m?s) .*: (n[0-9]+)$`)
	for s := range strings.Lines(string(text)) {
		if m := line.FindStringSubmatch(strings.TrimRight(s, "\n")); m != nil {
			if all[m[2]], err = time.ParseDuration(m[1]); err != nil {
				b.Fatal(err)
			}
		}
	}
	return all
}
