package lab_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is one that scripts/lab/lab makes for a test.
type lab struct {
	name string
	temp string // what is temporary of it
}

func newLab(t *testing.T) lab {
	t.Helper()
	if os.Getenv("FERRYMAN_LAB_ITSELF") == "" {
		t.Skip("boots hosts with systemd, as root; scripts/lab/test runs it")
	}
	l := lab{fmt.Sprint("test-", time.Now().UnixNano()), t.TempDir()}
	t.Cleanup(func() { l.do(t, "down") })
	return l
}

func (l lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command("./lab", args...)
	cmd.Env = append(os.Environ(), "FERRYMAN_LAB="+l.name, "TMPDIR="+l.temp, "FERRYMAN_LAB_MEMORY=192M")
	return cmd
}

func (l lab) try(args ...string) (string, error) {
	out, err := l.command(args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (l lab) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.try(args...)
	if err != nil {
		t.Fatalf("lab %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (l lab) number(t *testing.T, args ...string) int {
	t.Helper()
	n, err := strconv.Atoi(l.do(t, args...))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// listen has a host echo what it is sent, at port 7000.
func (l lab) listen(t *testing.T, host string) {
	t.Helper()
	l.do(t, "exec", host, "systemd-run", "--quiet", "--unit=echo", "systemd-socket-activate", "--listen=7000", "--accept", "--inetd", "cat")
	eventually(t, host+" listens", func() error {
		if !l.reaches(host, host) {
			return errors.New("it does not")
		}
		return nil
	})
}

// reaches tells whether one host gets an answer from another.
func (l lab) reaches(from, to string) bool {
	_, err := l.try("exec", from, "timeout", "0.5", "bash", "-c", "exec 3<>/dev/tcp/"+to+"/7000 && echo word >&3 && read -r word <&3 && [ $word = word ]")
	return err == nil
}

func (l lab) reach(t *testing.T, from, to string, want bool) {
	t.Helper()
	for range 10 { // a machine that is busy answers late
		if l.reaches(from, to) == want {
			return
		}
		if !want {
			break
		}
	}
	t.Errorf("%s reaches %s: got %v, want %v", from, to, !want, want)
}

// heard is how many packets a host had.
func (l lab) heard(t *testing.T, host string) int {
	t.Helper()
	return l.number(t, "exec", host, "awk", "/eth0/ { print $3 }", "/proc/net/dev")
}

func TestLab(t *testing.T) {
	l := newLab(t)
	began := time.Now()
	l.do(t, "up", "2")
	t.Logf("two hosts and the api-server's booted in %s", time.Since(began).Round(100*time.Millisecond))
	hosts := []string{"n1", "n2", "api"}
	for _, h := range hosts {
		if got := l.do(t, "exec", h, "hostname"); got != h {
			t.Errorf("the name of %s: got %q", h, got)
		}
		l.listen(t, h)
	}
	processes := l.processes(t, hosts...)
	for _, test := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"no connection is let in from outside", l.ingress},
		{"cuts", l.cuts},
		{"slow", l.slow},
		{"a host that takes all memory", l.memory},
		{"apt without a network", l.apt},
		{"kill and start", l.kill},
		{"reboot and power-off", l.reboot},
		{"two labs do not meet", l.another},
	} {
		if !t.Run(test.name, test.f) {
			return
		}
	}
	l.do(t, "down")
	l.nothingLeft(t, processes)
	l.do(t, "down") // and once more
}

func (l lab) ingress(t *testing.T) {
	before := l.number(t, "blocked")
	l.reach(t, "n1", "n2", true)
	l.reach(t, "n1", "api", true)
	if n := l.number(t, "blocked"); n != before {
		t.Errorf("%d packets were dropped of connections that are allowed", n-before)
	}
	l.reach(t, "api", "n1", false)
	if n := l.number(t, "blocked"); n == before {
		t.Error("no packet was dropped of a connection from outside")
	}
}

func (l lab) cuts(t *testing.T) {
	healed := func(atLeast int) {
		t.Helper()
		if n := l.number(t, "heal"); n < atLeast {
			t.Errorf("%d packets were lost, want %d at least", n, atLeast)
		}
		l.reach(t, "n1", "n2", true)
		l.reach(t, "n2", "n1", true)
		l.reach(t, "n1", "api", true)
	}
	l.do(t, "cut", "n1", "n2")
	l.reach(t, "n1", "n2", false)
	l.reach(t, "n2", "n1", false)
	l.reach(t, "n1", "api", true)
	healed(2)
	l.do(t, "cut", "n1", "api")
	l.reach(t, "n1", "api", false)
	l.reach(t, "n2", "api", true)
	healed(1)
	l.do(t, "cut", "n1")
	l.reach(t, "n1", "n2", false)
	l.reach(t, "n2", "n1", false)
	l.reach(t, "n1", "api", false)
	healed(3)
	l.do(t, "cut", "--one-way", "n1", "n2")
	n1, n2 := l.heard(t, "n1"), l.heard(t, "n2")
	l.reach(t, "n2", "n1", false)
	if l.heard(t, "n1") == n1 {
		t.Error("n1 does not hear n2, and only the other way is cut")
	}
	l.reach(t, "n1", "n2", false)
	if n := l.heard(t, "n2") - n2; n > 4 { // it asks who is where
		t.Errorf("n2 hears %d packets of n1, which is cut", n)
	}
	healed(2)
}

func (l lab) slow(t *testing.T) {
	l.do(t, "slow", "n1", "0", "100%")
	l.reach(t, "n1", "n2", false)
	l.reach(t, "n2", "n1", false)
	l.reach(t, "n2", "api", true)
	l.do(t, "heal")
	l.reach(t, "n1", "n2", true)
	const delay = 60 * time.Millisecond
	for _, c := range []struct{ host, from, to string }{{"n1", "n2", "n1"}, {"n1", "n1", "api"}, {"api", "n1", "api"}} {
		l.do(t, "slow", c.host, delay.String(), "0")
		l.reach(t, c.from, c.to, true)
		began := time.Now()
		l.reach(t, c.from, c.to, true)
		if took := time.Since(began); took < 4*delay { // there and back for the connection, and again for a word
			t.Errorf("%s is slow by %s, and %s had an answer of %s after %s", c.host, delay, c.from, c.to, took)
		}
		if got := l.do(t, "exec", c.from, "bash", "-c", "exec 3<>/dev/tcp/"+c.to+"/7000 && { head -c 300000 /dev/zero >&3 & } && head -c 300000 <&3 | wc -c"); got != "300000" {
			t.Errorf("of 300000 bytes to %s and back %s came", c.to, got)
		}
		l.do(t, "heal")
		began = time.Now()
		l.reach(t, c.from, c.to, true)
		t.Logf("%s and %s: %s without a delay", c.from, c.to, time.Since(began).Round(time.Millisecond))
	}
}

func (l lab) memory(t *testing.T) {
	if out, err := l.try("exec", "n1", "systemd-run", "--quiet", "--wait", "tail", "/dev/zero"); err == nil {
		t.Errorf("a program had all the memory that it wanted: %s", out)
	}
	if out, err := l.try("exec", "n1", "systemd-run", "--quiet", "--wait", "--property=MemoryMax=20M", "--property=MemorySwapMax=0", "sh", "-c", "head -c 60M /dev/zero | tail"); err == nil {
		t.Errorf("a unit had more memory than its limit: %s", out)
	}
	l.reach(t, "n2", "n1", true)
}

func (l lab) apt(t *testing.T) {
	l.do(t, "exec", "n1", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-install-recommends", "redis-server")
	if got := l.do(t, "exec", "n1", "redis-cli", "ping"); got != "PONG" {
		t.Errorf("Redis says %q", got)
	}
}

func (l lab) kill(t *testing.T) {
	l.do(t, "exec", "n1", "touch", "/root/kept", "/run/lost")
	l.do(t, "kill", "n1")
	if out, err := l.try("exec", "n1", "true"); err == nil || !strings.Contains(out, "scripts/lab/lab start n1") {
		t.Errorf("a command on a killed host: %v: %s", err, out)
	}
	l.reach(t, "n2", "n1", false)
	began := time.Now()
	l.do(t, "start", "n1")
	t.Logf("a host booted in %s", time.Since(began).Round(100*time.Millisecond))
	l.do(t, "exec", "n1", "test", "-e", "/root/kept", "-a", "!", "-e", "/run/lost")
	l.listen(t, "n1")
	l.reach(t, "n2", "n1", true)
}

func (l lab) reboot(t *testing.T) {
	l.do(t, "exec", "n1", "touch", "/root/kept", "/run/lost")
	_, _ = l.try("exec", "n1", "systemctl", "reboot") // may end the command before it answers
	eventually(t, "n1 is up again", func() error {
		out, err := l.try("exec", "n1", "test", "-e", "/root/kept", "-a", "!", "-e", "/run/lost")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	l.listen(t, "n1")
	l.reach(t, "n2", "n1", true)
	_, _ = l.try("exec", "n1", "systemctl", "poweroff")
	eventually(t, "n1 is down, and can be started", func() error {
		out, err := l.try("start", "n1")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	l.listen(t, "n1")
	l.reach(t, "n2", "n1", true)
}

func (l lab) another(t *testing.T) {
	other := lab{l.name + "-2", l.temp}
	other.do(t, "up", "1")
	defer other.do(t, "down")
	if out, err := l.try("up", "1"); err == nil {
		t.Errorf("a lab of the same name came up: %s", out)
	}
	l.reach(t, "n2", "n1", true)
	other.do(t, "kill", "n1")
	l.reach(t, "n2", "n1", true)
	other.do(t, "start", "n1")
	other.do(t, "down")
	l.reach(t, "n2", "n1", true)
}

// processes are all that run in the namespaces of a lab, and when each began.
func (l lab) processes(t *testing.T, hosts ...string) map[string]string {
	t.Helper()
	spaces := map[string]bool{}
	add := func(command ...string) {
		for _, kind := range []string{"net", "mnt", "pid"} {
			spaces[l.do(t, append(command, "readlink", "/proc/self/ns/"+kind)...)] = true
		}
	}
	add("enter")
	for _, h := range hosts {
		add("exec", h)
	}
	all := map[string]string{}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	for _, link := range links {
		process := filepath.Dir(filepath.Dir(link))
		if space, err := os.Readlink(link); err == nil && spaces[space] {
			all[process] = began(process)
		}
	}
	if len(all) < 2 {
		t.Errorf("in the lab run %v, which is too little", all)
	}
	return all
}

// began is when a process did, or empty if it is dead.
func began(process string) string {
	stat, _ := os.ReadFile(filepath.Join(process, "stat"))
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// nothingLeft looks for all that a lab can leave.
func (l lab) nothingLeft(t *testing.T, processes map[string]string) {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // what was killed is gone in a moment
	for process, at := range processes {
		if at != "" && began(process) == at {
			command, _ := os.ReadFile(filepath.Join(process, "cmdline"))
			t.Errorf("%s runs: %q", process, command)
		}
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		if command, _ := os.ReadFile(path); strings.Contains(string(command), l.name) {
			t.Errorf("%s: %q", path, command)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), "/run/lab") {
		t.Errorf("a mount is left: %v\n%s", err, mounts)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/ferryman-lab-" + l.name, "/sys/fs/cgroup/*/ferryman-lab-" + l.name, "/run/lab", "/var/cache/ferryman-lab/labs/" + l.name, l.temp + "/*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Errorf("left: %v", found)
		}
	}
}

// exists tells whether any pattern has a file.
func exists(patterns ...string) bool {
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return true
		}
	}
	return false
}

// However a lab is interrupted, nothing is left of it.
func TestLabThatIsInterrupted(t *testing.T) {
	begun := func(l lab) bool { return exists("/var/cache/ferryman-lab/labs/" + l.name) }
	boots := func(l lab) bool {
		return exists("/sys/fs/cgroup/ferryman-lab-"+l.name+"/n1", "/sys/fs/cgroup/*/ferryman-lab-"+l.name+"/n1")
	}
	up := func(l lab) bool { _, err := l.try("exec", "n1", "true"); return err == nil }
	for _, c := range []struct {
		name   string
		args   []string
		when   func(lab) bool
		signal syscall.Signal
	}{
		{"up at once", []string{"up", "2"}, begun, syscall.SIGINT},
		{"up half-way", []string{"up", "2"}, boots, syscall.SIGTERM},
		{"run", []string{"run", "1", "sleep", "60"}, up, syscall.SIGINT},
		{"run that cannot end it", []string{"run", "1", "sleep", "60"}, up, syscall.SIGKILL},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			cmd := l.command(c.args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.args[0] == "run" {
				l.name = fmt.Sprint("run-", cmd.Process.Pid)
			}
			eventually(t, "it is that far", func() error {
				if !c.when(l) {
					return errors.New("it is not")
				}
				return nil
			})
			var processes map[string]string
			if c.args[0] == "run" {
				processes = l.processes(t)
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if c.signal == syscall.SIGKILL {
				time.Sleep(time.Second)
				l.do(t, "down") // removes the control groups
				if left, _ := filepath.Glob(l.temp + "/*"); len(left) == 1 {
					os.Remove(left[0]) // the file that it wrote while the hosts booted
				}
			}
			l.nothingLeft(t, processes)
		})
	}
}
