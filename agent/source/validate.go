package source

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"ferryman"
)

// The bounds of what a document may ask for.
const (
	MaxNodes      = 1000
	MaxArchive    = 16 << 30 // bytes
	maxNameLength = 63
)

var (
	// Names become parts of paths and of unit names: no slash, no leading dot or dash.
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	versionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~:-]{0,99}$`)
	sha256Pattern  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Validate refuses a document that cannot be meant, whatever the cluster is
// like. It names every problem (up to ten) with its path; each is a Problem.
func Validate(d ferryman.Document) error { return join(check(d)) }

// checker collects problems.
type checker struct{ problems []Problem }

func (c *checker) refuse(bad bool, path, format string, args ...any) {
	if bad {
		c.problems = append(c.problems, Problem{Path: path, Reason: fmt.Sprintf(format, args...)})
	}
}

func check(d ferryman.Document) []Problem {
	var c checker
	c.name("cluster", d.Cluster)
	if year := d.Expires.UTC().Year(); !d.Expires.IsZero() {
		c.refuse(year < 2000 || year > 9999, "expires", "is in the year %d", year) // JSON knows years of four digits only
	}
	c.refuse(d.Nodes < 1 || d.Nodes > MaxNodes, "nodes", "is %d; expected 1 to %d", d.Nodes, MaxNodes)
	c.refuse(d.ConfirmShrink < 0, "confirmShrink", "must not be negative")
	// One that was left behind would confirm a later mistake.
	c.refuse(d.ConfirmShrink > 0 && d.ConfirmShrink != d.Nodes, "confirmShrink",
		"is %d, but nodes is %d: repeat the number of nodes, or leave confirmShrink out", d.ConfirmShrink, d.Nodes)
	c.database(d)
	c.version("agent.version", d.Agent.Version)
	if d.Agent.Version != "" {
		c.listed(d, "agent.version", ferryman.AgentEngine, d.Agent.Version)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Releases)) {
		c.release(key, d.Releases[key])
	}
	c.policy(d.Rollout)
	return c.problems
}

func (c *checker) name(path, name string) {
	c.refuse(name != "" && !namePattern.MatchString(name), path,
		"%q is not a name: up to %d letters, digits and ._- that begin with a letter or digit", short(name), maxNameLength)
}

func (c *checker) version(path, version string) {
	c.refuse(version != "" && !versionPattern.MatchString(version), path,
		"%q is not a version: up to 100 letters, digits and ._+~:- that begin with a letter or digit", short(version))
}

// listed wants the release of a version to be known.
func (c *checker) listed(d ferryman.Document, path, engine, version string) {
	key := ferryman.ReleaseKey(engine, version)
	_, ok := d.Releases[key]
	c.refuse(!ok, path, "nothing says how %s is installed: add releases[%s]", short(version), short(key))
}

func (c *checker) database(d ferryman.Document) {
	db := d.Database
	c.name("database.engine", db.Engine)
	c.refuse(db.Engine == ferryman.AgentEngine, "database.engine", "%s is the agent itself, not a database", db.Engine)
	c.version("database.version", db.Version)
	switch {
	case db.Version != "" && db.Engine == "":
		c.refuse(true, "database.version", "is set without database.engine")
	case db.Version != "":
		c.listed(d, "database.version", db.Engine, db.Version)
	}
	for _, key := range slices.Sorted(maps.Keys(db.Parameters)) {
		path := fmt.Sprintf("database.parameters[%s]", short(key))
		// They end up in files of lines; a line break would add a line.
		c.refuse(key == "" || strings.ContainsFunc(key, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), path,
			"a parameter's name is neither empty nor holds spaces or control characters")
		c.refuse(strings.ContainsFunc(db.Parameters[key], unicode.IsControl), path, "must not hold line breaks or other control characters")
	}
	f := db.Failover
	c.oneOf("database.failover.mode", string(f.Mode), string(ferryman.FailoverManual), string(ferryman.FailoverAutomatic))
	c.refuse(f.LeaseTTL != 0 && (f.LeaseTTL < ferryman.MinLeaseTTL || f.LeaseTTL > ferryman.MaxLeaseTTL), "database.failover.leaseTTL",
		"is %s; expected %s to %s", f.LeaseTTL, ferryman.MinLeaseTTL, ferryman.MaxLeaseTTL)
	c.refuse(f.MaxLagBytes < 0, "database.failover.maxLagBytes", "must not be negative")
	for _, role := range slices.Sorted(maps.Keys(db.Roles)) {
		path := fmt.Sprintf("database.roles[%s]", short(role))
		c.refuse(!namePattern.MatchString(role), path, "%q is not the name of a role", short(role))
		c.refuse(db.Roles[role].Count < 0, path+".count", "must not be negative")
	}
}

func (c *checker) release(key string, r ferryman.Release) {
	path := fmt.Sprintf("releases[%s]", short(key))
	engine, version, ok := strings.Cut(key, "/")
	c.refuse(!ok || !namePattern.MatchString(engine) || !versionPattern.MatchString(version), path,
		"%q is not an engine and a version such as valkey/8.1.0", short(key))
	c.refuse(r.Archive == nil && r.Package == nil, path, "says nothing: give it an archive or a package")
	c.refuse(r.Archive != nil && r.Package != nil, path, "names an archive and a package: give it one of them")
	if p := r.Package; p != nil {
		c.refuse(engine == ferryman.AgentEngine, path+".package", "the agent itself is not installed as a package of a release; give it an archive")
		if err := p.Check(); err != nil {
			c.refuse(true, path+".package", "%s", strings.TrimPrefix(err.Error(), ferryman.ErrInvalid.Error()+": "))
		}
	}
	if a := r.Archive; a != nil {
		at := path + ".archive"
		c.archiveURL(at+".url", a.URL)
		c.refuse(!sha256Pattern.MatchString(a.SHA256), at+".sha256", "is not a SHA-256 digest: 64 digits 0-9 and a-f, as sha256sum prints it")
		c.refuse(a.Size <= 0 || a.Size > MaxArchive, at+".size", "is %d; expected 1 to %d bytes", a.Size, int64(MaxArchive))
	}
}

func (c *checker) archiveURL(path, raw string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		c.refuse(true, path, "is not a URL") // err may hold a password
	case u.Scheme == "http" || u.Scheme == "https":
		c.refuse(u.Host == "", path, "names no host")
		c.refuse(u.User != nil, path, "holds a user name or password, which every agent and report would show")
	case u.Scheme == "file":
		c.refuse(u.Host != "" || !strings.HasPrefix(u.Path, "/"), path, "is not file:///followed/by/a/path")
	default:
		c.refuse(true, path, "must begin with https://, http:// or file:///")
	}
}

func (c *checker) policy(p ferryman.Policy) {
	c.refuse(p.MaxUnavailable < 0, "rollout.maxUnavailable", "must be at least 1")
	c.refuse(p.Canary != nil && *p.Canary < 0, "rollout.canary", "must not be negative")
	c.refuse(p.KeepVersions < 0, "rollout.keepVersions", "must be at least 1")
	for _, d := range durations(p) {
		c.refuse(d.value < 0, d.path, "must not be negative")
	}
	c.oneOf("rollout.onFailure", string(p.OnFailure), string(ferryman.FailureRevert), string(ferryman.FailureHalt))
	c.oneOf("rollout.finalize", string(p.Finalize), string(ferryman.FinalizeAutomatic), string(ferryman.FinalizeManual))
	c.oneOf("rollout.demoteOnRestart", string(p.DemoteOnRestart), string(ferryman.DemoteSafe), string(ferryman.DemoteAlways))
	for i, w := range p.Windows {
		day := 24 * time.Hour
		c.refuse(w.Start < 0 || w.Start >= day || w.End < 0 || w.End >= day || w.Start == w.End,
			fmt.Sprintf("rollout.windows[%d]", i), "is not a span of time within a day")
	}
}

func (c *checker) oneOf(path, value string, known ...string) {
	c.refuse(value != "" && !slices.Contains(known, value), path, "is %q; expected %s", short(value), strings.Join(known, " or "))
}

type namedDuration struct {
	path  string
	value ferryman.Duration
}

func durations(p ferryman.Policy) []namedDuration {
	return []namedDuration{
		{"rollout.bake", p.Bake},
		{"rollout.minHealthy", p.MinHealthy},
		{"rollout.stepDeadline", p.StepDeadline},
		{"rollout.progressDeadline", p.ProgressDeadline},
		{"rollout.switchoverTimeout", p.SwitchoverTimeout},
		{"rollout.writeBudget", p.WriteBudget},
	}
}

// zeros refuses each zero in the text that would silently become a default:
// who wrote maxUnavailable: 0 meant something else than 1.
func (d *decoder) zeros(doc ferryman.Document) []Problem {
	var c checker
	refuse := func(zero bool, path, format string, args ...any) {
		_, present := d.lines[path]
		c.refuse(zero && present, path, format, args...)
	}
	refuse(doc.Generation == 0, "generation", "must be at least 1")
	refuse(doc.Expires.IsZero(), "expires", "is in the year 1")
	refuse(doc.ConfirmShrink == 0, "confirmShrink", "must be at least 1, or left out")
	refuse(doc.Rollout.MaxUnavailable == 0, "rollout.maxUnavailable", "must be at least 1")
	refuse(doc.Rollout.KeepVersions == 0, "rollout.keepVersions", "must be at least 1")
	refuse(doc.Database.Failover.LeaseTTL == 0, "database.failover.leaseTTL", "is 0s; expected %s to %s", ferryman.MinLeaseTTL, ferryman.MaxLeaseTTL)
	refuse(doc.Database.Failover.MaxLagBytes == 0, "database.failover.maxLagBytes", "must be at least 1")
	for _, v := range durations(doc.Rollout) {
		switch v.path {
		case "rollout.bake":
			refuse(v.value == 0 && doc.Rollout.Canary == nil, v.path, "is 0s without a canary; say canary: 0 for a rollout that does not bake")
		default:
			refuse(v.value == 0, v.path, "must be more than 0s; leave the key out for the default")
		}
	}
	return c.problems
}
