package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ferryman"
	"ferryman/dbhooks"
)

// nobody is where nothing listens: port 1 of loopback. A replica of it takes no writes and finds no primary.
const nobody = "127.0.0.1:1"

const (
	configName     = "ferryman.conf"
	parametersName = "ferryman-parameters.json"
	pingPeriod     = "10"        // seconds, Redis's default
	pingNever      = "1000000"   // longer than any switchover; replicas notice a silent primary by repl-timeout, and come back
	unreachable    = "100000000" // more replicas than there can be
)

// reserved parameters are the engine's own: changed by hand they would lift a fence or lose data.
var reserved = []string{
	"bind", "port", "dir", "dbfilename", "daemonize", "replicaof", "slaveof", "replica-read-only", "slave-read-only", "min-replicas-to-write", "min-slaves-to-write",
	"min-replicas-max-lag", "min-slaves-max-lag", "repl-ping-replica-period", "repl-ping-slave-period", "repl-backlog-ttl", "shutdown-on-sigterm", "requirepass", "masterauth", "masteruser",
	"replica-announce-ip", "replica-announce-port", "slave-announce-ip", "slave-announce-port", "include", "appendfilename", "appenddirname", "cluster-enabled",
}

// Command writes the configuration and runs bin/redis-server (or bin/valkey-server) of the release, or the configured program.
func (e *Engine) Command(_ context.Context, home string) (dbhooks.Command, error) {
	program, err := e.program(home)
	if err != nil {
		return dbhooks.Command{}, err
	}
	if err := os.MkdirAll(e.cfg.Dir, 0o700); err != nil {
		return dbhooks.Command{}, err
	}
	parameters, err := e.parameters()
	if err != nil {
		return dbhooks.Command{}, err
	}
	if err := e.writeConfig(parameters); err != nil {
		return dbhooks.Command{}, fmt.Errorf("redis: generate the configuration: %w", err)
	}
	return dbhooks.Command{
		Exec: []string{program, filepath.Join(e.cfg.Dir, configName)},
		Env:  []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"},
		Dir:  e.cfg.Dir,
	}, nil
}

func (e *Engine) program(home string) (string, error) {
	names := []string{"redis-server", "valkey-server"}
	if home != "" {
		for _, name := range names {
			path := filepath.Join(home, "bin", name)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
		return "", fmt.Errorf("redis: the release %s has neither bin/redis-server nor bin/valkey-server", home)
	}
	if e.cfg.Program != "" {
		return exec.LookPath(e.cfg.Program)
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("redis: neither redis-server nor valkey-server is in PATH: install one, or name the program in the agent's configuration")
}

// writeConfig generates the configuration that every start uses. It never lets a process come up with writes.
func (e *Engine) writeConfig(parameters map[string]string) error {
	host, port, err := net.SplitHostPort(e.cfg.Bind())
	if err != nil {
		return err
	}
	announceHost, announcePort, err := net.SplitHostPort(e.cfg.Address)
	if err != nil {
		return err
	}
	nobodyHost, nobodyPort, err := net.SplitHostPort(nobody)
	if err != nil {
		return err
	}
	var b strings.Builder
	set := func(name string, values ...string) {
		b.WriteString(name)
		for _, v := range values {
			b.WriteString(" " + strconv.Quote(v))
		}
		b.WriteByte('\n')
	}
	b.WriteString("# Generated at each start: changes are lost. It brings the server up without writes.\n")
	set("bind", host)
	set("port", port)
	set("dir", e.cfg.Dir)
	set("dbfilename", snapshotName)
	set("daemonize", "no")
	set("replicaof", nobodyHost, nobodyPort)
	set("replica-announce-ip", announceHost)
	set("replica-announce-port", announcePort)
	set("repl-backlog-ttl", "0") // the history must not change because replicas were away
	set("repl-diskless-sync-delay", "0")
	set("shutdown-on-sigterm", "save") // with the replication position, for a partial resynchronisation
	set("shutdown-timeout", "2")
	if _, ok := parameters["save"]; !ok {
		set("save", "")
	}
	if _, ok := parameters["appendonly"]; !ok && e.hasLog(parameters) {
		set("appendonly", "yes")
	}
	if e.cfg.Password != "" {
		if e.cfg.Username != "" {
			set("user", e.cfg.Username, "on", ">"+e.cfg.Password, "~*", "&*", "+@all")
			set("masteruser", e.cfg.Username)
		}
		set("requirepass", e.cfg.Password)
		set("masterauth", e.cfg.Password)
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		set(name, strings.Fields(parameters[name])...)
	}
	return dbhooks.WriteFile(filepath.Join(e.cfg.Dir, configName), []byte(b.String()), 0o600)
}

func (e *Engine) parameters() (map[string]string, error) {
	path := filepath.Join(e.cfg.Dir, parametersName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var p map[string]string
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		return nil, fmt.Errorf("redis: read the parameters %s: %w", path, err)
	}
	return p, nil
}

// checkParameters says what is wrong with them, if anything.
func (e *server) checkParameters(ctx context.Context, parameters map[string]string) ([]string, error) {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if slices.Contains(reserved, name) {
			wrong = append(wrong, fmt.Sprintf("parameter %s is set by ferryman itself", name))
			continue
		}
		if strings.ContainsAny(parameters[name], "\n\r\x00\"") {
			wrong = append(wrong, fmt.Sprintf("parameter %s: a value in one line without quotes is expected", name))
			continue
		}
		known, err := e.client.ConfigGet(ctx, name).Result()
		if err != nil {
			return nil, err
		}
		if _, ok := known[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("unknown parameter %s", name))
		}
	}
	return wrong, nil
}

// configure applies all parameters; those that are not named go back to their defaults with the next restart.
func (e *server) configure(ctx context.Context, args ferryman.Args) (ferryman.Result, error) {
	var result ferryman.Result
	wrong, err := e.checkParameters(ctx, args.Parameters)
	if err != nil {
		return result, err
	}
	if len(wrong) > 0 {
		return result, fmt.Errorf("%w: %s", ferryman.ErrInvalid, strings.Join(wrong, "; "))
	}
	old, err := e.parameters()
	if err != nil {
		return result, err
	}
	for name := range old {
		if _, ok := args.Parameters[name]; !ok {
			result.RestartNeeded = true
		}
	}
	for name, value := range args.Parameters {
		err := e.client.ConfigSet(ctx, name, value).Err()
		switch {
		case err == nil:
		case strings.Contains(err.Error(), "immutable"):
			now, err := e.client.ConfigGet(ctx, name).Result()
			if err != nil {
				return result, err
			}
			result.RestartNeeded = result.RestartNeeded || now[name] != value
		default:
			return result, fmt.Errorf("parameter %s: %w: %w", name, ferryman.ErrInvalid, err)
		}
	}
	raw, err := json.Marshal(args.Parameters)
	if err != nil {
		return result, err
	}
	if err := dbhooks.WriteFile(filepath.Join(e.cfg.Dir, parametersName), raw, 0o600); err != nil {
		return result, err
	}
	return result, e.writeConfig(args.Parameters)
}
