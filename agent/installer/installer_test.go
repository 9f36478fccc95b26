package installer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ferryman"
	"ferryman/agent/installer"
	"ferryman/agent/source"
)

// manager notes what it is asked for.
type manager struct {
	asked []string
	err   error
}

func (m *manager) Stage(_ context.Context, p ferryman.Package, keep int) error {
	m.asked = append(m.asked, fmt.Sprintf("stage %s=%s keep %d", p.Name, p.Version, keep))
	return m.err
}

func (m *manager) Switch(_ context.Context, p ferryman.Package) error {
	m.asked = append(m.asked, fmt.Sprintf("switch %s=%s", p.Name, p.Version))
	return m.err
}

// host has both sides on one disk. What root owns there is this user's.
type host struct {
	t    *testing.T
	dir  string
	root installer.Root
	apt  *manager
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), apt: &manager{}}
	h.root = installer.Root{Run: filepath.Join(h.dir, "run"), State: filepath.Join(h.dir, "state"), List: filepath.Join(h.dir, "packages"),
		Config: filepath.Join(h.dir, "agent.yaml"), Manager: func() (installer.Manager, error) { return h.apt, nil }}
	for _, dir := range []string{h.root.Run, h.root.State} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.configure("")
	return h
}

func (h *host) write(path, content string, mode os.FileMode) {
	h.t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) configure(more string) {
	h.write(h.root.Config, "node: {name: n1, witness: true}\nsource: {file: /nowhere"+more+"}\n", 0o644)
}

func key(n byte) source.PrivateKey { return source.KeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// trust has the host want documents that are signed by a key.
func (h *host) trust(n byte) {
	h.t.Helper()
	pem, err := key(n).Public().PEM()
	if err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(h.dir, "release.pub")
	h.write(path, string(pem), 0o644)
	h.configure(", trusted_keys: [" + path + "]")
}

const redisKey = "redis/7-u10"

func redis(version string) ferryman.Package {
	return ferryman.Package{Name: "redis-server", Version: version}
}

// document is one of orders, with releases by their keys.
func document(generation int, releases ...string) string {
	return fmt.Sprintf("cluster: orders\ngeneration: %d\nnodes: 3\nreleases: {%s}\n", generation, strings.Join(releases, ", "))
}

func release(key, name, version string) string {
	return fmt.Sprintf("%s: {package: {name: %s, version: %q}}", key, name, version)
}

func signed(text string, keys ...byte) string {
	e := source.Envelope{Type: source.PayloadType, Payload: []byte(text)}
	for _, n := range keys {
		e.Sign(key(n))
	}
	return string(e.Marshal())
}

// ask is what an agent can do: it writes what it likes, and starts the unit.
func (h *host) ask(verb installer.Verb, key string, p ferryman.Package, content string) error {
	h.t.Helper()
	r := installer.NewRequest(verb, key, p)
	h.write(h.requestPath(r), content, 0o600)
	return h.root.Do(h.t.Context(), r.String())
}

func (h *host) requestPath(r installer.Request) string {
	return filepath.Join(h.root.Run, "install-"+r.String()+".json")
}

func TestSignedDocumentsSayWhatIsInstalled(t *testing.T) {
	t.Parallel()
	u7, u10 := release("redis/7-u7", "redis-server", "5:7-u7"), release(redisKey, "redis-server", "5:7-u10")
	type attempt struct {
		key     string
		p       ferryman.Package
		content string
		want    string // empty when it is carried out
	}
	good := attempt{redisKey, redis("5:7-u10"), signed(document(2, u7, u10), 1), ""}
	for name, attempts := range map[string][]attempt{
		"signed":                 {good},
		"again":                  {good, good},
		"not signed":             {{redisKey, redis("5:7-u10"), document(2, u7, u10), "the document is not signed"}},
		"by another key":         {{redisKey, redis("5:7-u10"), signed(document(2, u7, u10), 2), "is not trusted"}},
		"changed afterwards":     {{redisKey, redis("5:7-u10"), strings.Replace(signed(document(2, u7), 1), `"payload":"`, `"payload":"QQ`, 1), "not trusted"}},
		"an older generation":    {good, {"redis/7-u7", redis("5:7-u7"), signed(document(1, u7), 1), "generation 1 is older than 2"}},
		"two of one generation":  {good, {redisKey, redis("5:7-u10"), signed(document(2, u10), 1), "with other content"}},
		"another cluster":        {good, {redisKey, redis("5:7-u10"), signed(strings.Replace(document(3, u10), "orders", "billing", 1), 1), "meant for cluster billing"}},
		"a release not in it":    {{"redis/7-u99", redis("5:7-u99"), signed(document(2, u7), 1), "no document that root verified on this host names the release"}},
		"the key of another":     {{redisKey, redis("5:7-u7"), signed(document(2, u7, u10), 1), "names the release"}},
		"the way back":           {good, {"redis/7-u7", redis("5:7-u7"), signed(document(3, u10), 1), ""}},
		"an archive":             {{redisKey, redis("5:7-u10"), signed(document(2, redisKey+`: {archive: {url: "https://a/b", sha256: "`+strings.Repeat("0", 64)+`", size: 1}}`), 1), "names the release"}},
		"an option":              {{redisKey, ferryman.Package{Name: "-oA", Version: "1"}, signed(document(2, release(redisKey, "-oA", "1")), 1), "not the name of a package"}},
		"an option as a version": {{redisKey, redis("1 -oA=b"), signed(document(2, release(redisKey, "redis-server", "1 -oA=b")), 1), "not the version of a package"}},
		"the agent":              {{"redis/1", ferryman.Package{Name: "ferryman", Version: "1"}, signed(document(2, release("redis/1", "ferryman", "1")), 1), "is the agent itself"}},
		"nothing":                {{redisKey, redis("5:7-u10"), "", "not signed"}},
		"too much":               {{redisKey, redis("5:7-u10"), strings.Repeat(" ", source.MaxEnvelope+1), "is longer than"}},
	} {
		h := newHost(t)
		h.trust(1)
		for i, a := range attempts {
			before := len(h.apt.asked)
			err := h.ask(installer.Switch, a.key, a.p, a.content)
			switch {
			case a.want == "" && (err != nil || len(h.apt.asked) != before+1 || h.apt.asked[before] != "switch redis-server="+a.p.Version):
				t.Errorf("%s, %d: got %v, and was asked %q", name, i, err, h.apt.asked)
			case a.want != "" && (err == nil || !strings.Contains(err.Error(), a.want) || len(h.apt.asked) != before):
				t.Errorf("%s, %d: got %v, and was asked %q; want it refused with %q", name, i, err, h.apt.asked, a.want)
			}
		}
	}
}

// Whoever asks cannot say what is done in other words than those of the unit.
func TestInstancesAreHeldToTheirForm(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	id := strings.Repeat("0", 64)
	for _, text := range []string{"", "stage", "stage-", "remove-" + id, "stage-" + id + "0", "stage-" + strings.Repeat("A", 64), "stage-../../" + id, "stage-" + id + "\n", "--help"} {
		if err := h.root.Do(t.Context(), text); !errors.Is(err, ferryman.ErrInvalid) {
			t.Errorf("%q: got %v, want it refused", text, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(h.root.State, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRequestsArePlainFilesOfTheirOwn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(h.root.List, "redis-server\n", 0o644)
	r := installer.NewRequest(installer.Stage, redisKey, redis("1"))
	elsewhere := filepath.Join(h.dir, "elsewhere")
	h.write(elsewhere, document(1, release(redisKey, "redis-server", "1")), 0o600)
	for name, put := range map[string]func(path string) error{
		"nothing":     func(string) error { return nil },
		"a link":      func(path string) error { return os.Symlink(elsewhere, path) },
		"a hard link": func(path string) error { return os.Link(elsewhere, path) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		if err := errors.Join(os.RemoveAll(h.requestPath(r)), put(h.requestPath(r))); err != nil {
			t.Fatal(err)
		}
		if err := h.root.Do(t.Context(), r.String()); err == nil || !strings.Contains(err.Error(), "the agent's request") {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	if len(h.apt.asked) > 0 {
		t.Errorf("was asked %q", h.apt.asked)
	}
}

// Without keys nobody vouches for a document, and root's own list counts.
func TestTheListSaysWhatIsInstalledWithoutKeys(t *testing.T) {
	t.Parallel()
	text := document(1, release(redisKey, "redis-server", "1"))
	for name, tt := range map[string]struct {
		prepare func(h *host)
		content string
		want    string
	}{
		"on the list":        {func(h *host) { h.write(h.root.List, "# ours\nvalkey\n redis-server # the database\n", 0o644) }, text, ""},
		"no list":            {func(*host) {}, text, "there is no such file"},
		"an empty list":      {func(h *host) { h.write(h.root.List, "", 0o644) }, text, "is not on the list"},
		"another name":       {func(h *host) { h.write(h.root.List, "redis\nredis-server-ha\n#redis-server\n", 0o644) }, text, "is not on the list"},
		"everybody's list":   {func(h *host) { h.write(h.root.List, "redis-server\n", 0o666) }, text, "can be changed by others than root"},
		"the group's list":   {func(h *host) { h.write(h.root.List, "redis-server\n", 0o664) }, text, "can be changed by others than root"},
		"a signed document":  {func(h *host) { h.write(h.root.List, "redis-server\n", 0o644) }, signed(text, 1), "the document is signed"},
		"another release":    {func(h *host) { h.write(h.root.List, "redis-server\n", 0o644) }, document(1, release(redisKey, "redis-server", "2")), "another release than the one"},
		"garbage":            {func(h *host) { h.write(h.root.List, "redis-server\n", 0o644) }, "{", "the agent's request"},
		"everybody's config": {func(h *host) { h.write(h.root.List, "redis-server\n", 0o644); _ = os.Chmod(h.root.Config, 0o666) }, text, "can be changed by others than root"},
		"a list in the open": {func(h *host) { h.write(h.root.List, "redis-server\n", 0o644); _ = os.Chmod(h.dir, 0o777) }, text, "can be changed by others than root"},
		"everybody's drop-in": {func(h *host) {
			h.write(h.root.List, "redis-server\n", 0o644)
			_ = os.Mkdir(filepath.Join(h.dir, "agent.d"), 0o755)
			h.write(filepath.Join(h.dir, "agent.d", "more.yaml"), "", 0o666)
		}, text, "can be changed by others than root"},
		"a link": {func(h *host) {
			h.write(filepath.Join(h.dir, "real"), "redis-server\n", 0o644)
			_ = os.Symlink(filepath.Join(h.dir, "real"), h.root.List)
		}, text, "leads over a link"},
		"a bad configuration": {func(h *host) { h.write(h.root.Config, "nonsense: 1\n", 0o644) }, text, "nonsense"},
	} {
		h := newHost(t)
		tt.prepare(h)
		err := h.ask(installer.Stage, redisKey, redis("1"), tt.content)
		if tt.want == "" && (err != nil || len(h.apt.asked) != 1 || h.apt.asked[0] != "stage redis-server=1 keep 2") {
			t.Errorf("%s: got %v, and was asked %q", name, err, h.apt.asked)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || len(h.apt.asked) > 0) {
			t.Errorf("%s: got %v, and was asked %q; want it refused with %q", name, err, h.apt.asked, tt.want)
		}
	}
}

// The list may be anybody's only if that is root, or whoever this test runs as.
func TestTheListIsRoots(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("gives a file to another user; the lab runs this as root")
	}
	h := newHost(t)
	h.write(h.root.List, "redis-server\n", 0o644)
	if err := os.Chown(h.root.List, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := h.ask(installer.Stage, redisKey, redis("1"), document(1, release(redisKey, "redis-server", "1"))); err == nil || !strings.Contains(err.Error(), "can be changed by others") {
		t.Errorf("got %v, want it refused", err)
	}
}

// What root says reaches the agent, and what it says of another time does not.
func TestTheAgentHearsWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(h.root.List, "redis-server\n", 0o644)
	broken := false
	c := installer.Client{Run: h.root.Run, State: h.root.State, Envelope: func() []byte { return nil },
		Once: func(ctx context.Context, unit string) error {
			if broken {
				return errors.New("systemd says \"failed\"")
			}
			_, instance, _ := strings.Cut(strings.TrimSuffix(unit, ".service"), "@")
			if err := h.root.Do(ctx, instance); err != nil {
				return errors.New("systemd says \"failed\"")
			}
			return nil
		}}
	if err := c.Stage(t.Context(), redisKey, redis("1")); err != nil {
		t.Fatal(err)
	}
	h.apt.err = errors.New("apt-get install: exit status 100: E: no room\nmake some")
	if err := c.Switch(t.Context(), redisKey, redis("1")); err == nil || err.Error() != h.apt.err.Error() {
		t.Errorf("got %v, want what root said", err)
	}
	broken = true
	if err := c.Switch(t.Context(), redisKey, redis("1")); err == nil || strings.Contains(err.Error(), "no room") || !strings.Contains(err.Error(), "journalctl -u ferryman-install@switch-") {
		t.Errorf("got %v, want that the unit failed and where to look", err)
	}
	if left, _ := filepath.Glob(filepath.Join(h.root.Run, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
