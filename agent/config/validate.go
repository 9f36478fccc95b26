package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ferryman"
)

// checker collects what is wrong, with the place where each key was set.
type checker struct {
	file     string
	origin   map[string]place
	problems Problems
}

func (c *checker) bad(key, format string, args ...any) {
	setting, _, _ := strings.Cut(key, "[") // of a list, its key is known
	at, ok := c.origin[setting]
	if !ok {
		at = place{File: c.file}
	}
	c.problems = append(c.problems, Problem{place: at, Key: key, Text: fmt.Sprintf(format, args...)})
}

// name is that of nodes and slots: it stands in certificates, paths and URLs.
var name = regexp.MustCompile(`^[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*$`)

func (c *checker) name(key, v string) {
	if len(v) > 63 || !name.MatchString(v) {
		c.bad(key, "%q: only letters, digits and single - _ . between them, at most 63", v)
	}
}

func (c *checker) required(key, v, why string) {
	if v == "" {
		c.bad(key, "must be set%s", why)
	}
}

func (c *checker) oneOf(key, v string, known ...string) {
	if !slices.Contains(known, v) {
		c.bad(key, "%q: must be one of %s", v, strings.Join(known, ", "))
	}
}

func (c *checker) positive(key string, d ferryman.Duration) {
	if d <= 0 {
		c.bad(key, "%s: must be more than 0", d)
	}
}

// address wants host:port; with anyHost the host may be left out.
func (c *checker) address(key, v string, anyHost bool) {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		c.bad(key, "%q: must be host:port, such as n1.example.com:7440", v)
		return
	}
	if host == "" && !anyHost {
		c.bad(key, "%q: must name the host that others can reach", v)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() && !anyHost {
		c.bad(key, "%q: %s is every address of this host; name the one that others can reach", v, host)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 || n == 0 && !anyHost {
		c.bad(key, "%q: the port must be a number from 1 to 65535", v)
	}
}

// maxDataDir leaves room for guard/ and a unix socket's name, of the kernel's 107 bytes.
const maxDataDir = 84

// absolute wants a path that means the same to every process of this host.
func (c *checker) absolute(key, path string) {
	if path != "" && !filepath.IsAbs(path) {
		c.bad(key, "%q: must be an absolute path", path)
	}
}

// overlap tells that two addresses cannot both be bound.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	every := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return errA == nil && errB == nil && portA == portB && portA != "0" && (hostA == hostB || every(hostA) || every(hostB))
}

func (c *checker) log(l Log) {
	c.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", l.Format, "text", "json")
}

func (c Config) validate(file string, origin map[string]place) error {
	v := &checker{file: file, origin: origin}
	v.name("node.name", c.Node.Name)
	v.address("node.listen", c.Node.Listen, true)
	v.address("node.address", c.Node.Address, false)
	if c.Node.Zone != "" {
		v.name("node.zone", c.Node.Zone)
	}
	v.required("data_dir", c.DataDir, "")
	v.absolute("data_dir", c.DataDir)
	if len(c.DataDir) > maxDataDir {
		v.bad("data_dir", "%q: has at most %d characters: the guard's socket is below it", c.DataDir, maxDataDir)
	}
	v.required("control_socket", c.ControlSocket, "")
	if len(c.ControlSocket) > 100 { // sun_path holds 108 bytes with its end
		v.bad("control_socket", "%q: a unix socket's path has at most 100 characters", c.ControlSocket)
	}
	for i, a := range c.Join {
		v.address(fmt.Sprintf("join[%d]", i), a, false)
	}
	v.source(c.Source)
	if n := c.Cluster.MaxVoters; n < 1 || n%2 == 0 {
		v.bad("cluster.max_voters", "%d: must be odd (1, 3, 5, 7): an even number needs a larger majority and survives no more failures", n)
	}
	v.positive("cluster.dead_after", c.Cluster.DeadAfter)
	v.positive("cluster.provision_timeout", c.Cluster.ProvisionTimeout)
	v.positive("maintenance", c.Maintenance)
	v.database(c.Database, c.Node.Witness)
	if c.Telemetry.Listen != "" {
		v.address("telemetry.listen", c.Telemetry.Listen, true)
	}
	v.ports(c)
	v.log(c.Log)
	return v.problems.err()
}

func (c *checker) source(s Source) {
	switch {
	case s.URL == "" && s.File == "":
		c.bad("source.url", "must be set (or source.file): without either there is no desired state")
	case s.URL != "" && s.File != "":
		c.bad("source.file", "is set beside source.url; only one of them can say what is desired")
	case s.URL != "":
		u, err := url.Parse(s.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			c.bad("source.url", "%q: must be an http or https URL", redactURL(s.URL))
		}
	}
	if s.URL == "" && s.TokenFile != "" {
		c.bad("source.token_file", "is for source.url only; source.file needs no token")
	}
	if s.CAFile != "" && !strings.HasPrefix(s.URL, "https://") {
		c.bad("source.ca_file", "is for a source.url that begins with https:// only")
	}
	for i, path := range s.TrustedKeys {
		c.required(fmt.Sprintf("source.trusted_keys[%d]", i), path, " to a file or a directory")
	}
	switch {
	case s.Signatures < 1:
		c.bad("source.signatures", "%d: must be 1 or more", s.Signatures)
	case s.Signatures > 1 && len(s.TrustedKeys) == 0:
		c.bad("source.signatures", "is set without source.trusted_keys: no signature is looked at")
	}
	if s.PollInterval < ferryman.Duration(100*time.Millisecond) {
		c.bad("source.poll_interval", "%s: must be 100ms or more", s.PollInterval)
	}
}

func (c *checker) database(d Database, witness bool) {
	if witness {
		if d.Engine != "" {
			c.bad("database.engine", "is set on a witness (node.witness), which runs no database; remove one of the two")
		}
		for _, s := range []struct{ key, v string }{{"health_listen", d.HealthListen}, {"listen", d.Listen}, {"exec", d.Exec}, {"program", d.Program},
			{"unit", d.Unit}, {"username", d.Username}, {"password_file", d.PasswordFile}} {
			if s.v != "" {
				c.bad("database."+s.key, "is set on a witness (node.witness), which runs no database")
			}
		}
		return
	}
	if d.Engine == "" {
		c.bad("database.engine", "must be set to one of %s, %s, %s, or node.witness to true", EngineDemodb, EngineRedis, EngineExec)
		return
	}
	c.oneOf("database.engine", d.Engine, EngineDemodb, EngineRedis, EngineExec)
	c.name("database.slot", d.Slot)
	c.address("database.address", d.Address, false)
	c.absolute("database.data_dir", d.DataDir)
	c.absolute("database.home", d.Home)
	c.databaseListen(d.Listen)
	c.login(d)
	c.oneOf("database.supervisor", d.Supervisor, SupervisorProcess, SupervisorSystemd)
	if d.Supervisor == SupervisorSystemd {
		c.required("database.unit", d.Unit, " with supervisor systemd")
	} else if d.Unit != "" {
		c.bad("database.unit", "is for supervisor systemd only")
	}
	if d.Engine == EngineExec {
		c.required("database.exec", d.Exec, " with engine exec")
	} else if d.Exec != "" {
		c.bad("database.exec", "is for engine exec only")
	}
	if d.HealthListen != "" {
		c.address("database.health_listen", d.HealthListen, true)
	}
	if d.SyncReplicas < 0 || d.SyncReplicas > 1 {
		c.bad("database.sync_replicas", "%d: must be 0 or 1", d.SyncReplicas)
	}
}

// databaseListen wants host:port. An empty host means every address to some
// databases, and none to others.
func (c *checker) databaseListen(v string) {
	if v == "" {
		return
	}
	c.address("database.listen", v, true)
	host, port, err := net.SplitHostPort(v)
	if err == nil && (host == "" || port == "0") {
		c.bad("database.listen", "%q: must name an address of this host and a port, such as 0.0.0.0:6379", v)
	}
}

// ports wants those that answer monitoring and load balancers to be bound by
// nothing else of this configuration.
func (c *checker) ports(cfg Config) {
	type port struct{ key, v string }
	taken := []port{{"node.listen", cfg.Node.Listen}, {"database.listen", cfg.Database.Listen}}
	if cfg.Database.Listen == "" {
		taken[1] = port{"database.address", cfg.Database.Address}
	}
	for _, own := range []port{{"database.health_listen", cfg.Database.HealthListen}, {"telemetry.listen", cfg.Telemetry.Listen}} {
		for _, other := range taken {
			if overlap(own.v, other.v) {
				c.bad(own.key, "%q: is taken by %s %q", own.v, other.key, other.v)
			}
		}
		taken = append(taken, own)
	}
}

// login judges how the agent logs in to the database.
func (c *checker) login(d Database) {
	switch {
	case d.PasswordFile == "" && d.Username != "":
		c.bad("database.username", "is set without database.password_file")
	case d.PasswordFile != "" && d.Engine == EngineDemodb:
		c.bad("database.password_file", "is for engines redis and exec only; demodb asks for no password")
	}
	if strings.ContainsFunc(d.Username, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.bad("database.username", "%q: only printable ASCII without spaces", d.Username)
	}
}

func (c APIServer) validate(file string, origin map[string]place) error {
	v := &checker{file: file, origin: origin}
	v.address("listen", c.Listen, true)
	v.required("file", c.File, ": the desired state that is served")
	if c.TLS.Key != "" {
		v.required("tls.cert", c.TLS.Cert, " beside tls.key")
	}
	if c.TLS.Cert != "" {
		v.required("tls.key", c.TLS.Key, " beside tls.cert")
	}
	v.oneOf("provisioner.kind", c.Provisioner.Kind, ProvisionNone, ProvisionProcess, ProvisionExec)
	if c.Provisioner.Kind == ProvisionExec {
		v.required("provisioner.exec", c.Provisioner.Exec, " with kind exec")
	} else if c.Provisioner.Exec != "" {
		v.bad("provisioner.exec", "is for kind exec only")
	}
	v.log(c.Log)
	return v.problems.err()
}
