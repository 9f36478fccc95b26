package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ferryman"
	"ferryman/agent"
	"ferryman/agent/config"
	"ferryman/agent/identity"
	"ferryman/agent/rpc"
	"ferryman/agent/source"
)

func joinCommand() *cobra.Command {
	var path, tokenFile string
	var timeout time.Duration
	c := &cobra.Command{Use: "join", Short: "Give this node a certificate with a join token, so that its agent can join",
		Long: "Give this node a certificate with a join token (`ferryman certs token` on a node of the cluster makes one).\n" +
			"The token is read from --token-file or from the standard input. Where the configuration has join_token_file,\n" +
			"it is put there and the agent uses it at its start; otherwise the nodes of `join`, and those that the\napi-server lists, are asked at once.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("join takes no argument: a token on a command line can be read by every user of this host (ps) and stays in the shell's history; give it with --token-file, or on the standard input")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			if identity.Exists(cfg.TLS.Dir) {
				return fmt.Errorf("%w: %s holds a certificate already: start the agent, it joins by itself; `ferryman certs show` says whose it is", ferryman.ErrConflict, cfg.TLS.Dir)
			}
			if err := owned(cfg.DataDir); err != nil {
				return err
			}
			text, err := readToken(c, tokenFile)
			if err != nil {
				return err
			}
			token, err := identity.ParseToken(text)
			if err != nil {
				return exitStatus{exitUsage, err}
			}
			if cfg.JoinTokenFile != "" {
				if err := keepToken(cfg.JoinTokenFile, token); err != nil {
					return err
				}
				say(c, "the token is in %s; start the agent, which joins with it", cfg.JoinTokenFile)
				return nil
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			addresses, err := membersToAsk(ctx, cfg)
			if err != nil {
				return err
			}
			if err := rpc.Enroll(ctx, cfg.TLS.Dir, cfg.Node.Name, token, addresses); err != nil {
				return err
			}
			say(c, "%s has a certificate now; start the agent: systemctl start ferryman", cfg.Node.Name)
			return nil
		}}
	configFlag(c, &path)
	c.Flags().StringVar(&tokenFile, "token-file", "", "the file that holds the join token (default: the standard input)")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to ask the cluster")
	return c
}

// maxToken is more than any token is long, in bytes.
const maxToken = 4 << 10

func readToken(c *cobra.Command, file string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, maxToken))
		return string(raw), err
	}
	if in, ok := c.InOrStdin().(*os.File); ok && terminal(in) {
		fmt.Fprint(c.ErrOrStderr(), "Join token: ")
		raw, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(c.ErrOrStderr())
		return string(raw), err
	}
	raw, err := io.ReadAll(io.LimitReader(c.InOrStdin(), maxToken))
	if err == nil && len(raw) == 0 {
		return "", usage("there is no token on the standard input; give it there, or with --token-file")
	}
	return string(raw), err
}

// keepToken leaves the token for the agent, for its eyes only.
func keepToken(path string, token identity.Token) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("join_token_file: %w", err)
	}
	defer os.Remove(f.Name()) // fails once it has moved
	_, err = f.WriteString(token.Encode() + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("join_token_file: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("join_token_file: %w", err)
	}
	return nil
}

// membersToAsk are where the cluster may be: the addresses of `join`, and the
// hosts that the api-server lists.
func membersToAsk(ctx context.Context, cfg config.Config) ([]string, error) {
	addresses := append([]string{}, cfg.Join...)
	var failed error
	if cfg.Source.URL != "" {
		client, err := source.NewClient(agent.Remote(cfg.Source))
		if err != nil {
			return nil, err
		}
		hosts, err := client.CurrentHosts(ctx)
		failed = err
		_, port, _ := net.SplitHostPort(cfg.Node.Address)
		for _, h := range hosts {
			if _, _, err := net.SplitHostPort(h.Address); err != nil {
				h.Address = net.JoinHostPort(h.Address, port)
			}
			addresses = append(addresses, h.Address)
		}
	}
	if len(addresses) == 0 {
		return nil, errors.Join(fmt.Errorf("%w: there is nobody to ask: set `join` in the configuration to the address of a node of the cluster", ferryman.ErrInvalid), failed)
	}
	return addresses, nil
}
