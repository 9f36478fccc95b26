package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/dbhooks"
	"ferryman/dbhooks/demodb"
	"ferryman/dbhooks/redis"
)

// engine is what the demo must know of a database beyond the contract: where
// its releases come from, and how a client of it writes and reads.
type engine interface {
	name() string
	// versions are the first, the next, and one that does not start.
	versions() (first, next, broken string)
	// prepare makes the release archives in dir.
	prepare(ctx context.Context, dir, program string) error
	writer(addrs func() []string) keyWriter
	// read reads keys from one instance.
	read(ctx context.Context, addr string, keys []string) (map[string]string, error)
}

// keyWriter is a client that writes to whichever instance is the primary.
type keyWriter interface {
	Put(ctx context.Context, key, value string) (addr string, err error)
	Close() error
}

func newEngine(name string) (engine, error) {
	switch name {
	case config.EngineDemodb, "":
		return demoEngine{}, nil
	case config.EngineRedis:
		return newRedisEngine()
	}
	return nil, fmt.Errorf("the demo has no engine %q; choose demodb or redis", name)
}

// archiveName is a release's file among the artefacts.
func archiveName(engine, version string) string { return engine + "-" + version + ".tar.gz" }

// keep writes an archive's digest beside it, for the document.
func keep(dir, engine, version string, a ferryman.Archive) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, archiveName(engine, version)+".json"), raw, 0o600)
}

type demoEngine struct{}

func (demoEngine) name() string { return config.EngineDemodb }

func (demoEngine) versions() (string, string, string) { return "1.0.0", "1.1.0", "1.2.0" }

func (e demoEngine) prepare(_ context.Context, dir, program string) error {
	first, next, broken := e.versions()
	for _, r := range []demodb.Release{{Version: first}, {Version: next}, {Version: broken, Faults: demodb.Faults{NoStart: true}}} {
		a, err := r.WriteArchive(filepath.Join(dir, archiveName(e.name(), r.Version)), program)
		if err != nil {
			return err
		}
		if err := keep(dir, e.name(), r.Version, a); err != nil {
			return err
		}
	}
	return nil
}

func (demoEngine) writer(addrs func() []string) keyWriter { return demodb.NewWriter(addrs) }

func (demoEngine) read(ctx context.Context, addr string, keys []string) (map[string]string, error) {
	c := demodb.Dial(addr)
	defer c.Close()
	out := map[string]string{}
	for _, k := range keys {
		v, found, err := c.Get(ctx, k)
		if err != nil {
			return nil, err
		}
		if found {
			out[k] = v
		}
	}
	return out, nil
}

// redisEngine runs real servers. With archives of two builds in the directory
// that releasesEnv names (scripts/redis-releases makes them) the upgrade is a
// real one; otherwise the server of this host is offered under two names.
type redisEngine struct {
	archives []string // two builds, older first
	program  string   // or the host's server
	version  string
}

const releasesEnv = "FERRYMAN_REDIS_RELEASES"

func newRedisEngine() (engine, error) {
	if dir := os.Getenv(releasesEnv); dir != "" {
		archives, err := filepath.Glob(filepath.Join(dir, "redis-*.tar.gz"))
		if err != nil || len(archives) != 2 {
			return nil, fmt.Errorf("%s is %s, which holds %d release archives and not two; scripts/redis-releases makes them", releasesEnv, dir, len(archives))
		}
		// u10 sorts before u7 as text: the longer name is the newer build.
		if len(archives[0]) > len(archives[1]) {
			archives[0], archives[1] = archives[1], archives[0]
		}
		return redisEngine{archives: archives}, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		program, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(program, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --version: %w", program, err)
		}
		version := "0"
		for _, f := range strings.Fields(string(out)) {
			if v, ok := strings.CutPrefix(f, "v="); ok {
				version = v
			}
		}
		return redisEngine{program: program, version: version}, nil
	}
	return nil, fmt.Errorf("no redis-server or valkey-server in PATH; install one, or set %s to a directory made by scripts/redis-releases", releasesEnv)
}

func (redisEngine) name() string { return config.EngineRedis }

func (e redisEngine) versions() (string, string, string) {
	if e.program != "" {
		return e.version + "-a", e.version + "-b", e.version + "-broken"
	}
	version := func(path string) string {
		return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "redis-"), ".tar.gz")
	}
	return version(e.archives[0]), version(e.archives[1]), "7.0.15-broken"
}

func (e redisEngine) prepare(_ context.Context, dir, _ string) error {
	first, next, broken := e.versions()
	for i, version := range []string{first, next} {
		to := filepath.Join(dir, archiveName(e.name(), version))
		if e.program == "" {
			a, err := describe(e.archives[i])
			if err == nil {
				err = copyFile(to, e.archives[i])
			}
			if err == nil {
				err = keep(dir, e.name(), version, a)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := e.archive(dir, version, e.program); err != nil {
			return err
		}
	}
	no, err := exec.LookPath("false")
	if err != nil {
		return err
	}
	return e.archive(dir, broken, no)
}

func (e redisEngine) archive(dir, version, program string) error {
	a, err := dbhooks.WriteRelease(filepath.Join(dir, archiveName(e.name(), version)), "redis-server", program, map[string]string{"version": version})
	if err != nil {
		return err
	}
	return keep(dir, e.name(), version, a)
}

func (redisEngine) writer(addrs func() []string) keyWriter { return redis.NewWriter(addrs, "", "") }

func (redisEngine) read(ctx context.Context, addr string, keys []string) (map[string]string, error) {
	return redis.Read(ctx, addr, "", "", keys)
}
