package install_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/upgrade/install"
)

// redhat is a host whose rpm and dnf do as they are told. What a package is, its file says: "name version", then what it requires, makes obsolete and has.
type redhat struct {
	installed map[string][]string          // versions by name
	offered   map[string]map[string]string // files by name and version
	brings    []string                     // what dnf finds that an installation takes beside what it is told
	fails     map[string]string            // what a program says that fails, by its first words
	locks     map[string]string            // processes by the file that they hold
	answers   string                       // a socket at which somebody listens
	cache     []string                     // names of dnf's files
	ran       []string
	during    func() // comes in the middle of an installation
}

func newRedhat() *redhat {
	r := &redhat{installed: map[string][]string{"db": {"7-1"}, "db-tools": {"7-1"}, "lib": {"1-1"}}, offered: map[string]map[string]string{}}
	for _, v := range []string{"7-1", "7-2"} {
		r.offer("db", v, "requires db-tools(x86-64) = "+v, "requires /bin/sh", "requires virtual = 1-1")
		r.offer("db-tools", v)
	}
	r.offer("lib", "2-1")
	r.offer("new", "1-1")
	return r
}

func (r *redhat) offer(name, version string, more ...string) {
	if r.offered[name] == nil {
		r.offered[name] = map[string]string{}
	}
	r.offered[name][version] = name + " " + version + "\n" + strings.Join(more, "\n")
}

func (r *redhat) Locked(path string) (string, error) {
	return r.locks[filepath.Base(path)], nil
}

func (r *redhat) Room(string) (int64, error) { return 1 << 40, nil }
func (r *redhat) Answers(path string) bool   { return path == r.answers }
func (r *redhat) Glob(p string) (found []string, err error) {
	if !strings.HasPrefix(p, "/var/cache/dnf/") {
		return filepath.Glob(p)
	}
	for _, name := range r.cache {
		if ok, _ := filepath.Match(filepath.Base(p), name); ok {
			found = append(found, filepath.Join(filepath.Dir(p), name))
		}
	}
	return found, nil
}

func (r *redhat) file(nevr string) (string, error) {
	for name, versions := range r.offered {
		for version, content := range versions {
			if nevr == name+"-0:"+version || nevr == name+"-"+version {
				return content, nil
			}
		}
	}
	return "", errors.New("exit status 1: Unable to find a match: " + nevr)
}

// says are the words after each of a word's lines.
func says(word, content string) (out string) {
	for line := range strings.Lines(content) {
		if rest, ok := strings.CutPrefix(line, word+" "); ok {
			out += strings.TrimSpace(rest) + "\n"
		}
	}
	return out
}

func (r *redhat) Run(ctx context.Context, _, program string, args ...string) (string, error) {
	line := program + " " + strings.Join(args, " ")
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	r.ran = append(r.ran, line)
	for begin, what := range r.fails {
		if strings.HasPrefix(line, begin) {
			return "", errors.New("exit status 1: " + what)
		}
	}
	last := args[max(0, len(args)-1):]
	content := ""
	if len(last) > 0 && program != "cp" && strings.HasSuffix(last[0], ".rpm") {
		raw, err := os.ReadFile(last[0])
		if err != nil {
			return "", err
		}
		content = string(raw)
	}
	switch {
	case program == "cp":
		return "", os.WriteFile(last[0], []byte("db-tools 7-1\n"), 0o600)
	case strings.HasPrefix(line, "rpmkeys"):
		if strings.Contains(content, "unsigned") {
			return last[0] + ": digests OK", nil
		}
		return last[0] + ": digests signatures OK", nil
	case strings.HasPrefix(line, "rpm -q --qf"):
		out := ""
		for _, v := range r.installed[last[0]] {
			if !strings.Contains(v, ":") {
				v = "0:" + v
			}
			out += last[0] + " " + v + " x86_64\n"
		}
		if out == "" {
			return "", errors.New("exit status 1: package " + last[0] + " is not installed")
		}
		return out, nil
	case strings.HasPrefix(line, "rpm -q --requires"):
		return says("requires", r.offered[last[0]][r.installed[last[0]][0]]), nil
	case strings.HasPrefix(line, "rpm -qp --qf"):
		name, version, _ := strings.Cut(strings.TrimSpace(strings.Split(content, "\n")[0]), " ")
		return name + " 0:" + version + " x86_64\n", nil
	case strings.HasPrefix(line, "rpm -qp --requires"):
		return says("requires", content), nil
	case strings.HasPrefix(line, "rpm -qp --obsoletes"):
		out := ""
		for _, path := range args[2:] {
			raw, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			out += says("obsoletes", string(raw))
		}
		return out, nil
	case strings.HasPrefix(line, "rpm --test") && says("bars", content) != "" && !strings.Contains(line, "/db-7-2"):
		return "", errors.New("exit status 1: " + says("bars", content))
	case strings.HasPrefix(line, "rpm --test"), strings.HasPrefix(line, "rpmdb --verifydb"), program == "sync":
	case strings.HasPrefix(line, "env SYSTEMD_OFFLINE=1 rpm --upgrade --oldpackage"):
		if r.during != nil {
			r.during()
		}
		if ctx.Err() != nil {
			return "", errors.New("signal: killed")
		}
		for _, path := range args {
			if raw, err := os.ReadFile(path); err == nil {
				name, version, _ := strings.Cut(strings.Split(string(raw), "\n")[0], " ")
				r.installed[name] = []string{version}
			}
		}
	case strings.HasPrefix(line, "dnf-3 repoquery") && slices.Contains(args, "--requires"):
		content, err := r.file(last[0])
		return says("requires", content), err
	case strings.HasPrefix(line, "dnf-3 repoquery") && strings.Contains(line, "size"):
		return "1000 10000\n", nil
	case strings.HasPrefix(line, "dnf-3 repoquery"):
		out := ""
		for _, v := range slices.Sorted(maps.Keys(r.offered[args[slices.Index(args, "--qf")+2]])) {
			out += args[slices.Index(args, "--qf")+2] + " 0:" + v + " x86_64\n"
		}
		return out, nil
	case program == "dnf-3" && args[1] == "--downloadonly":
		dir := strings.TrimPrefix(args[2], "--downloaddir=")
		specs := slices.DeleteFunc(slices.Clone(args[3:]), func(a string) bool { return strings.HasPrefix(a, "-") })
		if args[0] == "install" {
			specs = append(specs, r.brings...)
		}
		for _, spec := range specs {
			content, err := r.file(spec)
			if err != nil {
				return "", err
			}
			if err := os.WriteFile(filepath.Join(dir, "any-"+spec+".rpm"), []byte(content), 0o600); err != nil {
				return "", err
			}
		}
	default:
		return "", errors.New("nobody thought of " + line)
	}
	return "", nil
}

func (r *redhat) dnf(t *testing.T) (install.Manager, string) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "dnf.conf")
	must(t, os.WriteFile(conf, []byte("[main]\ngpgcheck=1\n"), 0o644))
	keep := install.Keep(filepath.Join(dir, "kept"))
	return install.Manager{Keep: keep, Host: r, Patience: time.Millisecond, Tool: install.Dnf{Host: r, Keep: keep, Config: conf}}, conf
}

func db(version string) ferryman.Package { return ferryman.Package{Name: "db", Version: version} }

func TestRpmsGoForthAndBack(t *testing.T) {
	t.Parallel()
	r := newRedhat()
	r.installed["db-doc"] = []string{"7-1"}
	r.offer("db-doc", "7-1", "requires db = 7-1")
	r.offer("db-doc", "7-2", "requires db = 7-2")
	r.brings = []string{"db-doc-7-2", "new-1-1"}
	r.offer("new", "1-1", "requires lib = 1-1", "has /usr drwx", "has /usr/same -r--1")
	r.offer("db-tools", "7-1", "has /usr dr-x", "has /usr/same -r--1", "has /usr/other -r--1")
	m, conf := r.dnf(t)
	must(t, m.Stage(t.Context(), db("7-2"), 2))
	if r.installed["db"][0] != "7-1" || strings.Contains(strings.Join(r.ran, "\n"), "SYSTEMD_OFFLINE") {
		t.Errorf("staging changed the host: %v", r.installed)
	}
	for version, want := range map[string]string{"7-1": "db db-doc db-tools", "7-2": "db db-doc db-tools new+"} {
		kept, err := m.Keep.Read(db(version))
		var got []string
		for _, f := range kept.Files {
			got = append(got, f.Name+map[bool]string{true: "+"}[f.Extra])
		}
		if slices.Sort(got); err != nil || strings.Join(got, " ") != want {
			t.Errorf("kept of %s: got %v, %v; want %s", version, got, err, want)
		}
	}
	r.offered = nil // the sources are gone
	for _, version := range []string{"7-2", "7-1", "7-2"} {
		must(t, m.Switch(t.Context(), db(version)))
		for _, name := range []string{"db", "db-tools", "db-doc"} {
			if got := r.installed[name]; !slices.Equal(got, []string{version}) {
				t.Errorf("switched to %s: the host has %v of %s", version, got, name)
			}
		}
	}
	raw, err := os.ReadFile(conf)
	if want := "[main]\nexcludepkgs=db db-doc db-tools\ngpgcheck=1\n"; err != nil || string(raw) != want {
		t.Errorf("held: got %q, %v; want %q", raw, err, want)
	}
	for _, line := range r.ran {
		if strings.Contains(line, "--downloadonly") && !strings.Contains(line, " --setopt=*.gpgcheck=0 ") {
			t.Errorf("dnf would import keys: %s", line)
		}
	}
	n := len(r.ran)
	must(t, m.Switch(t.Context(), db("7-2")))
	if strings.Contains(strings.Join(r.ran[n:], "\n"), "--upgrade") {
		t.Errorf("once more: %q; there was nothing to do", r.ran[n:])
	}
}

// What stands beside a package, and needs just its version, is known once a new version is staged: the old one may be kept long since.
func TestTheWayBackHasWhatCameLater(t *testing.T) {
	t.Parallel()
	for name, old := range map[string][]string{"there from the first": {"7-1"}, "installed later": nil} {
		r := newRedhat()
		r.installed["db-doc"] = old
		r.offer("db-doc", "7-1", "requires db = 7-1")
		r.offer("db-doc", "7-2", "requires db = 7-2")
		m, _ := r.dnf(t)
		must(t, m.Stage(t.Context(), db("7-1"), 2))
		delete(r.offered["db"], "7-1") // kept is kept
		r.installed["db-doc"], r.brings = []string{"7-1"}, []string{"db-doc-7-2"}
		must(t, m.Stage(t.Context(), db("7-2"), 2))
		for _, version := range []string{"7-2", "7-1"} {
			must(t, m.Switch(t.Context(), db(version)))
			if got := fmt.Sprint(r.installed["db"], r.installed["db-tools"], r.installed["db-doc"]); got != fmt.Sprintf("[%[1]s] [%[1]s] [%[1]s]", version) {
				t.Errorf("%s: switched to %s: the host has %s", name, version, got)
			}
		}
		n := len(r.ran)
		must(t, m.Stage(t.Context(), db("7-2"), 2))
		if strings.Contains(strings.Join(r.ran[n:], "\n"), "--downloadonly") {
			t.Errorf("%s: once more: %q; all was kept", name, r.ran[n:])
		}
	}
}

func TestRpmsAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*redhat)
		want   string
	}{
		"nobody offers it":  {func(r *redhat) { delete(r.offered["db"], "7-2") }, "no package source of this host offers db 7-2: they have 7-1"},
		"a lock":            {func(r *redhat) { r.locks = map[string]string{"rpmdb_lock.pid": "dnf (process 7)"} }, "the package manager is locked: dnf (process 7) holds /var/lib/dnf/rpmdb_lock.pid"},
		"a broken database": {func(r *redhat) { r.fails = map[string]string{"rpmdb": "malformed"} }, "rpmdb --rebuilddb"},
		"another's change":  {func(r *redhat) { r.brings = []string{"lib-2-1"} }, "it would also change lib 1-1 → 2-1"},
		"a removal":         {func(r *redhat) { r.offer("db", "7-2", "obsoletes lib < 9") }, "it would remove lib"},
		"not signed":        {func(r *redhat) { r.fails = map[string]string{"rpmkeys": "NOT OK"} }, "no key that rpm knows signed it"},
		"signed by nobody":  {func(r *redhat) { r.offer("db", "7-2", "unsigned") }, "no key that rpm knows signed it: "},
		"rpm would not":     {func(r *redhat) { r.fails = map[string]string{"rpm --test": "conflicts with lib"} }, "conflicts with lib"},
		"no way back":       {func(r *redhat) { delete(r.offered["db-tools"], "7-1") }, "there would be no way back"},
		"what bars the way back": {func(r *redhat) {
			r.offer("new", "1-1", "bars db = 7-2 is needed by new-1-1")
			r.brings = []string{"new-1-1"}
		}, "there would be no way back to db 7-1, as what comes along with the new version stays: it cannot be installed as a whole: rpm --test: exit status 1: db = 7-2 is needed by new-1-1"},
		"another's name": {func(r *redhat) { r.offered["db"]["7-2"] = "--root=/ 1-1" }, "not the name of a package"},
		"two architectures": {func(r *redhat) {
			r.brings = []string{"db-7-2"}
			r.offer("x", "1-1")
			r.offered["x"]["1-1"] = "db 7-2"
			r.brings = []string{"x-1-1"}
		}, "more than once"},
		"what dnf cannot do": {func(r *redhat) { r.fails = map[string]string{"dnf-3 install": "nothing provides newlib"} }, "nothing provides newlib"},
	} {
		r := newRedhat()
		tt.change(r)
		m, _ := r.dnf(t)
		if err := m.Stage(t.Context(), db("7-2"), 2); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
		if _, err := m.Keep.Read(db("7-2")); !errors.Is(err, install.ErrNotStaged) {
			t.Errorf("%s: it counts as kept: %v", name, err)
		}
	}
}

// Until all is on the disk, the package counts as none; and whichever version comes next is installed anew.
func TestAnRpmThatWasCutOffIsInstalledAnew(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"7-1", "7-2"} {
		r := newRedhat()
		m, _ := r.dnf(t)
		must(t, m.Stage(t.Context(), db("7-2"), 2))
		r.fails = map[string]string{"sync": "the power failed"}
		if err := m.Switch(t.Context(), db("7-2")); err == nil {
			t.Error("it went well")
		}
		r.fails = map[string]string{"env SYSTEMD_OFFLINE=1 rpm": "no room"}
		if err := m.Switch(t.Context(), db("7-2")); err == nil || !strings.Contains(err.Error(), "no room\nuntil the next switch ends this db counts as not installed, as "+string(m.Keep)+"/db.begun says") {
			t.Errorf("rpm failed: got %v", err)
		}
		r.fails = nil
		r.installed["db"] = []string{next} // as rpm's database says
		if now, err := m.Tool.Installed(t.Context(), "db"); err != nil || now != "" {
			t.Errorf("installed is %q, %v; want none that is whole", now, err)
		}
		if err := m.Stage(t.Context(), db("7-1"), 2); err == nil || !strings.Contains(err.Error(), "was cut off") {
			t.Errorf("stage: got %v", err)
		}
		n := len(r.ran)
		must(t, m.Switch(t.Context(), db(next)))
		if !strings.Contains(strings.Join(r.ran[n:], "\n"), "SYSTEMD_OFFLINE") {
			t.Errorf("%s was not installed anew", next)
		}
		if now, err := m.Tool.Installed(t.Context(), "db"); err != nil || now != next {
			t.Errorf("afterwards: got %q, %v", now, err)
		}
	}
	r := newRedhat()
	r.installed["db"] = []string{"7-1", "7-2"}
	m, _ := r.dnf(t)
	if now, err := m.Tool.Installed(t.Context(), "db"); err != nil || now != "" {
		t.Errorf("of two versions: installed is %q, %v", now, err)
	}
}

// Of a library a cache can have a build for each architecture.
func TestTheCacheHasSeveralArchitectures(t *testing.T) {
	t.Parallel()
	for _, right := range []string{"x86_64", "noarch"} {
		r := newRedhat()
		delete(r.offered["db-tools"], "7-1")
		r.cache = []string{"db-tools-7-1.i686.rpm", "db-tools-7-1." + right + ".rpm"}
		m, _ := r.dnf(t)
		must(t, m.Stage(t.Context(), db("7-2"), 2))
		kept, err := m.Keep.Read(db("7-1"))
		if err != nil || len(kept.Files) != 2 {
			t.Fatalf("kept are %v, %v", kept, err)
		}
		for _, line := range r.ran {
			if strings.HasPrefix(line, "cp") && !strings.Contains(line, "db-tools-7-1."+right+".rpm") {
				t.Errorf("%s: %s", right, line)
			}
		}
	}
}

// dnf-makecache.timer may ask sources for minutes.
func TestRpmsAreSwitchedWhileSourcesAreAsked(t *testing.T) {
	t.Parallel()
	for lock, switches := range map[string]bool{"metadata_lock.pid": true, "download_lock.pid": true, "rpmdb_lock.pid": false, ".rpm.lock": false} {
		r := newRedhat()
		m, _ := r.dnf(t)
		must(t, m.Stage(t.Context(), db("7-2"), 2))
		r.locks = map[string]string{lock: "dnf (process 7)"}
		if err := m.Stage(t.Context(), db("7-2"), 2); err == nil || !strings.Contains(err.Error(), lock) {
			t.Errorf("%s: staged: got %v", lock, err)
		}
		if err := m.Switch(t.Context(), db("7-2")); (err == nil) != switches {
			t.Errorf("%s: switched: got %v", lock, err)
		}
	}
}

// A unit that is stopped ends its process, and not rpm in the middle.
func TestWhatHasBegunIsEnded(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	r := newRedhat()
	m, _ := r.dnf(t)
	must(t, m.Stage(t.Context(), db("7-2"), 2))
	r.during = stop
	must(t, m.Switch(ctx, db("7-2")))
	if now, err := m.Tool.Installed(t.Context(), "db"); err != nil || now != "7-2" {
		t.Errorf("rpm: installed is %q, %v", now, err)
	}
	d := newDebian()
	a := d.apt(t)
	must(t, a.Stage(t.Context(), server(newer), 2))
	ctx, d.during = context.WithCancel(t.Context())
	must(t, a.Switch(ctx, server(newer)))
	if d.installed["redis-server"] != newer || len(d.held) != 2 {
		t.Errorf("apt: the host has %v, and held are %v", d.installed, d.held)
	}
	d.audit = "redis-tools is unpacked and not configured"
	ctx, d.during = context.WithCancel(t.Context())
	if err := a.Switch(ctx, server(newer)); !errors.Is(err, context.Canceled) || d.audit != "" {
		t.Errorf("dpkg: got %v, and it says %q; want no more than that begun, and that ended", err, d.audit)
	}
}

func TestAnRpmIsSwitchedWhereNothingAnswers(t *testing.T) {
	t.Parallel()
	for _, socket := range []string{"/run/systemd/private", "/run/dbus/system_bus_socket"} {
		r := newRedhat()
		m, _ := r.dnf(t)
		must(t, m.Stage(t.Context(), db("7-2"), 2))
		r.answers = socket
		if err := m.Switch(t.Context(), db("7-2")); err == nil || !strings.Contains(err.Error(), socket+" answers") || r.installed["db"][0] != "7-1" {
			t.Errorf("%s: got %v, and the host has %v", socket, err, r.installed)
		}
	}
}

func TestHoldingKeepsWhatAPersonWrote(t *testing.T) {
	t.Parallel()
	for before, want := range map[string]string{
		"":                                     "[main]\nexcludepkgs=db tools\n",
		"# mine\n[main]\nbest=1\n":             "# mine\n[main]\nexcludepkgs=db tools\nbest=1\n",
		"[main]\nexclude = kernel*\nbest=1":    "[main]\nexclude = kernel* db tools\nbest=1",
		"[main]\nexcludepkgs=a,tools\n":        "[main]\nexcludepkgs=a,tools db\n",
		"[main]\nexcludepkgs=a\n  db\n\ttools": "[main]\nexcludepkgs=a\n  db\n\ttools",
		"[repo]\nexcludepkgs=a\n[main]\nb=1":   "[repo]\nexcludepkgs=a\n[main]\nexcludepkgs=db tools\nb=1",
		"[main]\n#excludepkgs=a\n":             "[main]\nexcludepkgs=db tools\n#excludepkgs=a\n",
	} {
		own := []ferryman.Package{db("1"), {Name: "tools", Version: "1"}}
		got := install.Holding(before, own)
		if got != want {
			t.Errorf("%q: got %q, want %q", before, got, want)
		}
		if again := install.Holding(got, own); again != got {
			t.Errorf("%q: held again: %q", got, again)
		}
	}
}

// Where dpkg has installed something packages are apt's, whatever else there is.
func TestTheHostsPackageManagerIsFound(t *testing.T) {
	t.Parallel()
	for there, want := range map[string]string{
		"/usr/bin/apt-get /var/lib/dpkg/info/*.list /usr/bin/dnf-3": "install.Apt", "/usr/bin/apt-get /usr/bin/dnf-3": "install.Dnf", "/usr/bin/dnf-3": "install.Dnf",
		"/usr/bin/dnf5": "nothing was tried", "": "neither apt-get nor dnf",
	} {
		tool, err := install.ToolOf(found{newRedhat(), strings.Fields(there)}, "/nowhere")
		if got := fmt.Sprintf("%T %v", tool, err); !strings.Contains(got, want) {
			t.Errorf("with %s: got %s, want %s", there, got, want)
		}
	}
}

type found struct {
	*redhat
	there []string
}

func (f found) Glob(pattern string) ([]string, error) {
	if slices.Contains(f.there, pattern) {
		return []string{pattern}, nil
	}
	return nil, nil
}
