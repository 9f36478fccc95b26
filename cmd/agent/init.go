package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/identity"
)

// certificateLife is how long a certificate lasts that is made here; an agent
// that may sign renews its own in time.
const certificateLife = 365 * 24 * time.Hour

func initCommand() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "init CLUSTER", Short: "Make this host the first node of a new cluster", Args: cobra.ExactArgs(1),
		Long: "Make this host the first node of a new cluster: its certificate authority, this node's certificate,\n" +
			"and the permission to found the cluster, which the agent uses once, at its first start.\n" +
			"CLUSTER is a name for people; the cluster's id is the name and 8 random digits.",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			id, err := found(cfg, args[0])
			if err != nil {
				return fmt.Errorf("init %s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), `cluster %s, first node %s

Next:
  systemctl start ferryman        start the agent here (or: ferryman agent --config %s)
  ferryman status                 see the cluster
For every other node:
  ferryman certs token            here: prints a token, which admits one node
  ferryman join                   there: asks for the token; then start its agent
`, id, cfg.Node.Name, path)
			return err
		}}
	configFlag(c, &path)
	return c
}

// found prepares the founding of a cluster. The node's certificate is written
// last, so that an init that was interrupted can be repeated.
func found(cfg config.Config, name string) (string, error) {
	if !identity.ValidName(name) || len(name) > 100 {
		return "", fmt.Errorf("%w cluster name %q: letters, digits and single - _ . between them, at most 100", ferryman.ErrInvalid, name)
	}
	if err := fresh(cfg); err != nil {
		return "", err
	}
	ca, err := authority(cfg.TLS.Dir, name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return "", fmt.Errorf("data_dir: %w", err)
	}
	if err := cluster.WriteMarker(cfg.DataDir, cluster.Marker{Cluster: ca.Cluster()}); err != nil {
		return "", err
	}
	return ca.Cluster(), issue(ca, cfg.Node.Name, cfg.TLS.Dir, certificateLife)
}

// fresh refuses a node that belongs to a cluster, or did.
func fresh(cfg config.Config) error {
	if err := owned(cfg.DataDir); err != nil {
		return err
	}
	for _, state := range []string{"raft", "node-id", "bootstrap.used.json"} {
		path := filepath.Join(cfg.DataDir, state)
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%w: %s is there: this node is in a cluster, or was; `ferryman status` asks its agent. To make it the first node of a new cluster, move %s away", ferryman.ErrConflict, path, cfg.DataDir)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data_dir: %w", err)
		}
	}
	if identity.Exists(cfg.TLS.Dir) {
		return fmt.Errorf("%w: %s holds the certificate of a node already: start the agent, or move it away to found a new cluster; `ferryman certs show` says whose it is", ferryman.ErrConflict, cfg.TLS.Dir)
	}
	return nil
}

// owned refuses to write into another user's directory: the agent could not
// read what root leaves there.
func owned(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return nil // made by us, then
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, and this is user %d: run it as the agent's user (sudo -u '#%d' ferryman …)", dir, st.Uid, os.Geteuid(), st.Uid)
	}
	return nil
}

// authority makes the cluster's CA, or takes the one that an interrupted init
// for the same name left.
func authority(dir, name string) (*identity.CA, error) {
	ca, err := identity.LoadCA(dir)
	switch {
	case err == nil && ferryman.ClusterName(ca.Cluster()) == name:
		return ca, nil
	case err == nil:
		return nil, fmt.Errorf("%w: %s holds the authority of cluster %s; move it away first", ferryman.ErrConflict, dir, ca.Cluster())
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	random := make([]byte, 4)
	rand.Read(random) // never fails since Go 1.24
	if ca, err = identity.CreateCA(name + "-" + hex.EncodeToString(random)); err != nil {
		return nil, err
	}
	return ca, ca.Save(dir)
}

// issue makes a node's key and certificate in dir.
func issue(ca *identity.CA, node, dir string, life time.Duration) error {
	request, key, err := identity.NewRequest(node)
	if err != nil {
		return err
	}
	cert, err := ca.Sign(node, request, life)
	if err != nil {
		return err
	}
	return identity.WriteNode(dir, ca.CertPEM(), cert, key)
}
