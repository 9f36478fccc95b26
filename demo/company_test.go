package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/rpc"
	"ferryman/dbhooks/demodb"
)

// company is a cluster of real processes, with a client that writes, for a test
// and its subtests.
type company struct {
	*play
	failover ferryman.FailoverPolicy // manual, unless a test says otherwise before it opens
	asked    int                     // how often the cluster was seen to ask for a person's word
}

// light is demodb in small archives: their program only calls this binary. It
// has more versions than the demo plays.
type light struct{ demoEngine }

const lightUpgrades = 9

func lightVersion(n int) string { return fmt.Sprintf("1.1.%d", n) }

func (e light) prepare(ctx context.Context, dir, program string) error {
	script := filepath.Join(dir, "demodb.sh")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec '%s' \"$@\"\n", program), 0o700); err != nil {
		return err
	}
	for n := 1; n <= lightUpgrades; n++ {
		r := demodb.Release{Version: lightVersion(n)}
		a, err := r.WriteArchive(filepath.Join(dir, archiveName(e.name(), r.Version)), script)
		if err == nil {
			err = keep(dir, e.name(), r.Version, a)
		}
		if err != nil {
			return err
		}
	}
	return e.demoEngine.prepare(ctx, dir, script)
}

// newCompany sets a stage on which nothing runs yet. Every host takes the
// configuration on top of its own.
func newCompany(t *testing.T, configuration string) *company {
	t.Helper()
	return newCompanyOf(t, light{}, configuration)
}

func newCompanyOf(t *testing.T, eng engine, configuration string) *company {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return newCompanyAs(t, eng, program, configuration)
}

// newCompanyAs has another program than this one on every host.
func newCompanyAs(t *testing.T, eng engine, program, configuration string) *company {
	t.Helper()
	st, err := build(t.Context(), eng, program)
	if err != nil {
		t.Fatal(err)
	}
	c := &company{play: &play{stage: st, writer: newWriter(st, eng)}}
	t.Cleanup(func() {
		c.writer.stop()
		c.sane(t)
		if dir := os.Getenv("FERRYMAN_TEST_KEEP"); dir != "" {
			_ = exec.Command("cp", "-a", st.dir, filepath.Join(dir, t.Name())).Run()
		}
		if err := st.strike(); err != nil {
			t.Error(err)
		}
	})
	if err := os.MkdirAll(filepath.Join(st.dir, settings), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(st.dir, settings, "test.yaml"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// sane looks for what no process may say, and after a failure shows what each
// host said last.
func (c *company) sane(t *testing.T) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(c.stage.dir, "hosts", "*", "agent.log"))
	more, _ := filepath.Glob(filepath.Join(c.stage.dir, "hosts", "*", "data", "db.log"))
	for _, path := range append(append(logs, more...), filepath.Join(c.stage.dir, serverLog)) {
		raw, _ := os.ReadFile(path)
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if i := strings.Index(string(raw), bad); i >= 0 {
				t.Errorf("%s: %s", path, raw[i:min(len(raw), i+4000)])
			}
		}
		if t.Failed() {
			t.Logf("%s ends with:\n%s", path, raw[max(0, len(raw)-3000):])
		}
	}
}

// open forms a cluster of three that the reference api-server serves, and
// begins to write.
func (c *company) open(t *testing.T) {
	t.Helper()
	if err := c.stage.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.doc, err = c.stage.firstDocument(); err != nil {
		t.Fatal(err)
	}
	c.doc.Database.Failover = c.failover
	canary := 0
	c.doc.Rollout.Canary, c.doc.Rollout.Bake, c.doc.Rollout.MinHealthy = &canary, 0, ferryman.Duration(100*time.Millisecond)
	c.change(t)
	c.settle(t)
	c.writer.start(context.WithoutCancel(t.Context()), "test")
	c.write(t)
}

// change publishes the document.
func (c *company) change(t *testing.T) {
	t.Helper()
	if err := c.publish(); err != nil {
		t.Fatal(err)
	}
}

// release makes one of the engine's versions the desired one.
func (c *company) release(t *testing.T, version string) {
	t.Helper()
	name := archiveName(c.stage.eng.name(), version)
	raw, err := os.ReadFile(filepath.Join(c.stage.dir, "artefacts", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var a ferryman.Archive
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatal(err)
	}
	a.URL = fmt.Sprintf("http://%s/artefacts/%s", c.stage.address, name)
	c.doc.Releases[ferryman.ReleaseKey(c.stage.eng.name(), version)] = ferryman.Release{Archive: &a}
	c.doc.Database.Version = version
}

// wait looks at the cluster until f is content.
func (c *company) wait(t *testing.T, what string, f func(ferryman.Report) error) ferryman.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen ferryman.Report
	if err := c.until(ctx, func(r ferryman.Report) error { seen = r; return f(r) }); err != nil {
		t.Fatalf("%s: %v\n%s", what, err, history(seen))
	}
	return seen
}

// settle waits until the cluster is what the document says and has caught up,
// and nothing is under way.
func (c *company) settle(t *testing.T) ferryman.Report {
	t.Helper()
	return c.wait(t, "settle", c.quiet())
}

func (c *company) quiet() func(ferryman.Report) error { return quiet(c.doc, c.doc.Database.Version) }

func quiet(doc ferryman.Document, version string) func(ferryman.Report) error {
	return func(r ferryman.Report) error {
		if err := settled(doc, version)(r); err != nil {
			return err
		}
		if r.State.Switchover != nil {
			return errors.New("a switchover is under way")
		}
		for id, m := range r.State.Members {
			if !r.View.Nodes[id].CaughtUp || m.Want != ferryman.WantActive {
				return fmt.Errorf("%s has not caught up, or is wanted %s", m.Name, m.Want)
			}
		}
		for _, st := range r.State.Ledger {
			if st.Open() {
				return fmt.Errorf("step %d, %s, is open", st.ID, st.Op)
			}
		}
		return nil
	}
}

// write waits until the client was acknowledged some more writes.
func (c *company) write(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.writes(ctx, 20); err != nil {
		t.Fatal(err)
	}
}

// checkWrites ends the client and reads all back that it was acknowledged.
func (c *company) checkWrites(t *testing.T) {
	t.Helper()
	c.settle(t)
	c.write(t)
	c.writer.stop()
	c.readBack(t.Context())
	acked, _, _ := c.writer.seen("")
	if len(c.lost) > 0 || c.checked != acked {
		t.Errorf("of %d acknowledged writes %d were read back and %d are lost, the first being %q", acked, c.checked, len(c.lost), c.lost[:min(3, len(c.lost))])
	}
}

// history is what the cluster did, for a test that failed.
func history(r ferryman.Report) string {
	var b strings.Builder
	for _, e := range r.State.Events {
		fmt.Fprintf(&b, "%s %s\n", e.Time.Format("15:04:05.000"), e.Text)
	}
	for _, st := range r.State.Ledger {
		if st.Open() {
			fmt.Fprintf(&b, "open: step %d, %s on %s, attempt %d\n", st.ID, st.Op, st.Node, st.Attempt)
		}
	}
	return b.String()
}

// eventually asks until the answer is nil.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// names are the hosts of members, in order.
func names(r ferryman.Report) []string {
	var out []string
	for _, m := range r.State.Members {
		out = append(out, m.Name)
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return out
}

func nameOf(r ferryman.Report, id ferryman.NodeID) string { return r.State.Members[id].Name }

// statusOf is what a host's node said of itself last.
func statusOf(t *testing.T, r ferryman.Report, name string) ferryman.NodeStatus {
	t.Helper()
	m, ok := r.State.Member(name)
	if !ok {
		t.Fatalf("%s is no member", name)
	}
	return r.View.Nodes[m.ID].Status
}

// startID is that of the database's process.
func startID(t *testing.T, r ferryman.Report, name string) string {
	t.Helper()
	services := statusOf(t, r, name).Services
	if len(services) != 1 || services[0].Unit.StartID == "" {
		t.Fatalf("%s reports %+v, not one service that runs", name, services)
	}
	return services[0].Unit.StartID
}

// starts counts how often each host's database was started, by what it says
// itself.
func (c *company) starts(t *testing.T, hosts []string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, h := range hosts {
		raw, err := os.ReadFile(filepath.Join(c.host(h), "data", "db.log"))
		if err != nil {
			t.Fatal(err)
		}
		out[h] = strings.Count(string(raw), "msg=listening")
	}
	return out
}

func (c *company) host(name string) string { return filepath.Join(c.stage.dir, "hosts", name) }

// local is what the node of a host knows by itself.
func (c *company) local(ctx context.Context, name string) (rpc.LocalReport, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := rpc.DialControl(c.stage.socket(name))
	if err != nil {
		return rpc.LocalReport{}, err
	}
	defer client.Close()
	return client.Local(ctx)
}

// signal sends a signal to the agent of a host, and to nothing else there.
func (c *company) signal(t *testing.T, name string, sig syscall.Signal) {
	t.Helper()
	pid := c.stage.quiet().Agent(name)
	if pid == 0 {
		t.Fatalf("no agent runs on %s", name)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// kill ends the agent of a host as a crash does; its database goes on.
func (c *company) kill(t *testing.T, name string) {
	t.Helper()
	c.signal(t, name, syscall.SIGKILL)
	eventually(t, "the agent of "+name+" ends", func() error {
		hosts, err := c.stage.hosts()
		if err == nil && slices.Contains(hosts, name) {
			err = errors.New("its host still runs it")
		}
		return err
	})
}

// stop has the agent of a host stop, as a person does there.
func (c *company) stop(t *testing.T, name string) {
	t.Helper()
	client, err := rpc.DialControl(c.stage.socket(name))
	if err == nil {
		err = errors.Join(client.Stop(t.Context(), rpc.StopRequest{}), client.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// destroy ends a host with all that runs on it.
func (c *company) destroy(t *testing.T, name string) {
	t.Helper()
	if err := c.stage.quiet().Kill(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// revive starts the agent of a host that ended, on the disk that is there.
func (c *company) revive(t *testing.T, name string) {
	t.Helper()
	peer, err := os.ReadFile(filepath.Join(c.host(name), "address"))
	if err != nil {
		t.Fatal(err)
	}
	command, err := c.stage.command(c.host(name), string(peer))
	if err == nil {
		err = c.stage.quiet().Start(name, command)
	}
	if err != nil {
		t.Fatal(err)
	}
}
