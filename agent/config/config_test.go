package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/config"
)

// valid is the least that an agent needs to be told.
const valid = `
node: {name: n1}
source: {url: "http://127.0.0.1:1"}
database: {engine: demodb, address: "127.0.0.1:2"}
`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadFillsInWhatFollows(t *testing.T) {
	t.Parallel()
	got, err := config.Load(write(t, t.TempDir(), "agent.yaml", valid), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Node.Name = "n1"
	want.Node.Address = "n1:7440"
	want.TLS.Dir = "/var/lib/ferryman/tls"
	want.Source.URL = "http://127.0.0.1:1"
	want.Database.Engine = config.EngineDemodb
	want.Database.Address = "127.0.0.1:2"
	want.Database.DataDir = "/var/lib/ferryman/db"
	want.Database.Home = "/var/lib/ferryman/releases"
	if show(t, got) != show(t, want) {
		t.Errorf("got\n%s\nwant\n%s", show(t, got), show(t, want))
	}
}

func TestLaterSourcesOverrideEarlierOnes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "agent.yaml", valid+"cluster: {max_voters: 3, dead_after: 2s}\nlog: {level: warn}\n")
	write(t, dir, "agent.d/10-a.yaml", "cluster: {max_voters: 7}\nnode: {zone: a}\n")
	write(t, dir, "agent.d/20-b.yaml", "node: {zone: b}\n")
	write(t, dir, "agent.d/README", "not: [yaml\n")
	c, err := config.Load(path, []string{"FERRYMAN_CLUSTER_DEAD_AFTER=4s", "FERRYMAN_JOIN=a:1,b:2", "FERRYMAN_NODE_WITNESS=false", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster.MaxVoters != 7 || c.Node.Zone != "b" || c.Log.Level != "warn" || c.Node.Name != "n1" {
		t.Errorf("drop-ins: got %+v", c)
	}
	if got, want := c.Cluster.DeadAfter.Std(), 4*time.Second; got != want {
		t.Errorf("dead_after: got %v, want %v", got, want)
	}
	if got, want := strings.Join(c.Join, " "), "a:1 b:2"; got != want {
		t.Errorf("join: got %q, want %q", got, want)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		env  []string
		want []string // each part of the message
	}{
		"unknown key":       {text: valid + "cluster: {max_voter: 3}\n", want: []string{"agent.yaml:5: cluster.max_voter: unknown key; did you mean cluster.max_voters?"}},
		"wrong section":     {text: valid + "zone: a\n", want: []string{"agent.yaml:5: zone: unknown key; did you mean node.zone?"}},
		"nothing near":      {text: valid + "colour: red\n", want: []string{"agent.yaml:5: colour: unknown key"}},
		"all at once":       {text: valid + "clutser: {}\nmaintenance: 5\njoin: {a: b}\n", want: []string{"clutser: unknown key; did you mean cluster?", "5\" is not a duration", "join: is a section, expected a list"}},
		"wrong type":        {text: valid + "cluster:\n  max_voters: many\n", want: []string{`agent.yaml:6: cluster.max_voters: is "many", expected a whole number`}},
		"not a section":     {text: valid + "cluster: 3\n", want: []string{"agent.yaml:5: cluster: must be a section of keys"}},
		"set twice":         {text: valid + "maintenance: 5s\nmaintenance: 6s\n", want: []string{"agent.yaml:6: maintenance: is set twice, first in line 5"}},
		"not yaml":          {text: "node: [", want: []string{"agent.yaml: line 1"}},
		"two documents":     {text: valid + "---\nlog: {}\n", want: []string{"more than one document"}},
		"even voters":       {text: valid + "cluster: {max_voters: 4}\n", want: []string{"agent.yaml:5: cluster.max_voters: 4: must be odd"}},
		"negative time-out": {text: valid + "cluster: {dead_after: -1s}\n", want: []string{"cluster.dead_after: -1s: must be more than 0"}},
		"slash in name":     {text: strings.Replace(valid, "n1", "n/1", 1), want: []string{`agent.yaml:2: node.name: "n/1": only letters`}},
		"no engine":         {text: "node: {name: n1}\nsource: {file: /x}\n", want: []string{"database.engine: must be set"}},
		"witness and engine": {text: valid + "log: {level: loud}\n", env: []string{"FERRYMAN_NODE_WITNESS=true"},
			want: []string{"agent.yaml:4: database.engine: is set on a witness", `log.level: "loud": must be one of debug`}},
		"two sources":       {text: valid, env: []string{"FERRYMAN_SOURCE_FILE=/x"}, want: []string{"environment FERRYMAN_SOURCE_FILE: source.file: is set beside source.url"}},
		"no source":         {text: strings.Replace(valid, "source", "#", 1), want: []string{"source.url: must be set"}},
		"password in URL":   {text: strings.Replace(valid, "http://", "ftp://u:hunter2@", 1), want: []string{"ftp://u:xxxxx@"}},
		"unknown variable":  {text: valid, env: []string{"FERRYMAN_NODE_NAEM=n2"}, want: []string{"environment FERRYMAN_NODE_NAEM: unknown variable; did you mean FERRYMAN_NODE_NAME?"}},
		"bad variable":      {text: valid, env: []string{"FERRYMAN_MAINTENANCE=soon"}, want: []string{`environment FERRYMAN_MAINTENANCE: maintenance: "soon" is not a duration`}},
		"every address":     {text: valid + "join: ['0.0.0.0:1']\n", want: []string{"agent.yaml:5: join[0]:", "every address of this host"}},
		"unit with process": {text: strings.Replace(valid, "demodb,", "demodb, unit: x,", 1), want: []string{"database.unit: is for supervisor systemd only"}},
		"ca of plain http":  {text: strings.Replace(valid, "url:", "ca_file: /ca, url:", 1), want: []string{"agent.yaml:3: source.ca_file: is for a source.url that begins with https://"}},
		"token of a file":   {text: strings.Replace(valid, "url:", "token_file: /t, file:", 1), want: []string{"agent.yaml:3: source.token_file: is for source.url only"}},
		"no key":            {text: strings.Replace(valid, "url:", "trusted_keys: [/a, ''], url:", 1), want: []string{"agent.yaml:3: source.trusted_keys[1]: must be set to a file or a directory"}},
		"no signature":      {text: strings.Replace(valid, "url:", "trusted_keys: [/a], signatures: 0, url:", 1), want: []string{"agent.yaml:3: source.signatures: 0: must be 1 or more"}},
		"no keys to count":  {text: strings.Replace(valid, "url:", "signatures: 2, url:", 1), want: []string{"agent.yaml:3: source.signatures: is set without source.trusted_keys"}},
		"bind without host": {text: strings.Replace(valid, "demodb,", "demodb, listen: ':1',", 1), want: []string{`agent.yaml:4: database.listen: ":1": must name an address`}},
		"user alone":        {text: strings.Replace(valid, "demodb,", "redis, username: a,", 1), want: []string{"agent.yaml:4: database.username: is set without database.password_file"}},
		"space in user":     {text: strings.Replace(valid, "demodb,", "redis, username: a b, password_file: /p,", 1), want: []string{`database.username: "a b": only printable`}},
		"demodb's password": {text: strings.Replace(valid, "demodb,", "demodb, password_file: /p,", 1), want: []string{"database.password_file: is for engines redis and exec only"}},
		"relative path":     {text: valid + "data_dir: data\n", want: []string{`agent.yaml:5: data_dir: "data": must be an absolute path`}},
		"long path":         {text: valid + "data_dir: /" + strings.Repeat("x", 84) + "\n", want: []string{"agent.yaml:5: data_dir:", "at most 84 characters"}},
		"relative data":     {text: strings.Replace(valid, "demodb,", "demodb, data_dir: db,", 1), want: []string{`agent.yaml:4: database.data_dir: "db": must be an absolute path`}},
		"one port twice":    {text: strings.Replace(valid, "demodb,", "demodb, health_listen: ':2',", 1), want: []string{`agent.yaml:4: database.health_listen: ":2": is taken by database.address "127.0.0.1:2"`}},
		"a port of agents":  {text: strings.Replace(valid, "demodb,", "demodb, health_listen: '127.0.0.1:7440',", 1), want: []string{"database.health_listen:", `is taken by node.listen ":7440"`}},
		"witness's health":  {text: "node: {name: n1, witness: true}\nsource: {file: /x}\ndatabase: {health_listen: ':8'}\n", want: []string{"agent.yaml:3: database.health_listen: is set on a witness"}},
		"metrics nowhere":   {text: valid + "telemetry: {listen: metrics}\n", want: []string{`agent.yaml:5: telemetry.listen: "metrics": must be host:port`}},
		"metrics on a port": {text: valid + "telemetry: {listen: ':7440'}\n", want: []string{`agent.yaml:5: telemetry.listen: ":7440": is taken by node.listen ":7440"`}},
		"one for both":      {text: strings.Replace(valid, "demodb,", "demodb, health_listen: ':8',", 1) + "telemetry: {listen: ':8'}\n", want: []string{`agent.yaml:5: telemetry.listen: ":8": is taken by database.health_listen ":8"`}},
		"exec without path": {text: strings.Replace(valid, "demodb", "exec", 1), want: []string{"database.exec: must be set with engine exec"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(write(t, t.TempDir(), "agent.yaml", test.text), test.env)
			if !errors.Is(err, ferryman.ErrInvalid) {
				t.Fatalf("got error %v, want ErrInvalid", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant it to contain %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a password:\n%v", err)
			}
		})
	}
}

func TestAMissingFileIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := config.Load(filepath.Join(t.TempDir(), "agent.yaml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Source.URL = "https://user:hunter2@example.com/x"
	if got, want := c.Redacted().Source.URL, "https://user:xxxxx@example.com/x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAPIServerRefuses(t *testing.T) {
	t.Parallel()
	_, err := config.LoadAPIServer(write(t, t.TempDir(), "api.yaml", "provisioner: {kind: exec}\ntls: {key: a}\n"), nil)
	for _, want := range []string{"file: must be set", "provisioner.exec: must be set", "tls.cert: must be set beside tls.key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %q", err, want)
		}
	}
}

func show(t *testing.T, c any) string {
	t.Helper()
	b, err := config.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
