package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
	c := &cobra.Command{Use: "bundle", Short: "Write a tar.gz with reports, events, configuration and versions; no secrets", Args: cobra.NoArgs,
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
				complain(c.ErrOrStderr(), fmt.Errorf("not in the bundle: %w", m))
			}
			say(c, "read it before you pass it on: secrets are taken out by the names of their keys")
			_, err = fmt.Fprintln(c.OutOrStdout(), file)
			return err
		}}
	k.flags(c)
	c.Flags().StringVarP(&path, "file", "f", "", "where to write it; - is the standard output (default: a name with node and time, here)")
	return c
}

// bundle is the files of a debug bundle.
type bundle struct {
	at      time.Time
	files   []file
	missing []error
}

type file struct {
	name string
	raw  []byte
}

func (b *bundle) add(name string, raw []byte, err error) {
	if err != nil {
		b.missing = append(b.missing, fmt.Errorf("%s: %w", name, err))
		return
	}
	b.files = append(b.files, file{name, raw})
}

// data adds what JSON says of it, without secrets.
func (b *bundle) data(name string, data any, err error) {
	var raw []byte
	if err == nil {
		raw, err = redacted(data)
	}
	b.add(name, raw, err)
}

// collect asks for everything, keeps what answers, and returns this node's name.
func (b *bundle) collect(c *cobra.Command, k *console) string {
	b.add("versions.txt", versions(), nil)
	cfg, err := loadConfig(k.config)
	var raw []byte
	if err == nil {
		raw, err = config.Marshal(cfg.Redacted())
	}
	b.add("config.yaml", raw, err)

	var local rpc.LocalReport
	err = k.call(c, func(ctx context.Context, client *rpc.ControlClient) (err error) {
		local, err = client.Local(ctx)
		return err
	})
	b.data("local.json", local, err)
	if err == nil {
		err = k.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
			r, err := client.Report(ctx)
			if err != nil {
				return err
			}
			b.data("report.json", r, nil)
			var status, events bytes.Buffer
			err = render.Status(&status, r, render.Options{})
			b.add("status.txt", status.Bytes(), err)
			err = render.Events(&events, r, render.Options{})
			b.add("events.txt", events.Bytes(), err)
			return nil
		})
	}
	if err != nil {
		b.missing = append(b.missing, fmt.Errorf("the leader's report: %w", err))
	}
	return cmp.Or(local.Status.Name, cfg.Node.Name, "node")
}

func versions() []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "ferryman %s\n%s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if raw, err := os.ReadFile("/proc/version"); err == nil {
		out.Write(raw)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			fmt.Fprintln(&out, m.Path, m.Version)
		}
	}
	return []byte(out.String())
}

func (b *bundle) write(w io.Writer) error {
	if len(b.missing) > 0 {
		b.files = append(b.files, file{"missing.txt", []byte(errors.Join(b.missing...).Error() + "\n")})
	}
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, f := range b.files {
		h := tar.Header{Typeflag: tar.TypeReg, Name: "ferryman-debug/" + f.name, Mode: 0o600, Size: int64(len(f.raw)), ModTime: b.at}
		if err := archive.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := archive.Write(f.raw); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}
