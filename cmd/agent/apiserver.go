package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"ferryman/agent/config"
	"ferryman/apiserver"
)

func apiServerCommand() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "api-server", Short: "Serve a desired state and make hosts (the reference api-server)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.LoadAPIServer(path, environment())
			if err != nil {
				return err
			}
			log := newLogger(c.ErrOrStderr(), cfg.Log)
			server := apiserver.Config{Document: cfg.File, TokenFile: cfg.TokenFile, Artefacts: cfg.Artefacts, Log: log,
				State: filepath.Join(filepath.Dir(cfg.File), "api-server.state.json")}
			if cfg.TLS.Cert != "" {
				cert, err := tls.LoadX509KeyPair(cfg.TLS.Cert, cfg.TLS.Key)
				if err != nil {
					return fmt.Errorf("tls: %w", err)
				}
				server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
			}
			switch cfg.Provisioner.Kind {
			case config.ProvisionExec:
				server.Provisioner = &apiserver.Exec{Program: cfg.Provisioner.Exec}
			case config.ProvisionProcess:
				return errors.New("provisioner.kind process is for `ferryman demo`, which prepares the hosts; use exec with a script of your own, or none")
			}
			s, err := apiserver.New(server)
			if err != nil {
				return err
			}
			ln, err := net.Listen("tcp", cfg.Listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			return s.Run(c.Context(), ln)
		}}
	c.Flags().StringVar(&path, "config", "/etc/ferryman/api-server.yaml", "the api-server's configuration")
	return c
}
