package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/source"
	"ferryman/upgrade/install"
)

// Root carries requests out. It trusts nothing that the agent wrote.
type Root struct {
	Run, State, List string // RunDir, StateDir and List
	// Config is the path of the agent's configuration, and Environ what overrides it. Who may change that, and the keys that it names, may have any package
	// installed.
	Config  string
	Environ []string
	// Manager is the host's package manager, or says that there is none.
	Manager func() (Manager, error)
}

// Manager installs packages as root.
type Manager interface {
	// Stage is described at install.Packages; keep is how many versions stay kept.
	Stage(ctx context.Context, p ferryman.Package, keep int) error
	Switch(ctx context.Context, p ferryman.Package) error
}

// Do carries one request out, and writes down what came of it.
func (r Root) Do(ctx context.Context, text string) error {
	req, err := ParseRequest(text)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(req.result(r.State)), 0o755); err != nil {
		return err
	}
	// One of another time is not to be taken for this one's.
	if err := os.Remove(req.result(r.State)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	failed := r.do(ctx, req)
	out := result{At: time.Now().UTC()}
	if failed != nil {
		out.Error = failed.Error()
	}
	raw, err := json.Marshal(out)
	if err == nil {
		err = install.WriteFile(req.result(r.State), raw, 0o644)
	}
	return errors.Join(failed, err)
}

func (r Root) do(ctx context.Context, req Request) error {
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	p, keep, err := r.judge(req)
	if err != nil {
		return err
	}
	manager, err := r.Manager()
	if err != nil {
		return err
	}
	if req.Verb == Stage {
		return manager.Stage(ctx, p, keep)
	}
	return manager.Switch(ctx, p)
}

// lock has one request after the other.
func (r Root) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(r.State, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// judge returns the package that is asked for, if it may be had.
func (r Root) judge(req Request) (p ferryman.Package, keep int, err error) {
	raw, err := read(req.document(r.Run))
	if err != nil {
		return p, 0, fmt.Errorf("the agent's request: %w", err)
	}
	files, err := config.Files(r.Config)
	if err != nil {
		return p, 0, err
	}
	for _, path := range files {
		if err := own(path); err != nil {
			return p, 0, err
		}
	}
	cfg, err := config.Load(r.Config, r.Environ)
	if err != nil {
		return p, 0, err
	}
	for _, path := range cfg.Source.TrustedKeys {
		files, err := source.KeyFiles(path)
		for _, file := range files {
			err = errors.Join(err, own(file))
		}
		if err != nil {
			return p, 0, fmt.Errorf("source.trusted_keys: %w", err)
		}
	}
	keys, err := source.ReadKeys(cfg.Source.TrustedKeys, cfg.Source.Signatures)
	if err != nil {
		return p, 0, fmt.Errorf("source.trusted_keys: %w", err)
	}
	if keys.None() {
		return r.listed(req, raw)
	}
	return r.signed(req, raw, keys)
}

// memory is what root remembers, apart from the agent.
type memory struct {
	source.Memory
	// Cluster is that of the first document that was verified here.
	Cluster string `json:"cluster"`
}

// signed finds the package in documents that the trusted keys signed: this one, which must be no step back, or one before.
func (r Root) signed(req Request, raw []byte, keys source.Keys) (p ferryman.Package, keep int, err error) {
	path := filepath.Join(r.State, "trust.json")
	var known memory
	before, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(before, &known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, 0, fmt.Errorf("read which document root verified last: %s: %w; restore it, or move it away: then any generation that the trusted keys signed is taken", path, err)
	}
	if known.Cluster == "" {
		d, _, err := keys.Open(raw, "desired state")
		if err != nil {
			return p, 0, err
		}
		known.Cluster = d.Cluster
	}
	d, mark, err := keys.Verify(raw, known.Cluster, known.Mark)
	if err != nil {
		return p, 0, err
	}
	next := memory{known.With(d, mark), known.Cluster}
	if !next.Equal(known.Memory) {
		content, err := json.Marshal(next)
		if err == nil {
			err = install.WriteFile(path, append(content, '\n'), 0o600)
		}
		if err != nil {
			return p, 0, fmt.Errorf("write down which document root verified: %w", err)
		}
	}
	for _, binding := range next.Releases {
		if idOf(binding) == req.id {
			p, err = packageOf(binding)
			return p, d.WithDefaults().Rollout.KeepVersions, err
		}
	}
	return p, 0, fmt.Errorf("%w: no document that root verified on this host names the release that is asked for; list it under releases, raise the generation, and sign", source.ErrUntrusted)
}

// packageOf reads a binding: "redis/7.0.15 package:redis-server=5:7.0.15-1".
func packageOf(binding string) (p ferryman.Package, err error) {
	key, digest, _ := strings.Cut(binding, " ")
	digest, ok := strings.CutPrefix(digest, "package:")
	if !ok {
		return p, fmt.Errorf("%w: release %s is no package", ferryman.ErrInvalid, key)
	}
	p.Name, p.Version, _ = strings.Cut(digest, "=")
	return p, allowed(key, p)
}

// allowed refuses what no document could name, whoever signed it.
func allowed(key string, p ferryman.Package) error {
	if engine, _, _ := strings.Cut(key, "/"); engine == ferryman.AgentEngine || p.Name == ferryman.AgentEngine {
		return fmt.Errorf("%w: %s is the agent itself, which is not installed like this", ferryman.ErrInvalid, p.Name)
	}
	return p.Check()
}

// listed finds the package in a document for which nobody vouches. Its name must be on the list; that its content is sound is for the host's package
// sources to sign.
func (r Root) listed(req Request, raw []byte) (p ferryman.Package, keep int, err error) {
	if source.Signed(raw) {
		return p, 0, fmt.Errorf("%w: the document is signed, and %s names no source.trusted_keys to verify it with; set them", source.ErrUntrusted, r.Config)
	}
	d, err := source.Parse(raw, "the agent's request")
	if err != nil {
		return p, 0, err
	}
	for key, release := range d.Releases {
		if release.Package == nil || idOf(ferryman.Binding(key, release)) != req.id {
			continue
		}
		p = *release.Package
		if err := allowed(key, p); err != nil {
			return p, 0, err
		}
		return p, ferryman.DefaultKeepVersions, r.onList(p.Name)
	}
	return p, 0, fmt.Errorf("%w: the agent's request is of another release than the one that is asked for", ferryman.ErrInvalid)
}

func (r Root) onList(name string) error {
	advice := fmt.Sprintf("package %s is not on the list of what may be installed without signed documents: write it into %s, one name a line, as root and on every node, or set source.trusted_keys",
		name, r.List)
	if err := own(r.List); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s (there is no such file)", ferryman.ErrRefused, advice)
	} else if err != nil {
		return err
	}
	content, err := read(r.List)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == name {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ferryman.ErrRefused, advice)
}
