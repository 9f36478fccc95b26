package demodb_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"ferryman/dbhooks"
	"ferryman/dbhooks/conformance"
	"ferryman/dbhooks/demodb"
)

// TestMain makes the test binary a demodb, as the ferryman binary is one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "demodb" {
		os.Exit(demodb.Main(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	home := func(version string) string {
		archive := filepath.Join(t.TempDir(), version+".tar.gz")
		if _, err := (demodb.Release{Version: version}).WriteArchive(archive, program); err != nil {
			t.Fatal(err)
		}
		home := filepath.Join(t.TempDir(), version)
		unpack(t, archive, home)
		return home
	}
	s := conformance.Suite{
		New: newEngine,
		Put: func(ctx context.Context, cfg dbhooks.Config, key, value string) error {
			c := demodb.Dial(cfg.Address)
			defer c.Close()
			return c.Put(ctx, key, value)
		},
		Get: func(ctx context.Context, cfg dbhooks.Config, key string) (string, bool, error) {
			c := demodb.Dial(cfg.Address)
			defer c.Close()
			return c.Get(ctx, key)
		},
		SyncReplicas: 1,
		Parameters:   map[string]string{"maxValueBytes": "8192"},
		Refused:      map[string]string{"maxValueBytes": "lots"},
	}
	if os.Getenv(plantedVariable) == "" {
		s.Home, s.NextHome, s.NextVersion = home("1.0.0"), home("1.1.0"), "1.1.0"
	}
	conformance.Run(t, s)
}
