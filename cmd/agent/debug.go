package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ferryman/agent"
	"ferryman/agent/config"
	"ferryman/agent/rpc"
	"ferryman/cmd/agent/internal/render"
)

func debugCommand() *cobra.Command {
	return family("debug", "Collect what others need to help", bundleCommand())
}

func bundleCommand() *cobra.Command {
	var k console
	var path string
	c := &cobra.Command{Use: "bundle", Short: "Write a tar.gz with reports, events, logs, configuration and versions; no secrets", Args: cobra.NoArgs,
		Long: "Write a tar.gz with reports, events, logs, configuration and versions, without secrets.\nIt works also while no agent runs, and says what is missing.",
		RunE: func(c *cobra.Command, _ []string) error {
			b := bundle{at: time.Now()}
			name := b.collect(c, &k)
			if path == "-" {
				return b.write(c.OutOrStdout())
			}
			file := cmp.Or(path, fmt.Sprintf("ferryman-debug-%s-%s.tar.gz", name, b.at.UTC().Format("20060102T150405Z")))
			f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			if err := errors.Join(b.write(f), f.Close()); err != nil {
				return errors.Join(err, os.Remove(file))
			}
			for _, m := range b.missing {
				if !errors.Is(m, fs.ErrNotExist) { // what is not there need not be
					complain(c.ErrOrStderr(), fmt.Errorf("not in the bundle: %w", m))
				}
			}
			say(c, "read it before you pass it on: taken out is what stands in the files of secrets that could be read here, and what its key calls one")
			_, err = fmt.Fprintln(c.OutOrStdout(), file)
			return err
		}}
	k.flags(c)
	c.Flags().StringVar(&path, "out", "", "the file to write; - is the standard output (default: a name with node and time, here)")
	return c
}

// collect asks for everything, keeps what answers, and returns this node's name.
func (b *bundle) collect(c *cobra.Command, k *console) string {
	cfg, err := loadConfig(k.config)
	b.secrets = secretsOf(cfg)
	b.text("versions.txt", versions(), nil)
	var raw []byte
	if err == nil {
		raw, err = config.Marshal(cfg.Redacted())
	}
	b.text("config.yaml", raw, err)
	name := b.agent(c, k)
	if raw == nil {
		return cmp.Or(name, "node")
	}
	b.monitored(c.Context(), cfg.Telemetry.Listen)
	b.host(c.Context(), cfg)
	return cmp.Or(name, cfg.Node.Name)
}

// agent asks the agent of this host, and returns its node's name.
func (b *bundle) agent(c *cobra.Command, k *console) string {
	var local rpc.LocalReport
	err := k.call(c, func(ctx context.Context, client *rpc.ControlClient) (err error) {
		local, err = client.Local(ctx)
		return err
	})
	b.data("local.json", local, err)
	if err != nil {
		b.missing = append(b.missing, errors.New("report.json, status.txt, events.txt, raft.json, goroutines.txt: no agent told them"))
		return ""
	}
	err = k.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
		d, err := client.Debug(ctx)
		if err != nil {
			return err
		}
		b.text("goroutines.txt", []byte(d.Goroutines), nil)
		d.Goroutines = ""
		b.data("raft.json", d, nil)
		return nil
	})
	if err != nil {
		b.missing = append(b.missing, fmt.Errorf("raft.json, goroutines.txt: %w", err))
	}
	err = k.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
		r, err := client.Report(ctx)
		if err != nil {
			return err
		}
		b.data("report.json", r, nil)
		var status, events bytes.Buffer
		err = render.Status(&status, r, render.Options{})
		b.text("status.txt", status.Bytes(), err)
		err = render.Events(&events, r, render.Options{})
		b.text("events.txt", events.Bytes(), err)
		return nil
	})
	if err != nil {
		b.missing = append(b.missing, fmt.Errorf("report.json, status.txt, events.txt: %w", err))
	}
	return local.Status.Name
}

// lookTime bounds one look at this host.
const lookTime = 5 * time.Second

// monitored asks what monitoring asks.
func (b *bundle) monitored(ctx context.Context, listen string) {
	if listen == "" {
		b.missing = append(b.missing, errors.New("metrics.txt, livez.txt, readyz.txt: telemetry.listen is not set"))
		return
	}
	for _, path := range []string{"metrics", "livez", "readyz"} {
		raw, err := get(ctx, listen, path)
		b.text(path+".txt", raw, err)
	}
}

func get(ctx context.Context, listen, path string) ([]byte, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/"+path+"?verbose", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy: it is this host
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(io.LimitReader(response.Body, maxTail))
}

// host takes what this host keeps, whether or not an agent runs.
func (b *bundle) host(ctx context.Context, cfg config.Config) {
	for _, name := range []string{"journal.json", "contacts.json", "trust.json"} {
		b.kept(name, filepath.Join(cfg.DataDir, name))
	}
	guard := agent.GuardDir(cfg)
	for _, name := range []string{"state.json", "spec.json"} {
		b.kept("guard/"+name, filepath.Join(guard, name))
	}
	b.tail("guard/guard.log", filepath.Join(guard, "guard.log"))
	if cfg.Database.Engine != "" && cfg.Database.Unit == "" {
		b.tail("database.log", filepath.Join(cfg.DataDir, cfg.Database.Slot+".log"))
	}
	raw, err := logOf(ctx, config.AgentUnit, config.GuardUnit)
	b.text("ferryman.log", raw, err)
	if cfg.Database.Unit != "" {
		raw, err := logOf(ctx, cfg.Database.Unit)
		b.text("database.log", raw, err)
	}
}

// kept adds a file of JSON that is kept in the data directory.
func (b *bundle) kept(name, path string) {
	raw, err := os.ReadFile(path)
	if err == nil && !json.Valid(raw) {
		b.text(name, raw, nil) // what is broken is what an expert looks for
		return
	}
	b.data(name, json.RawMessage(raw), err)
}

// logOf is the newest that the journal has of units.
func logOf(ctx context.Context, units ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	args := []string{"--lines", "5000", "--no-pager", "--quiet", "--output", "short-iso-precise"}
	for _, unit := range units {
		args = append(args, "--unit", unit)
	}
	out, err := exec.CommandContext(ctx, "journalctl", args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("journalctl: %w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err == nil && len(bytes.TrimSpace(out)) == 0 {
		err = errors.New("the journal has nothing of it, or nothing that this user may read")
	}
	return out[max(0, len(out)-maxTail):], err
}

func versions() []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "ferryman %s\n%s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, path := range []string{"/proc/version", "/etc/os-release"} {
		if raw, err := os.ReadFile(path); err == nil {
			out.Write(raw)
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			fmt.Fprintln(&out, m.Path, m.Version)
		}
	}
	return []byte(out.String())
}
