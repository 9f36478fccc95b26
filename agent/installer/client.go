package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"ferryman"
	"ferryman/upgrade/install"
)

// Client is how the agent asks. It is install.Packages.
type Client struct {
	Run, State string // RunDir and StateDir
	// Envelope is the signed document that is in force; nil where documents are not signed.
	Envelope func() []byte
	// Once runs a unit that ends by itself, to its end.
	Once func(ctx context.Context, unit string) error
	// Look asks the package manager which version is installed.
	Look func(ctx context.Context, name string) (string, error)
}

var _ install.Packages = Client{}

// patience is how long the package manager may take to say what is installed.
const patience = 10 * time.Second

// Stage is described at install.Packages.
func (c Client) Stage(ctx context.Context, key string, p ferryman.Package) error {
	return c.ask(ctx, Stage, key, p)
}

// Switch is described at install.Packages.
func (c Client) Switch(ctx context.Context, key string, p ferryman.Package) error {
	return c.ask(ctx, Switch, key, p)
}

// Kept is described at install.Packages.
func (c Client) Kept(p ferryman.Package) bool {
	_, err := install.Keep(KeepDir(c.State)).Read(p)
	return err == nil
}

// Installed is described at install.Packages.
func (c Client) Installed(name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Look(ctx, name)
}

// ask returns what root made of it.
func (c Client) ask(ctx context.Context, verb Verb, key string, p ferryman.Package) error {
	r := NewRequest(verb, key, p)
	document := c.Envelope()
	if len(document) == 0 {
		// Nobody vouches for more than this one release.
		raw, err := json.Marshal(ferryman.Document{Nodes: 1, Releases: map[string]ferryman.Release{key: {Package: &p}}})
		if err != nil {
			return err
		}
		document = raw
	}
	path := r.document(c.Run)
	if err := os.WriteFile(path, document, 0o600); err != nil {
		return fmt.Errorf("ask the installer: %w", err)
	}
	defer os.Remove(path)
	began := time.Now()
	failed := c.Once(ctx, r.Unit())
	if failed == nil {
		return nil
	}
	raw, err := os.ReadFile(r.result(c.State))
	var got result
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	switch {
	case err != nil || !got.At.After(began) || ctx.Err() != nil:
	case got.Error != "":
		return errors.New(got.Error)
	default: // it went well, and systemd could not say so
		return nil
	}
	return fmt.Errorf("%w; journalctl -u %s has more", failed, r.Unit())
}
