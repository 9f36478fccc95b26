package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// envPrefix begins the variables that override settings: node.name is
// FERRYMAN_NODE_NAME. Lists are separated by commas.
const envPrefix = "FERRYMAN_"

// Load reads an agent's configuration from the file at path, then from the
// files agent.d/*.yaml beside it in order of their names (for a file of
// another name: that name with .d), then from environ, which is os.Environ().
// The error is a Problems when what was read cannot be meant.
func Load(path string, environ []string) (Config, error) {
	c := Default()
	origin, err := load(&c, path, environ)
	if err != nil {
		return c, err
	}
	c.derive()
	return c, c.validate(path, origin)
}

// LoadAPIServer is Load for the configuration of `ferryman api-server`.
func LoadAPIServer(path string, environ []string) (APIServer, error) {
	c := DefaultAPIServer()
	origin, err := load(&c, path, environ)
	if err != nil {
		return c, err
	}
	c.derive()
	return c, c.validate(path, origin)
}

// load fills the struct behind into and tells where each key was set last.
func load(into any, path string, environ []string) (map[string]place, error) {
	s := schemaOf(reflect.TypeOf(into).Elem())
	v := viper.New()
	v.SetConfigType("yaml")
	origin := map[string]place{}
	var problems Problems

	files, err := Files(path)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		found := s.check(file, raw, origin)
		problems = append(problems, found...)
		if len(found) > 0 {
			continue
		}
		if err := v.MergeConfig(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
	}
	problems = append(problems, s.checkEnv(environ, func(key, value string, at place) {
		v.Set(key, value)
		origin[key] = at
	})...)
	if len(problems) > 0 {
		return nil, problems
	}
	// Everything was checked with its line by now; UnmarshalExact is the belt.
	err = v.UnmarshalExact(into, func(d *mapstructure.DecoderConfig) {
		d.TagName = "yaml"
		d.DecodeHook = mapstructure.ComposeDecodeHookFunc(
			mapstructure.TextUnmarshallerHookFunc(),
			mapstructure.StringToSliceHookFunc(","),
		)
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return origin, nil
}

// Files lists the file and its drop-ins. A missing directory is fine, a
// missing file is not: to run on defaults by accident is worse than to stop.
func Files(path string) ([]string, error) {
	dir := strings.TrimSuffix(path, filepath.Ext(path)) + ".d"
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the drop-ins of %s: %w", path, err)
	}
	files := []string{path}
	for _, n := range names { // sorted by name
		if !n.IsDir() && slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(n.Name())) {
			files = append(files, filepath.Join(dir, n.Name()))
		}
	}
	return files, nil
}

// Marshal writes a configuration as YAML.
func Marshal(c any) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(c); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
