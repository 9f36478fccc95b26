// Package config reads the configuration of an agent, and of the reference
// api-server: a YAML file, the drop-ins beside it, and FERRYMAN_… variables of
// the environment, in this order. It is the only importer of viper, holds every
// default, and refuses what cannot be meant: all unknown keys and wrong types
// at once, and then all impossible values, each with its file, line and key.
package config

import (
	"cmp"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"ferryman"
)

// The units of the package (packaging/systemd).
const (
	AgentUnit = "ferryman.service"
	GuardUnit = "ferryman-guard.service"
)

// Config is what an agent is told on its own host. What the cluster shall be
// is in the desired state, never here.
type Config struct {
	Node Node `yaml:"node"`
	// DataDir holds what the agent must not lose: its id, Raft's log, journals.
	DataDir string `yaml:"data_dir"`
	// ControlSocket is the unix socket on which the CLI reaches the agent.
	ControlSocket string `yaml:"control_socket"`
	// Join are agents, host:port, that a new node asks for the cluster.
	Join []string `yaml:"join"`
	// JoinTokenFile holds the token by which a node without a certificate joins.
	JoinTokenFile string  `yaml:"join_token_file"`
	TLS           TLS     `yaml:"tls"`
	Source        Source  `yaml:"source"`
	Cluster       Cluster `yaml:"cluster"`
	// LeaveOnTerminate makes SIGTERM a leave for good rather than a stop.
	LeaveOnTerminate bool `yaml:"leave_on_terminate"`
	// Maintenance is how long a stopped node may be away before it counts as dead.
	Maintenance ferryman.Duration `yaml:"maintenance"`
	Database    Database          `yaml:"database"`
	Telemetry   Telemetry         `yaml:"telemetry"`
	Log         Log               `yaml:"log"`
}

// Node is who this node is.
type Node struct {
	Name string `yaml:"name"`
	// Address is where other agents reach this one, host:port.
	Address string `yaml:"address"`
	// Listen is the address that the peer port is bound to.
	Listen string `yaml:"listen"`
	Zone   string `yaml:"zone"`
	// Witness makes a node without a database: it only votes.
	Witness bool `yaml:"witness"`
}

// TLS is where the node's certificate is.
type TLS struct {
	Dir string `yaml:"dir"`
}

// Source is where the desired state comes from: one of URL and File.
type Source struct {
	// URL is the api-server's base; the paths of the control API are beneath it.
	URL  string `yaml:"url"`
	File string `yaml:"file"`
	// TokenFile holds the bearer token for URL.
	TokenFile string `yaml:"token_file"`
	// CAFile holds the authorities that URL's certificate must lead to; empty
	// means those that the host trusts.
	CAFile string `yaml:"ca_file"`
	// TrustedKeys are files with the public keys that documents must be signed by,
	// and directories of them; without any, documents are not signed.
	TrustedKeys []string `yaml:"trusted_keys"`
	// Signatures is by how many of them.
	Signatures int `yaml:"signatures"`
	// PollInterval is how often it is asked where long polling is not offered.
	PollInterval ferryman.Duration `yaml:"poll_interval"`
}

// Cluster is how this node judges the others while it leads.
type Cluster struct {
	MaxVoters        int               `yaml:"max_voters"`
	DeadAfter        ferryman.Duration `yaml:"dead_after"`
	ProvisionTimeout ferryman.Duration `yaml:"provision_timeout"`
}

// Limits is the part of the settings that the plan heeds.
func (c Cluster) Limits() ferryman.Limits {
	return ferryman.Limits{MaxVoters: c.MaxVoters, DeadAfter: c.DeadAfter, ProvisionTimeout: c.ProvisionTimeout}
}

// The engines that an agent can drive, and the ways in which it runs them.
const (
	EngineDemodb = "demodb"
	EngineRedis  = "redis"
	EngineExec   = "exec"

	SupervisorProcess = "process"
	SupervisorSystemd = "systemd"
)

// Database is the database process beside the agent.
type Database struct {
	Engine string `yaml:"engine"`
	// Slot names the service on this node.
	Slot string `yaml:"slot"`
	// Address is where clients and other instances reach it, host:port.
	Address string `yaml:"address"`
	// Listen is the address that it binds; empty means Address.
	Listen  string `yaml:"listen"`
	DataDir string `yaml:"data_dir"`
	// Home is where its versions are installed, one directory each.
	Home string `yaml:"home"`
	// Program runs where no release is managed: a path, or a name in PATH;
	// empty means the engine's own default.
	Program string `yaml:"program"`
	// Username is who the agent and replicas log in as; empty means the default user.
	Username string `yaml:"username"`
	// PasswordFile holds the password; empty means that the database asks for none.
	PasswordFile string `yaml:"password_file"`
	Supervisor   string `yaml:"supervisor"`
	// Unit is the systemd unit, with supervisor systemd.
	Unit string `yaml:"unit"`
	// Exec is the user's program, with engine exec.
	Exec string `yaml:"exec"`
	// HealthListen is where the guard answers load balancers over HTTP, host:port;
	// empty means that it does not.
	HealthListen string `yaml:"health_listen"`
	// SyncReplicas is how many replicas must hold a write before it counts.
	SyncReplicas int `yaml:"sync_replicas"`
}

// Telemetry is what the agent says of itself to machines.
type Telemetry struct {
	// Listen is where /livez, /readyz and /metrics are served over HTTP,
	// host:port; empty means nowhere.
	Listen string `yaml:"listen"`
}

// Log is what the agent writes to stderr.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Default is the configuration of an agent that was told nothing. What follows
// from other settings (node.address, tls.dir, …) is empty here; Load fills it in.
func Default() Config {
	return Config{
		Node:          Node{Listen: ":7440"},
		DataDir:       "/var/lib/ferryman",
		ControlSocket: "/run/ferryman/agent.sock",
		Source:        Source{Signatures: 1, PollInterval: ferryman.Duration(30 * time.Second)},
		Cluster: Cluster{
			MaxVoters:        ferryman.DefaultMaxVoters,
			DeadAfter:        ferryman.DefaultDeadAfter,
			ProvisionTimeout: ferryman.DefaultProvisionTimeout,
		},
		Maintenance: ferryman.Duration(15 * time.Minute),
		Database:    Database{Slot: "db", Supervisor: SupervisorProcess, SyncReplicas: 1},
		Log:         Log{Level: "info", Format: "text"},
	}
}

// derive fills in what follows from other settings.
func (c *Config) derive() {
	if c.Node.Name == "" {
		c.Node.Name, _ = os.Hostname() // an empty name is refused by validate
	}
	if _, port, err := net.SplitHostPort(c.Node.Listen); err == nil && c.Node.Address == "" {
		c.Node.Address = net.JoinHostPort(c.Node.Name, port)
	}
	c.TLS.Dir = cmp.Or(c.TLS.Dir, filepath.Join(c.DataDir, "tls"))
	if c.Database.Engine != "" {
		c.Database.DataDir = cmp.Or(c.Database.DataDir, filepath.Join(c.DataDir, c.Database.Slot))
		c.Database.Home = cmp.Or(c.Database.Home, filepath.Join(c.DataDir, "releases"))
	}
}

// Redacted is c without what must not be shown. Secrets live in files of their
// own; what is left is a password that somebody wrote into a URL.
func (c Config) Redacted() Config {
	c.Source.URL = redactURL(c.Source.URL)
	return c
}

func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(not a URL)" // it may hold a password all the same
	}
	return u.Redacted()
}
