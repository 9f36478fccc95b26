package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
)

func certsCommand() *cobra.Command {
	return family("certs", "Make certificates and join tokens, and show this node's", certsIssueCommand(), certsTokenCommand(), certsShowCommand())
}

func certsIssueCommand() *cobra.Command {
	var path, dir string
	var life time.Duration
	var sign bool
	c := &cobra.Command{Use: "issue NODE", Short: "Make the certificate of another node beforehand, for its tls.dir", Args: cobra.ExactArgs(1),
		Long: "Make the certificate of another node beforehand, in a directory that is to become that node's tls.dir.\nRun it on a node that has the CA's key: the first one, and those that joined with a token.",
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if !identity.ValidName(name) {
				return usage("%q is no name of a node: letters, digits and single - _ . between them", name)
			}
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			ca, err := identity.LoadCA(cfg.TLS.Dir)
			if err != nil {
				return err
			}
			if dir == "" {
				dir = name + "-tls"
			}
			if identity.Exists(dir) {
				return fmt.Errorf("%w: %s holds a certificate already; move it away, or name another with --dir", ferryman.ErrConflict, dir)
			}
			if sign {
				if err := ca.Save(dir); err != nil {
					return err
				}
			}
			if err := issue(ca, name, dir, life); err != nil {
				return err
			}
			say(c, "%s is a node of cluster %s with what is in %s; copy it to that node's tls.dir, for the agent's eyes only", name, ca.Cluster(), dir)
			return nil
		}}
	configFlag(c, &path)
	c.Flags().StringVar(&dir, "dir", "", "where to put it (default: NODE-tls here)")
	c.Flags().DurationVar(&life, "ttl", certificateLife, "how long it is valid")
	c.Flags().BoolVar(&sign, "with-ca-key", false, "add the CA's key: the node then admits others by token, and renews its own certificate")
	return c
}

func certsTokenCommand() *cobra.Command {
	var k console
	var life time.Duration
	c := &cobra.Command{Use: "token", Short: "Print a token with which one node can join", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if life <= 0 {
				return usage("--ttl %s: must be more than 0", life)
			}
			return k.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
				token, err := client.Token(ctx, rpc.TokenRequest{TTL: ferryman.Duration(life)})
				if err != nil {
					return err
				}
				say(c, "one node can join with this within %s (`ferryman join` there); it is a password until then", life)
				_, err = fmt.Fprintln(c.OutOrStdout(), token)
				return err
			})
		}}
	k.flags(c)
	c.Flags().DurationVar(&life, "ttl", time.Hour, "how long it can be used")
	return c
}

// certificate is what `certs show` tells.
type certificate struct {
	Node      string    `json:"node"`
	Cluster   string    `json:"cluster"`
	NotAfter  time.Time `json:"notAfter"`
	Authority string    `json:"authority"` // SHA-256 of the CA's certificate
	MaySign   bool      `json:"maySign"`
	Dir       string    `json:"dir"`
}

func certsShowCommand() *cobra.Command {
	var path, dir string
	var o output
	c := &cobra.Command{Use: "show", Short: "Show whose certificate this node has, and until when", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if dir == "" {
				cfg, err := loadConfig(path)
				if err != nil {
					return err
				}
				dir = cfg.TLS.Dir
			}
			cert, err := readCertificate(dir)
			if err != nil {
				return err
			}
			if o.form != formTable {
				return o.write(c.OutOrStdout(), cert)
			}
			sign := "no"
			if cert.MaySign {
				sign = "yes"
			}
			left := "expired; `ferryman certs issue` on another node makes a new one"
			if d := time.Until(cert.NotAfter); d > 0 {
				left = fmt.Sprintf("%d days", int(d.Hours()/24))
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "node        %s\ncluster     %s\nvalid until %s (%s)\nauthority   sha256:%s\nmay sign    %s\nfiles       %s\n",
				cert.Node, cert.Cluster, cert.NotAfter.UTC().Format(time.RFC3339), left, cert.Authority, sign, cert.Dir)
			return err
		}}
	configFlag(c, &path)
	o.flags(c)
	c.Flags().StringVar(&dir, "dir", "", "the certificates to show (default: tls.dir of the configuration)")
	return c
}

func readCertificate(dir string) (certificate, error) {
	id, err := identity.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return certificate{}, fmt.Errorf("%w; `ferryman init` or `ferryman join` makes certificates", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return certificate{}, err
	}
	cert := certificate{Node: id.Self().Name, Cluster: id.Self().Cluster, NotAfter: id.NotAfter(), Dir: dir}
	if block, _ := pem.Decode(raw); block != nil {
		sum := sha256.Sum256(block.Bytes)
		cert.Authority = hex.EncodeToString(sum[:])
	}
	_, err = id.CA()
	cert.MaySign = err == nil
	return cert, nil
}
