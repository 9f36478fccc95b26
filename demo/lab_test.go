package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/rpc"
)

// These run on hosts with systemd, which scripts/lab/lab makes and which the
// test is among: in their network, outside of all of them.

// labLease is long enough for two cores that carry four hosts.
const labLease = 2 * time.Second

// hostFiles are what a person writes on each host of a database, beside the
// packages: as docs/OPERATIONS.md has it, under "Install". NAME and ADDRESS are
// the host's.
var hostFiles = map[string]string{
	"/etc/ferryman/agent.yaml": `node: {name: NAME, address: "NAME:7440"}
join: ["n1:7440", "n2:7440", "n3:7440"]
source: {url: "http://api:7480"}
cluster: {dead_after: 20s}
database: {engine: redis, address: "ADDRESS:6379", data_dir: /var/lib/redis, password_file: /etc/ferryman/password, supervisor: systemd, unit: redis-server.service}
`,
	"/etc/ferryman/password": password + "\n", // without one, Redis lets in nobody from another host
}

// serverFiles are what the api-server's host has.
var serverFiles = map[string]string{
	"/etc/ferryman/api-server.yaml": "{listen: \"10.78.0.2:7480\", file: /etc/ferryman/desired.yaml}\n",
	"/etc/ferryman/desired.yaml": fmt.Sprintf(`
cluster: orders
generation: 1
nodes: %d
database: {engine: redis, failover: {mode: automatic, leaseTTL: %s}}
`, len(labHosts), labLease),
	"/etc/systemd/system/api-server.service": `
[Service]
ExecStart=/usr/bin/ferryman api-server --config /etc/ferryman/api-server.yaml
[Install]
WantedBy=multi-user.target
`,
}

// labHosts are those of this lab that are to be a cluster.
var labHosts = hostsOfLab()

func hostsOfLab() (out []string) {
	paths, _ := filepath.Glob("/run/lab/n[1-9]")
	for _, p := range paths {
		out = append(out, filepath.Base(p))
	}
	return out
}

// site is a lab whose hosts are about to be a cluster.
type site struct{ script string }

func newSite(t *testing.T) site {
	t.Helper()
	if os.Getenv("FERRYMAN_LAB") == "" {
		t.Skip("installs and kills hosts with systemd; scripts/lab/test runs it among three")
	}
	s := site{script: filepath.Join("..", "scripts", "lab", "lab")}
	t.Cleanup(func() {
		for _, h := range labHosts {
			said, err := s.try(h, "journalctl", "--no-pager", "--output=cat", "--unit=ferryman")
			for _, bad := range []string{"panic:", "fatal error:", "DATA RACE"} {
				if i := strings.Index(said, bad); i >= 0 {
					t.Errorf("the agent of %s: %s", h, said[i:min(len(said), i+4000)])
				}
			}
			if t.Failed() {
				t.Logf("the agent of %s ends with (%v):\n%s", h, err, said[max(0, len(said)-4000):])
			}
		}
	})
	return s
}

// lab says a command of scripts/lab/lab, and returns what it prints.
func (s site) lab(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(s.script, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("lab %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// try runs a command on a host.
func (s site) try(host string, command ...string) (string, error) {
	out, err := exec.Command(s.script, append([]string{"exec", host}, command...)...).CombinedOutput()
	return string(out), err
}

// run runs lines of a shell on a host, as root.
func (s site) run(t *testing.T, host, lines string) string {
	t.Helper()
	return s.lab(t, "exec", host, "sh", "-euc", lines)
}

// put writes files on a host.
func (s site) put(t *testing.T, host string, files map[string]string) {
	t.Helper()
	root := s.lab(t, "root", host)
	names := strings.NewReplacer("NAME", host, "ADDRESS", "10.77.0.1"+strings.TrimPrefix(host, "n"))
	for path, content := range files {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755), os.WriteFile(filepath.Join(root, path), []byte(names.Replace(content)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// copy puts a file of this machine on a host.
func (s site) copy(t *testing.T, host, to, from string) {
	t.Helper()
	if err := copyFile(filepath.Join(s.lab(t, "root", host), to), from); err != nil {
		t.Fatal(err)
	}
}

// deb is the package of ferryman.
func deb(t *testing.T) string {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(os.Getenv("LAB_PACKAGES"), "first", "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("LAB_PACKAGES: packages of ferryman: got %v, %v; want one: ARCHITECTURES=$(go env GOARCH) FORMATS=deb packaging/build DIRECTORY/first makes it", debs, err)
	}
	return debs[0]
}

const aptInstall = "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "

// serve makes the host beside the others that of the api-server.
func (s site) serve(t *testing.T, files map[string]string) {
	t.Helper()
	s.copy(t, "api", "/srv/ferryman.deb", deb(t))
	s.run(t, "api", aptInstall+"/srv/ferryman.deb >/dev/null 2>&1")
	s.put(t, "api", files)
}

const startServer = "systemctl daemon-reload && systemctl enable --now api-server"

// install makes hosts with Debian's Redis a cluster, one after the other, as a
// person does, and says how long that took until they vote.
func (s site) install(t *testing.T, redis string, files map[string]string) {
	t.Helper()
	var databases sync.WaitGroup
	for _, h := range labHosts {
		databases.Go(func() {
			if out, err := s.try(h, "sh", "-euc", aptInstall+redis+" && systemctl stop redis-server && rm -f /var/lib/redis/*"); err != nil {
				t.Errorf("%s: %v: %s", h, err, out)
			}
		})
	}
	databases.Wait()
	file, began := deb(t), map[string]time.Time{}
	voted := s.voting(t)
	for _, h := range labHosts {
		s.copy(t, h, "/srv/ferryman.deb", file)
		token := ""
		if h != labHosts[0] {
			token = s.run(t, labHosts[0], "timeout 30 sh -c 'until ferryman certs token 2>/dev/null; do sleep 0.1; done'") // it elects itself first
		}
		began[h] = time.Now()
		s.run(t, h, aptInstall+"/srv/ferryman.deb >/dev/null 2>&1")
		s.put(t, h, files)
		s.run(t, h, `chgrp -R ferryman /etc/ferryman; chmod -R go-w /etc/ferryman
			ferryman setup >/dev/null`)
		if token == "" {
			s.run(t, h, "runuser -u redis -- ferryman init orders && systemctl enable --now ferryman")
		} else {
			s.run(t, h, "echo '"+token+"' | runuser -u redis -- ferryman join && systemctl enable --now ferryman")
		}
	}
	votes := voted()
	for _, h := range labHosts {
		t.Logf("%s votes %s after its apt install began", h, votes[h].Sub(began[h]).Round(10*time.Millisecond))
	}
	last := slices.MaxFunc(slices.Collect(maps.Values(votes)), time.Time.Compare)
	t.Logf("all %d vote %s after the first apt install began", len(votes), last.Sub(began[labHosts[0]]).Round(10*time.Millisecond))
}

// form makes all hosts a cluster with an api-server.
func (s site) form(t *testing.T) {
	t.Helper()
	s.serve(t, serverFiles)
	s.run(t, "api", startServer)
	s.install(t, "redis-server", hostFiles)
}

// voting sees who votes and has caught up. What it returns waits until all do.
func (s site) voting(t *testing.T) func() map[string]time.Time {
	t.Helper()
	votes, all := map[string]time.Time{}, make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	go func() {
		defer close(all)
		for ; len(votes) < len(labHosts) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			r, err := s.report(ctx)
			if err != nil {
				continue
			}
			for id, m := range r.State.Members {
				if _, known := votes[m.Name]; !known && r.View.Raft[id] == ferryman.Voter && r.View.Nodes[id].CaughtUp {
					votes[m.Name] = time.Now()
				}
			}
		}
	}()
	return func() map[string]time.Time {
		<-all
		cancel()
		if len(votes) < len(labHosts) {
			t.Fatalf("only these vote: %v", votes)
		}
		return votes
	}
}

// report is what the leader knows, from whichever agent answers.
func (s site) report(ctx context.Context) (ferryman.Report, error) {
	last := errors.New("no host runs")
	for _, h := range labHosts {
		leader, err := os.ReadFile(filepath.Join("/run/lab", h, "leader"))
		if err != nil {
			continue
		}
		var r ferryman.Report
		if r, last = askSocket(ctx, filepath.Join("/proc", strings.TrimSpace(string(leader)), "root/run/ferryman/agent.sock")); last == nil {
			return r, nil
		}
	}
	return ferryman.Report{}, last
}

func askSocket(ctx context.Context, socket string) (ferryman.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := rpc.DialControl(socket)
	if err != nil {
		return ferryman.Report{}, err
	}
	defer c.Close()
	return c.Report(ctx)
}

// whole waits until all nodes vote and have caught up, all databases but one
// stream from that one, and its loss would be answered.
func (s site) whole(t *testing.T) ferryman.Report {
	t.Helper()
	var seen ferryman.Report
	defer func() {
		if t.Failed() {
			t.Log(history(seen))
		}
	}()
	eventually(t, "the cluster is whole", func() error {
		r, err := s.report(t.Context())
		if err != nil {
			return err
		}
		seen = r
		return wholeness(r)
	})
	return seen
}

// wholeness is what guarded says, of the version that the hosts happen to have.
func wholeness(r ferryman.Report) error {
	if r.State.Accepted == nil {
		return errors.New("no document is accepted")
	}
	doc, p := r.State.Accepted.Document, r.State.Primary
	svc, _ := r.View.Nodes[p.Node].Status.Service(p.Slot)
	return guarded(watching(quiet(doc, svc.Instance.Version), ferryman.Duration(labLease), 0))(r)
}

// succeeded waits until another node than that of before is the primary and
// takes writes.
func (s site) succeeded(t *testing.T, e *everyone, before ferryman.Report) (after ferryman.Report) {
	t.Helper()
	eventually(t, "another primary", func() error {
		r, err := s.report(t.Context())
		if err != nil {
			return err
		}
		if after = r; r.State.Primary.Epoch == before.State.Primary.Epoch {
			return errors.New("the primary is still that of before")
		}
		return e.answeredSince(r.State.Primary.Since)
	})
	if primaryHost(after) == primaryHost(before) {
		t.Errorf("the next primary is again %s\n%s", primaryHost(after), history(after))
	}
	return after
}

// knock tries to connect to a host's agent and database from outside, and
// returns how many packets were dropped for that.
func (s site) knock(t *testing.T, host string) int {
	t.Helper()
	before := s.blocked(t)
	for _, port := range []string{"7440", "6379"} {
		if out, err := s.try("api", "timeout", "0.3", "bash", "-c", "</dev/tcp/"+host+"/"+port); err == nil || strings.Contains(out, "refused") {
			t.Errorf("port %s of %s can be reached from outside: %v %s", port, host, err, out)
		}
	}
	return s.blocked(t) - before
}

func (s site) blocked(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(s.lab(t, "blocked"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Hosts with Debian's Redis under systemd become a cluster, and keep what
// they acknowledged while hosts are restarted, lost and cut off. No connection
// is let in from outside at any time.
func TestHostsWithSystemd(t *testing.T) {
	s := newSite(t)
	began := time.Now()
	s.form(t)
	s.whole(t)
	t.Logf("%d hosts are a cluster after %s", len(labHosts), time.Since(began).Round(100*time.Millisecond))
	e := recording(t, s.report, "a", acknowledged, openLocked)
	dropped := s.knock(t, "n1")
	if dropped < 2 {
		t.Fatalf("of two attempts to connect from outside %d packets were dropped: the rule does not stand", dropped)
	}
	for _, scene := range []struct {
		name string
		play func(*testing.T, *everyone)
	}{
		{"reboot", s.restarts},
		{"reboot of the primary's host", s.primaryRestarts},
		{"kill", s.killed},
		{"cut", s.cutOff},
		{"no api-server", s.withoutServer},
		{"a unit that may come up with writes", s.unfit},
	} {
		if !t.Run(scene.name, func(t *testing.T) { scene.play(t, e) }) {
			return
		}
	}
	e.judge(t, s.whole(t), locked{})
	if n := s.knock(t, "n1"); n < 2 {
		t.Errorf("at last %d packets were dropped of two attempts to connect from outside: the rule does not stand", n)
	}
}

// restarts restarts the host of a replica. Its primary goes on.
func (s site) restarts(t *testing.T, e *everyone) {
	before := s.whole(t)
	at := time.Now()
	host := others(before)[0]
	_, away := s.reboot(t, before, host)
	after := s.whole(t)
	if got, want := after.State.Primary.Epoch, before.State.Primary.Epoch; got != want {
		t.Errorf("the restart of a replica's host led to epoch %d after %d\n%s", got, want, history(after))
	}
	t.Logf("%s voted again after %s; the longest time without a write was %s", host, away, s.gapSince(e, at))
}

// primaryRestarts restarts the primary's host, which hands over first.
func (s site) primaryRestarts(t *testing.T, e *everyone) {
	before := s.whole(t)
	at := time.Now()
	host := primaryHost(before)
	after, away := s.reboot(t, before, host)
	if got, want := after.State.Primary.Epoch, before.State.Primary.Epoch+1; got != want || primaryHost(after) == host {
		t.Errorf("%s is the primary of epoch %d; want another than %s, of epoch %d\n%s", primaryHost(after), got, host, want, history(after))
	}
	s.returned(t, host, after)
	t.Logf("%s after %s, which voted again after %s, and was whole after %s; no write was acknowledged for %s", primaryHost(after), host, away,
		time.Since(at).Round(100*time.Millisecond), s.gapSince(e, at))
}

// reboot restarts a host calmly, and waits until it votes again and its database
// runs: as a replica, unless it is the primary's.
func (s site) reboot(t *testing.T, before ferryman.Report, host string) (seen ferryman.Report, away time.Duration) {
	t.Helper()
	m, _ := before.State.Member(host)
	old, at := statusOf(t, before, host), time.Now()
	_, _ = s.try(host, "systemctl", "reboot") // which may end the command before it answers
	eventually(t, host+" votes again, with its database", func() error {
		r, err := s.report(t.Context())
		if err != nil {
			return err
		}
		seen = r
		n := r.View.Nodes[m.ID]
		if n.Status.BootID == old.BootID || !n.CaughtUp || r.View.Raft[m.ID] != ferryman.Voter {
			return fmt.Errorf("its agent of boot %s has caught up: %v; it is a %s", n.Status.BootID, n.CaughtUp, r.View.Raft[m.ID])
		}
		if away == 0 {
			away = time.Since(at).Round(100 * time.Millisecond)
		}
		if db := n.Status.Services[0]; !db.Unit.Active || db.Unit.StartID == old.Services[0].Unit.StartID || !db.Instance.Running {
			return fmt.Errorf("its database does not run: %s", db.Instance.Reason)
		}
		return nil
	})
	if db := seen.View.Nodes[m.ID].Status.Services[0].Instance; primaryHost(seen) != host && (db.Role != ferryman.RoleReplica || db.Writable) {
		t.Errorf("the database of %s came up as a %s that accepts writes: %v", host, db.Role, db.Writable)
	}
	return seen, away
}

// killed takes the power from the primary's host, and gives it back.
func (s site) killed(t *testing.T, e *everyone) {
	before := s.whole(t)
	host := primaryHost(before)
	at := time.Now()
	s.lab(t, "kill", host)
	after := s.succeeded(t, e, before)
	t.Logf("%s after %s: no write was acknowledged for %s", primaryHost(after), host, s.gapSince(e, at))
	s.lab(t, "start", host)
	s.returned(t, host, after)
}

// cutOff cuts the primary's host off from all, but for the client that writes
// to each of them.
func (s site) cutOff(t *testing.T, e *everyone) {
	before := s.whole(t)
	host := primaryHost(before)
	at := time.Now()
	for _, other := range append(others(before), "api") {
		s.lab(t, "cut", host, other)
	}
	after := s.succeeded(t, e, before)
	t.Logf("%s after %s: no write was acknowledged for %s", primaryHost(after), host, s.gapSince(e, at))
	if n := s.lab(t, "heal"); n == "0" {
		t.Error("the cut met no packet")
	}
	s.returned(t, host, after)
}

// returned waits until a host that was lost is whole again. It is a replica.
func (s site) returned(t *testing.T, host string, since ferryman.Report) {
	t.Helper()
	r := s.whole(t)
	if got, want := r.State.Primary.Epoch, since.State.Primary.Epoch; got != want || primaryHost(r) == host {
		t.Errorf("with %s back, %s is the primary of epoch %d; it was epoch %d\n%s", host, primaryHost(r), got, want, history(r))
	}
}

// withoutServer loses the api-server, first its network and then all of it. The
// cluster does not care.
func (s site) withoutServer(t *testing.T, e *everyone) {
	before := s.whole(t)
	at := time.Now()
	s.lab(t, "cut", "api")
	time.Sleep(2 * labLease)
	s.lab(t, "kill", "api")
	time.Sleep(labLease)
	after := s.whole(t)
	if got, want := after.State.Primary.Epoch, before.State.Primary.Epoch; got != want {
		t.Errorf("without the api-server it is epoch %d after %d\n%s", got, want, history(after))
	}
	if err := e.answeredSince(time.Now().Add(-time.Second)); err != nil {
		t.Error(err)
	}
	t.Logf("the longest time without a write was %s", s.gapSince(e, at))
	s.lab(t, "heal")
	s.lab(t, "start", "api")
}

// unfit has a replica's unit start the database with Debian's configuration,
// which accepts writes. The agent notices, and the cluster does not care.
func (s site) unfit(t *testing.T, _ *everyone) {
	before := s.whole(t)
	host := others(before)[0]
	s.run(t, host, `cd /etc/systemd/system/redis-server.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/bin/redis-server /etc/redis/redis.conf\nRestart=always\n' >99-mine.conf; systemctl daemon-reload`)
	eventually(t, "it is a problem, and on the screen", func() error {
		said := s.run(t, host, "ferryman status")
		if !strings.Contains(said, "not `ferryman database`") || !strings.Contains(said, "sudo ferryman setup") {
			return errors.New(said)
		}
		return nil
	})
	s.run(t, host, "rm /etc/systemd/system/redis-server.service.d/99-mine.conf; systemctl daemon-reload")
	eventually(t, "it is no problem any more", func() error {
		if said := s.run(t, host, "ferryman status"); strings.Contains(said, "ferryman setup") {
			return errors.New(said)
		}
		return nil
	})
	if after := s.whole(t); after.State.Primary.Epoch != before.State.Primary.Epoch {
		t.Errorf("a replica's unit led to epoch %d after %d\n%s", after.State.Primary.Epoch, before.State.Primary.Epoch, history(after))
	}
}

func (s site) gapSince(e *everyone, at time.Time) time.Duration {
	return gap(e.written(), acknowledged, at, time.Now()).Round(time.Millisecond)
}
