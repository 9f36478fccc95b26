package packaging_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman/agent/guard"
)

// These run as root on a host that may be thrown away: scripts/lab/host gives one, and says so.
func onHost(t *testing.T) {
	t.Helper()
	if os.Getenv("LAB_HOST") == "" {
		t.Skip("this installs packages on its host; scripts/lab/test runs it on one of its own")
	}
}

// apt installs a package as a person does, with what dpkg would ask answered by: keep what is there.
func apt(t *testing.T, args ...string) string {
	t.Helper()
	out := must(t, "env", append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "--no-install-recommends"}, args...)...)
	return out
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

func exists(t *testing.T, path string, want bool) {
	t.Helper()
	if _, err := os.Lstat(path); (err == nil) != want {
		t.Errorf("%s is there: got %v, want %v", path, err == nil, want)
	}
}

// eventually waits for a command to print something.
func eventually(t *testing.T, want, program string, args ...string) string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		out, _ := run(t, program, args...)
		if strings.Contains(out, want) {
			return out
		}
		if time.Now().After(deadline) {
			status, _ := run(t, "systemctl", "--no-pager", "--lines=40", "--full", "status", "ferryman", "ferryman-guard", "redis-server")
			t.Fatalf("%s %s: %q does not come; at last:\n%s\n%s", program, strings.Join(args, " "), want, out, status)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func property(t *testing.T, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(must(t, "systemctl", "show", "--value", "--property="+name, unit))
}

// same tells whether a process is the one that it was.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want || got == "" || got == "0" {
		t.Errorf("%s: got process %q, want %q as before", what, got, want)
	}
}

func demodb(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(must(t, "pgrep", "-f", "demodb serve"))
}

// TestPackageOnAHost is a package's life: installed, set up, upgraded and downgraded under an agent that runs, removed, installed again, and purged.
func TestPackageOnAHost(t *testing.T) {
	onHost(t)
	first, next := packages(t, "first", "deb")[0], packages(t, "next", "deb")[0]
	config := "/etc/ferryman/agent.yaml"

	out := apt(t, "install", first)
	if !strings.Contains(out, "nothing was started") {
		t.Errorf("the first installation does not say what comes next:\n%s", out)
	}
	for path, want := range map[string]string{
		config: "root:ferryman 640", "/etc/ferryman/agent.d": "root:ferryman 750", "/usr/bin/ferryman": "root:root 755", "/var/lib/ferryman": "ferryman:ferryman 750",
	} {
		if got := strings.TrimSpace(must(t, "stat", "-c", "%U:%G %a", path)); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if active, _ := run(t, "systemctl", "is-active", "ferryman"); strings.TrimSpace(active) != "inactive" {
		t.Errorf("the agent after the installation: got %s, want it inactive", active)
	}
	if got := strings.TrimSpace(must(t, "ferryman", "version")); got != "0.1.1" {
		t.Errorf("version: got %s, want 0.1.1", got)
	}

	// A cluster of one, whose database is the agent's own child.
	edited := "# edited by hand\nnode: {name: n1, address: \"127.0.0.1:7440\"}\nsource: {file: /etc/ferryman/desired.yaml}\n" +
		"database: {engine: demodb, address: \"127.0.0.1:7500\", sync_replicas: 0}\n"
	write(t, config, edited)
	write(t, "/etc/ferryman/desired.yaml", "{\"NumberReplicas\": 1}\n")
	must(t, "chgrp", "ferryman", config, "/etc/ferryman/desired.yaml")
	must(t, "runuser", "-u", "ferryman", "--", "ferryman", "init", "lab")
	began := time.Now()
	must(t, "systemctl", "enable", "--now", "ferryman")
	eventually(t, "primary", "ferryman", "nodes")
	t.Logf("from systemctl start to a primary: %v", time.Since(began).Round(time.Millisecond))
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	if got := property(t, "ferryman", "User"); got != "ferryman" {
		t.Errorf("the agent's user: got %q", got)
	}
	db := demodb(t)

	// One that hangs is ended by the watchdog, and its database is not.
	if err := os.MkdirAll("/run/systemd/system/ferryman.service.d", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, "/run/systemd/system/ferryman.service.d/watchdog.conf", "[Service]\nWatchdogSec=1s\n")
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "restart", "ferryman")
	agent := property(t, "ferryman", "MainPID")
	must(t, "kill", "-STOP", agent)
	eventually(t, "watchdog", "systemctl", "show", "--value", "--property=Result", "ferryman")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	same(t, "the database after the watchdog", demodb(t), db)
	must(t, "rm", "-r", "/run/systemd/system/ferryman.service.d")
	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "restart", "ferryman")

	// One that ends without being asked to is started again, whatever its status; after `ferryman stop` it stays down, and is no failure.
	agent = property(t, "ferryman", "MainPID")
	must(t, "kill", "-TERM", agent)
	eventually(t, "1", "systemctl", "show", "--value", "--property=NRestarts", "ferryman")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	must(t, "ferryman", "stop")
	eventually(t, "inactive", "systemctl", "show", "--value", "--property=ActiveState", "ferryman")
	if got := property(t, "ferryman", "ExecMainStatus"); got != "79" {
		t.Errorf("the agent after `ferryman stop`: got status %s, want 79", got)
	}
	time.Sleep(time.Second) // twice RestartSec
	if got := property(t, "ferryman", "ActiveState"); got != "inactive" {
		t.Errorf("the agent after `ferryman stop`: got %s, want that it stays down", got)
	}
	must(t, "systemctl", "start", "ferryman")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	same(t, "the database after the stops", demodb(t), db)

	// An upgrade leaves the agent alone, and says that it waits.
	agent = property(t, "ferryman", "MainPID")
	out = apt(t, "install", next)
	if !strings.Contains(out, "the agent goes on as it is") {
		t.Errorf("the upgrade does not say that the restart waits:\n%s", out)
	}
	same(t, "the agent after the upgrade", property(t, "ferryman", "MainPID"), agent)
	if got := must(t, "cat", "/run/ferryman-restart-required"); got != "0.1.2\n" {
		t.Errorf("what waits: got %q", got)
	}
	eventually(t, "agent 0.1.2 is installed and 0.1.1 runs: a higher agent.restartGeneration", "ferryman", "status")
	if got := must(t, "cat", config); got != edited {
		t.Errorf("the edited configuration after the upgrade: got %q", got)
	}
	must(t, "systemctl", "restart", "ferryman")
	exists(t, "/run/ferryman-restart-required", false)
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	same(t, "the database after the new agent's start", demodb(t), db)

	// A downgrade, where the host's owner wants the agent restarted at once.
	write(t, "/etc/default/ferryman", "RESTART_ON_UPGRADE=true\n")
	agent = property(t, "ferryman", "MainPID")
	apt(t, "install", "--allow-downgrades", first)
	if now := property(t, "ferryman", "MainPID"); now == agent || now == "0" {
		t.Errorf("the agent after the downgrade with RESTART_ON_UPGRADE: got process %s, before %s", now, agent)
	}
	exists(t, "/run/ferryman-restart-required", false)
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	same(t, "the database after the downgrade", demodb(t), db)

	// To remove it stops the agent, and nothing else.
	out = apt(t, "remove", "ferryman")
	if !strings.Contains(out, "still a member of its cluster") {
		t.Errorf("the removal does not say that the node is a member:\n%s", out)
	}
	same(t, "the database after the removal", demodb(t), db)
	exists(t, "/usr/bin/ferryman", false)
	exists(t, "/var/lib/ferryman/node-id", true)
	if got := must(t, "cat", config); got != edited {
		t.Errorf("the edited configuration after the removal: got %q", got)
	}

	// Installed again it goes on as the node that it was.
	apt(t, "install", first)
	must(t, "systemctl", "enable", "--now", "ferryman")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	same(t, "the database after it was installed again", demodb(t), db)

	// A purge keeps a member's data, unless it is told not to.
	out = apt(t, "purge", "ferryman")
	if !strings.Contains(out, "/var/lib/ferryman and what") {
		t.Errorf("the purge does not say what it keeps:\n%s", out)
	}
	exists(t, "/var/lib/ferryman/node-id", true)
	exists(t, config, false)
	must(t, "kill", "-9", demodb(t))
	apt(t, "install", first)
	if err := os.Setenv("FERRYMAN_PURGE", "force"); err != nil {
		t.Fatal(err)
	}
	apt(t, "purge", "ferryman")
	for _, path := range []string{"/var/lib/ferryman", "/etc/ferryman", "/etc/default/ferryman", "/run/ferryman-restart-required"} {
		exists(t, path, false)
	}
	if err := os.Unsetenv("FERRYMAN_PURGE"); err != nil {
		t.Fatal(err)
	}

	// One that left its cluster is not started again and again, and its data go without a word.
	apt(t, "install", first)
	write(t, config, edited)
	write(t, "/etc/ferryman/desired.yaml", "{\"NumberReplicas\": 1}\n")
	must(t, "chgrp", "ferryman", config, "/etc/ferryman/desired.yaml")
	must(t, "runuser", "-u", "ferryman", "--", "ferryman", "init", "lab")
	must(t, "systemctl", "start", "ferryman")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	must(t, "systemctl", "stop", "ferryman")
	must(t, "kill", "-9", demodb(t))
	must(t, "sed", "-i", `1s/^{/{"departed":"as this test says",/`, "/var/lib/ferryman/journal.json")
	must(t, "systemctl", "start", "ferryman")
	eventually(t, "inactive", "systemctl", "show", "--value", "--property=ActiveState", "ferryman")
	if got := property(t, "ferryman", "NRestarts"); got != "0" {
		t.Errorf("the agent of a node that left: started again %s times", got)
	}
	if out = apt(t, "purge", "ferryman"); strings.Contains(out, "member of its cluster") {
		t.Errorf("the purge of a node that left: got\n%s", out)
	}
	exists(t, "/var/lib/ferryman", false)
}

// redisSays asks the server on this host.
func redisSays(t *testing.T, args ...string) string {
	t.Helper()
	out, _ := run(t, "redis-cli", append([]string{"-p", "6379"}, args...)...)
	return strings.TrimSpace(out)
}

// askGuard sends one request to the guard's unit.
func askGuard(t *testing.T, request string) (st guard.Status) {
	t.Helper()
	conn, err := net.Dial("unix", "/run/ferryman/guard/guard.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var reply struct {
		guard.Status
		Error string
	}
	if _, err = fmt.Fprintln(conn, request); err == nil {
		err = json.NewDecoder(conn).Decode(&reply)
	}
	if err != nil || reply.Error != "" {
		t.Fatalf("the guard, asked %s: got %+v, %v", request, reply, err)
	}
	return reply.Status
}

// TestDatabaseOfTheHost is Debian's redis-server, which is started at boot and always again, made the cluster's.
func TestDatabaseOfTheHost(t *testing.T) {
	onHost(t)
	const unit = "redis-server"
	apt(t, "install", unit, packages(t, "first", "deb")[0])
	before := strings.TrimSpace(must(t, "systemctl", "is-enabled", unit))
	if restart := property(t, unit, "Restart"); before != "enabled" || restart != "always" {
		t.Fatalf("redis-server as Debian has it: got %s at boot, and restart %s", before, restart)
	}
	write(t, "/etc/ferryman/agent.yaml", "node: {name: n1, address: \"127.0.0.1:7440\"}\nsource: {file: /etc/ferryman/desired.yaml}\n"+
		"database: {engine: redis, address: \"127.0.0.1:6379\", supervisor: systemd, unit: redis-server, data_dir: /var/lib/redis, health_listen: \"127.0.0.1:8008\"}\n")
	write(t, "/etc/ferryman/desired.yaml", "{\"NumberReplicas\": 1}\n")
	must(t, "chgrp", "ferryman", "/etc/ferryman/agent.yaml", "/etc/ferryman/desired.yaml")
	t.Log(must(t, "ferryman", "setup"))
	if out := must(t, "ferryman", "setup"); !strings.Contains(out, "nothing was to be changed") {
		t.Errorf("the second setup: got %s", out)
	}
	if got, _ := run(t, "systemctl", "is-enabled", unit); strings.TrimSpace(got) != "disabled" {
		t.Errorf("redis-server at boot: got %s", got)
	}
	if got := property(t, unit, "Restart"); got != "no" {
		t.Errorf("Restart of redis-server: got %s", got)
	}

	if got := property(t, "ferryman", "After"); !strings.Contains(got, unit+".service") {
		t.Errorf("the agent is stopped before: got %s; want redis-server.service among them", got)
	}
	if got := property(t, unit, "Requires") + property(t, unit, "Wants") + property(t, unit, "BindsTo") + property(t, unit, "PartOf"); strings.Contains(got, "ferryman") {
		t.Errorf("the database's unit depends on the agent's: %s", got)
	}

	// By hand it comes up without writes.
	must(t, "systemctl", "restart", unit)
	eventually(t, "PONG", "redis-cli", "ping")
	if got := redisSays(t, "set", "a", "1"); !strings.HasPrefix(got, "READONLY") {
		t.Errorf("a write to a server that was started by hand: got %q, want READONLY", got)
	}
	must(t, "systemctl", "stop", unit)

	must(t, "runuser", "-u", "redis", "--", "ferryman", "init", "lab")
	began := time.Now()
	must(t, "systemctl", "enable", "--now", "ferryman")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	t.Logf("from systemctl start to a primary: %v", time.Since(began).Round(time.Millisecond))
	if got := redisSays(t, "set", "a", "1"); got != "OK" {
		t.Errorf("a write to the primary: got %q", got)
	}
	if got := property(t, "ferryman", "User"); got != "redis" {
		t.Errorf("the agent's user: got %q", got)
	}

	// Its package as a release: without signed documents root installs only what is on its own list.
	version := strings.TrimSpace(must(t, "dpkg-query", "-W", "-f", "${Version}", unit))
	starts := func() string {
		return must(t, "sh", "-c", "journalctl --no-pager --output=cat --unit=redis-server | grep -c ^Started")
	}
	write(t, "/etc/ferryman/desired.yaml", "generation: 5\nnodes: 1\ndatabase: {engine: redis, version: debian}\nrollout: {canary: 0, minHealthy: 1s}\n"+
		"releases: {redis/debian: {package: {name: redis-server, version: \""+version+"\"}}}\n")
	must(t, "chgrp", "ferryman", "/etc/ferryman/desired.yaml")
	before = starts()
	eventually(t, "package redis-server is not on the list", "ferryman", "status")
	if now := starts(); now != before {
		t.Errorf("the database was started %s times, before %s: it was touched for a release that is refused", now, before)
	}
	write(t, "/etc/ferryman/packages", "redis-server\n")
	eventually(t, "database complete, what is installed → debian", "ferryman", "status")
	eventually(t, "leads; db is primary", "systemctl", "show", "--value", "--property=StatusText", "ferryman")
	eventually(t, "OK", "redis-cli", "set", "d", "4")
	if held := must(t, "apt-mark", "showhold"); held != "redis-server\nredis-tools\n" {
		t.Errorf("held packages: got %q", held)
	}

	// The guard is its unit's, and answers load balancers.
	eventually(t, "active", "systemctl", "is-active", "ferryman-guard")
	must(t, "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/8008 && printf 'GET /primary HTTP/1.0\r\n\r\n' >&3 && grep -q '200 OK' <&3`)

	// The agent's user may do that to the database's unit, and nothing to others.
	as := func(args ...string) (string, bool) {
		return run(t, "runuser", append([]string{"-u", "redis", "--", "systemctl", "--no-ask-password"}, args...)...)
	}
	for _, verb := range []string{"stop", "restart"} {
		if out, ok := as(verb, "systemd-journald"); ok {
			t.Errorf("redis may %s systemd-journald: %s", verb, out)
		}
	}
	if out, ok := as("daemon-reload"); ok {
		t.Errorf("redis may reload systemd: %s", out)
	}
	if out, ok := as("enable", unit); ok {
		t.Errorf("redis may have its unit started at boot: %s", out)
	}

	// The agent gone, the database runs on; started by hand then, it has no writes.
	pid := property(t, unit, "MainPID")
	must(t, "systemctl", "stop", "ferryman")
	same(t, "the database without its agent", property(t, unit, "MainPID"), pid)
	must(t, "systemctl", "restart", unit)
	eventually(t, "PONG", "redis-cli", "ping")
	if got := redisSays(t, "set", "a", "2"); !strings.HasPrefix(got, "READONLY") {
		t.Errorf("a write to a server that was restarted without its agent: got %q, want READONLY", got)
	}
	if out, ok := as("restart", unit); !ok {
		t.Errorf("redis may not restart its unit: %s", out)
	}
	must(t, "systemctl", "start", "ferryman")
	eventually(t, "OK", "redis-cli", "set", "c", "3")
	if got := redisSays(t, "get", "a"); got != "1" {
		t.Errorf("what was written before: got %q, want 1", got)
	}

	// Nothing starts it again but the agent. It lost what it had, so it is not promoted.
	start := property(t, unit, "InvocationID")
	must(t, "kill", "-9", property(t, unit, "MainPID"))
	eventually(t, "READONLY", "redis-cli", "set", "b", "2")
	if now, by := property(t, unit, "InvocationID"), property(t, unit, "NRestarts"); now == start || by != "0" {
		t.Errorf("after a kill: invocation %s, before %s, and systemd started it %s times by itself; want another, and 0", now, start, by)
	}

	// The guard ends the database at its deadline, without the agent, and although it was itself killed since it heard of it. It may do so as the same
	// user alone, into whose user namespace it does not belong.
	must(t, "systemctl", "stop", "ferryman")
	must(t, "systemctl", "start", unit)
	st := askGuard(t, `{"op":"check"}`)
	askGuard(t, fmt.Sprintf(`{"op":"arm","epoch":%d,"deadline":%d}`, st.Epoch+1, guard.Boottime()+3*time.Second))
	pid = property(t, "ferryman-guard", "MainPID")
	must(t, "kill", "-9", pid)
	eventually(t, "signal", "systemctl", "show", "--value", "--property=Result", unit)
	if got := property(t, unit, "ActiveState"); got != "failed" {
		t.Errorf("the database after the deadline: got %s, want failed", got)
	}
	eventually(t, "fenced the database", "journalctl", "--no-pager", "--unit=ferryman-guard")
	if now := askGuard(t, `{"op":"check"}`); now.Fenced != st.Epoch+1 || now.Armed {
		t.Errorf("the guard after the deadline: got %+v; want epoch %d fenced", now, st.Epoch+1)
	}
	if marker := must(t, "cat", "/var/lib/redis/ferryman-marker.json"); !strings.Contains(marker, `"fenced":true`) {
		t.Errorf("the marker after the deadline: got %s", marker)
	}

	// Undone.
	must(t, "systemctl", "stop", "ferryman", "ferryman-guard", unit)
	t.Log(must(t, "ferryman", "setup", "--remove"))
	if got := strings.TrimSpace(must(t, "systemctl", "is-enabled", unit)); got != "enabled" {
		t.Errorf("redis-server at boot afterwards: got %s", got)
	}
	if got := fmt.Sprint(property(t, unit, "Restart"), " ", property(t, "ferryman", "User")); got != "always ferryman" {
		t.Errorf("units afterwards: got %q", got)
	}
	left, _ := filepath.Glob("/etc/systemd/system/*.d/60-ferryman.conf")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Setenv("FERRYMAN_PURGE", "force"); err != nil {
		t.Fatal(err)
	}
	apt(t, "purge", "ferryman")
	exists(t, "/var/lib/redis", true)
	exists(t, "/var/lib/ferryman-install", false)
	exists(t, "/usr/sbin/policy-rc.d", false)
}
