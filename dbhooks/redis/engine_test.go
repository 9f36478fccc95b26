package redis_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/dbhooks/conformance"
	"ferryman/dbhooks/redis"
)

// server is the program to try with, from REDIS_SERVER or PATH.
func server(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("REDIS_SERVER"), "redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	t.Skip("no redis-server or valkey-server in PATH or REDIS_SERVER; scripts/lab/test installs one and runs this")
	return ""
}

func client(cfg dbhooks.Config) *goredis.Client {
	return goredis.NewClient(&goredis.Options{
		Addr: cfg.Address, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

func put(ctx context.Context, cfg dbhooks.Config, key, value string) error {
	c := client(cfg)
	defer c.Close()
	conn := c.Conn() // WAIT speaks of the writes of its own connection
	defer conn.Close()
	if err := conn.Set(ctx, key, value, 0).Err(); err != nil {
		return err
	}
	return redis.WaitForReplica(ctx, conn)
}

func get(ctx context.Context, cfg dbhooks.Config, key string) (string, bool, error) {
	c := client(cfg)
	defer c.Close()
	value, err := c.Get(ctx, key).Result()
	if errors.Is(err, goredis.Nil) {
		return "", false, nil
	}
	return value, err == nil, err
}

func suite(program string) conformance.Suite {
	return conformance.Suite{
		New: func(cfg dbhooks.Config) dbhooks.Engine {
			cfg.Program = program
			return redis.New(cfg)
		},
		Put: put, Get: get, Volatile: true,
		Parameters:       map[string]string{"maxmemory-policy": "noeviction", "hz": "20"},
		Refused:          map[string]string{"min-replicas-to-write": "0"},
		AfterSwitchovers: noFullCopies,
	}
}

// noFullCopies: a planned switchover costs a partial resynchronisation. The two full copies are the clones of the beginning.
func noFullCopies(t *testing.T, configs []dbhooks.Config) {
	t.Helper()
	for i, cfg := range configs {
		c := client(cfg)
		text, err := c.Info(t.Context(), "stats").Result()
		if err := errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
		want := "sync_full:0\r\n"
		if i == 0 {
			want = "sync_full:2\r\n"
		}
		if !strings.Contains(text, want) {
			t.Errorf("instance %d sent full copies: want %q in\n%s", i, want, text)
		}
	}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, suite(server(t)))
}

// TestConformanceBetweenBuilds adds a rolling upgrade from one real build to another.
func TestConformanceBetweenBuilds(t *testing.T) {
	dir := os.Getenv("REDIS_RELEASES")
	if dir == "" {
		t.Skip("REDIS_RELEASES names no directory made by scripts/redis-releases; scripts/lab/test runs this")
	}
	home := func(version string) string {
		home := t.TempDir()
		archive := filepath.Join(dir, "redis-"+version+".tar.gz")
		if out, err := exec.Command("tar", "-xzf", archive, "-C", home).CombinedOutput(); err != nil {
			t.Fatalf("unpack %s: %v: %s", archive, err, out)
		}
		return home
	}
	s := suite("")
	s.Home, s.NextHome, s.NextVersion = home("7.0.15-1~deb12u7"), home("7.0.15-1~deb12u10"), "7.0.15-1~deb12u10"
	conformance.Run(t, s)
}

func TestFenceDuringAPromotionStands(t *testing.T) {
	t.Parallel()
	conformance.WithCluster(t, suite(server(t)), 2, func(configs []dbhooks.Config) {
		e := redis.New(configs[0])
		if err := redis.AcceptWritesAfterFence(t.Context(), e); !errors.Is(err, ferryman.ErrConflict) {
			t.Errorf("promote of an instance that was fenced meanwhile: got %v, want %v", err, ferryman.ErrConflict)
		}
		if in, err := e.Status(t.Context()); err != nil || in.Writable || !in.Fenced {
			t.Errorf("status: got %+v, %v; want it fenced and not writable", in, err)
		}
	})
}

func TestAnOlderReleaseIsRefused(t *testing.T) {
	t.Parallel()
	conformance.WithCluster(t, suite(server(t)), 2, func(configs []dbhooks.Config) {
		ask := func(i int, version string) []string {
			t.Helper()
			r, err := redis.New(configs[i]).Do(t.Context(), ferryman.OpPreflight, ferryman.Args{Version: version})
			if err != nil {
				t.Fatal(err)
			}
			return r.Blockers
		}
		for _, version := range []string{"6.2.14", "2.8-debian"} {
			if got := ask(0, version); len(got) != 1 || !strings.Contains(got[0], "an older release cannot load") {
				t.Errorf("%s on the primary: got %q, want it refused", version, got)
			}
			if got := ask(1, version); len(got) > 0 {
				t.Errorf("%s on a replica, which is the primary's to refuse: got %q", version, got)
			}
		}
		for _, version := range []string{"", "7.0.2", "7.0.15-u7", "10.0.0", "debian"} {
			if got := ask(0, version); len(got) > 0 {
				t.Errorf("%q: got %q, want it allowed", version, got)
			}
		}
	})
}

func TestWriterFindsThePrimary(t *testing.T) {
	t.Parallel()
	program := server(t)
	conformance.WithCluster(t, suite(program), 3, func(configs []dbhooks.Config) {
		addrs := []string{configs[2].Address, "127.0.0.1:1", configs[1].Address, configs[0].Address}
		w := redis.NewWriter(func() []string { return addrs }, "", "")
		defer w.Close()
		for _, key := range []string{"a", "b"} {
			at, err := w.Put(t.Context(), key, "1")
			if err != nil || at != configs[0].Address {
				t.Errorf("put %s: got %q, %v; want %q", key, at, err, configs[0].Address)
			}
		}
		got, err := redis.Read(t.Context(), configs[0].Address, "", "", []string{"b", "nothing", "a"})
		if want := map[string]string{"a": "1", "b": "1"}; err != nil || !maps.Equal(got, want) {
			t.Errorf("read: got %v, %v; want %v", got, err, want)
		}
	})
}
