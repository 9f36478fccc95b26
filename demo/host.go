package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ferryman/agent/cluster"
	"ferryman/agent/identity"
	"ferryman/agent/source"
	"ferryman/apiserver"
	"ferryman/demo/port"
)

// settings is the directory of drop-ins to an agent's configuration. The demo
// itself makes none.
const settings = "agent.d"

// firstHost asks for the one host that founds the cluster.
var firstHost = source.HostRequest{NumDesiredHosts: 1}

// prepareHost makes a host's directory ready: a certificate that was issued
// beforehand, a configuration, and for the very first the right to found.
func (s *stage) prepareHost(_ context.Context, name, dir string) (apiserver.Command, error) {
	peer, database, err := s.network.add(name)
	if err != nil {
		return apiserver.Command{}, err
	}
	if err := s.issue(name, filepath.Join(dir, "tls")); err != nil {
		return apiserver.Command{}, fmt.Errorf("issue a certificate for %s: %w", name, err)
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return apiserver.Command{}, err
	}
	join, err := s.addresses()
	if err != nil {
		return apiserver.Command{}, err
	}
	if len(join) == 0 {
		if err := cluster.WriteMarker(data, cluster.Marker{Cluster: clusterID}); err != nil {
			return apiserver.Command{}, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "address"), []byte(peer), 0o600); err != nil {
		return apiserver.Command{}, err
	}
	config := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(config, []byte(s.config(name, dir, peer, database, join)), 0o600); err != nil {
		return apiserver.Command{}, err
	}
	// What is in settings holds for every host.
	if err := os.Symlink(filepath.Join(s.dir, settings), filepath.Join(dir, settings)); err != nil {
		return apiserver.Command{}, err
	}
	return s.command(dir, peer)
}

// command is how a host's agent is run.
func (s *stage) command(dir, peer string) (apiserver.Command, error) {
	_, port, err := net.SplitHostPort(peer)
	if err != nil {
		return apiserver.Command{}, err
	}
	n, err := strconv.Atoi(port)
	agent := []string{s.program, "agent", "--config", filepath.Join(dir, "agent.yaml")}
	return apiserver.Command{Exec: append(s.network.enter(filepath.Base(dir)), agent...), Env: environment(), Dir: dir, Port: n}, err
}

// network is where the hosts of a stage are.
type network interface {
	// add makes room for a host; it returns the addresses of its agent and its
	// database.
	add(name string) (agent, database string, err error)
	// enter is what a command begins with that runs on the host.
	enter(name string) []string
}

// loopback has all hosts on this one.
type loopback struct{}

func (loopback) add(string) (agent, database string, err error) {
	return port.Free(), port.Free(), nil
}

func (loopback) enter(string) []string { return nil }

func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
}

// addresses are the peer addresses of all hosts that were ever made.
func (s *stage) addresses() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "hosts", "*", "address"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, string(raw))
	}
	return out, nil
}

// config is an agent's configuration with the short times of a demo.
func (s *stage) config(name, dir, peer, database string, join []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "node: {name: %s, address: %q, listen: %q}\n", name, peer, peer)
	fmt.Fprintf(&b, "data_dir: %q\ncontrol_socket: %q\ntls: {dir: %q}\n", filepath.Join(dir, "data"), filepath.Join(dir, "agent.sock"), filepath.Join(dir, "tls"))
	if len(join) > 0 {
		fmt.Fprintf(&b, "join: [%s]\n", strings.Join(join, ", "))
	}
	fmt.Fprintf(&b, "source: {url: \"http://%s\"}\n", s.address)
	fmt.Fprintf(&b, "cluster: {dead_after: 3s, provision_timeout: 20s}\n")
	fmt.Fprintf(&b, "database: {engine: %s, address: %q, data_dir: %q}\n", s.eng.name(), database, filepath.Join(dir, "db"))
	return b.String()
}

func (s *stage) issue(name, dir string) error {
	ca, err := identity.LoadCA(filepath.Join(s.dir, "ca"))
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := ca.Issue(name, []string{"127.0.0.1"}, key.Public(), 30*24*time.Hour)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return identity.WriteNode(dir, ca.CertPEM(), cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}
