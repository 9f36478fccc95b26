package config

import (
	"cmp"
	"path/filepath"
)

// The ways in which the reference api-server makes hosts.
const (
	ProvisionNone    = "none"
	ProvisionProcess = "process"
	ProvisionExec    = "exec"
)

// APIServer is the configuration of `ferryman api-server`, a file of its own.
type APIServer struct {
	Listen string `yaml:"listen"`
	// File is the desired state; it is watched.
	File string `yaml:"file"`
	// TokenFile holds the bearer token that clients must show; empty means none.
	TokenFile string `yaml:"token_file"`
	// Artefacts is a directory that is served below /artefacts/.
	Artefacts   string      `yaml:"artefacts"`
	TLS         ServerTLS   `yaml:"tls"`
	Provisioner Provisioner `yaml:"provisioner"`
	Log         Log         `yaml:"log"`
}

// ServerTLS is the api-server's certificate; without it, it serves plain HTTP.
type ServerTLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Provisioner is how hosts come and go.
type Provisioner struct {
	Kind string `yaml:"kind"`
	// BaseDir is where the process provisioner keeps its hosts.
	BaseDir string `yaml:"base_dir"`
	// Exec is the user's program, with kind exec.
	Exec string `yaml:"exec"`
}

// DefaultAPIServer is the configuration of an api-server that was told nothing.
func DefaultAPIServer() APIServer {
	return APIServer{
		Listen:      "127.0.0.1:7480",
		Provisioner: Provisioner{Kind: ProvisionNone},
		Log:         Log{Level: "info", Format: "text"},
	}
}

func (c *APIServer) derive() {
	if c.File != "" {
		c.Provisioner.BaseDir = cmp.Or(c.Provisioner.BaseDir, filepath.Join(filepath.Dir(c.File), "hosts"))
	}
}
