package source_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferryman"
	"ferryman/agent/source"
)

func TestParseMinimal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`{"NumberReplicas": 3}`:       3,
		`{"NumberReplicas":2}` + "\n": 2,
		"NumberReplicas: 4\n":         4,
		`{"NumberReplicas": 6}`:       6,
		"\ufeffNumberReplicas: 1":     1,
	} {
		got, err := source.Parse([]byte(text), "minimal")
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got.Nodes != want || got.Generation != 0 {
			t.Errorf("%q: got %d nodes, generation %d; want %d and 0", text, got.Nodes, got.Generation, want)
		}
	}
}

// The examples are what users begin with.
func TestParseExamples(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../configs/desired/*.yaml")
	if err != nil || len(paths) < 3 {
		t.Fatalf("examples: got %v, %v", paths, err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := source.Parse(raw, path)
		if err != nil {
			t.Error(err)
		}
		if err := source.Validate(doc.WithDefaults()); err != nil {
			t.Errorf("%s with defaults: %v", path, err)
		}
	}
}

func TestParseFull(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../configs/desired/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := source.Parse(raw, "full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"cluster", doc.Cluster, "orders"},
		{"generation", doc.Generation, uint64(7)},
		{"expires", doc.Expires.Format("2006-01-02"), "2027-01-01"},
		{"version", doc.Database.Version, "8.10"},
		{"parameter", doc.Database.Parameters["maxmemory"], "2gb"},
		{"mode", doc.Database.Failover.Mode, ferryman.FailoverAutomatic},
		{"lag", doc.Database.Failover.MaxLagBytes, ferryman.Bytes(1 << 20)},
		{"size", doc.Releases["redis/8.10"].Archive.Size, int64(1847296)},
		{"canary", *doc.Rollout.Canary, 1},
		{"window", doc.Rollout.Windows[0].String(), "Sun 02:00-05:00 UTC"},
		{"paused", doc.Paused, false},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

// rest is a document to which one mistake is added, from line 3 on.
const rest = "nodes: 3\ngeneration: 1\n"

const archive = "{url: \"https://x/y\", sha256: \"" + hex64 + "\", size: 1}"

const hex64 = "00000000000000000000000000000000000000000000000000000000000000ff"

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string // each part of the message
	}{
		"unknown key":           {rest + "rollout:\n  canary: 1\n  bake: 1s\n  stepDeadline: 1m\n  maxUnavailible: 1\n", []string{"orders.yaml:7: rollout.maxUnavailible: unknown key; did you mean maxUnavailable?"}},
		"wrong case":            {"Nodes: 3\n", []string{"orders.yaml:1: Nodes: unknown key; did you mean nodes?", "nodes: is missing"}},
		"nothing near":          {rest + "database: {colour: red}\n", []string{"orders.yaml:3: database.colour: unknown key; known here: engine, version"}},
		"go field name":         {rest + "XMLName: 3\n", []string{"XMLName: unknown key"}},
		"several":               {"nodes: three\ngeneration: -1\npaused: 1\n", []string{`orders.yaml:1: nodes: is "three"; expected a whole number` + "\n", "orders.yaml:2: generation: is the number -1; expected a whole number from 0 on\n", "orders.yaml:3: paused: is the number 1; expected true or false"}},
		"text as number":        {`{"nodes": "3"}`, []string{`nodes: is "3"; expected a whole number`}},
		"fraction":              {`{"nodes": 3.0}`, []string{"nodes: is the number 3.0; expected a whole number"}},
		"octal":                 {"nodes: 010\n", []string{"nodes: is the number 010"}},
		"huge":                  {"nodes: 99999999999999999999\n", []string{"nodes: is the number 99999999999999999999"}},
		"number as text":        {rest + "database: {engine: postgresql, version: 15.20}\n", []string{"orders.yaml:3: database.version: is the number 15.20; expected text: put it in quotes"}},
		"number parameter":      {rest + "database: {parameters: {max_connections: 200}}\n", []string{"database.parameters[max_connections]: is the number 200; expected text"}},
		"list for keys":         {rest + "database: [a]\n", []string{"database: is a list; expected keys with values"}},
		"keys for list":         {rest + "rollout: {windows: {a: b}}\n", []string{"rollout.windows: is keys with values; expected a list"}},
		"keys for text":         {rest + "cluster: {a: b}\n", []string{"cluster: is keys with values; expected text"}},
		"list for duration":     {rest + "rollout: {bake: [1s]}\n", []string{"rollout.bake: is a list; expected one value"}},
		"empty value":           {rest + "rollout:\n", []string{"orders.yaml:3: rollout: is empty"}},
		"empty text":            {rest + "cluster: \"\"\n", []string{"orders.yaml:3: cluster: is empty"}},
		"bare duration":         {rest + "rollout: {bake: 60}\n", []string{`rollout.bake: "60" is not a duration such as 30s`}},
		"bad size":              {rest + "database: {failover: {maxLagBytes: 1MB}}\n", []string{`"1MB" is not a size`}},
		"bad window":            {rest + "rollout:\n  windows:\n  - Sun 02:00-05:00\n  - Someday\n", []string{`orders.yaml:6: rollout.windows[1]: "Someday" is not a window`}},
		"bad time":              {rest + "expires: tomorrow\n", []string{`expires: is "tomorrow"; expected a time such as`}},
		"year that JSON lacks":  {rest + "expires: 0000-01-01T00:00:00+24:00\n", []string{"orders.yaml:3: expires: "}},
		"set twice":             {rest + "nodes: 4\n", []string{"orders.yaml:3: nodes: is set twice, first in line 1"}},
		"set twice in JSON":     {`{"nodes": 3, "nodes": 4}`, []string{"orders.yaml:1: nodes: is set twice"}},
		"alias":                 {"nodes: 3\ncluster: &a x\ndatabase: {engine: *a}\n", []string{"orders.yaml:2: cluster: anchors and aliases are not accepted", "orders.yaml:3: database.engine: anchors"}},
		"merge key":             {rest + "rollout: {<<: {canary: 1}}\n", []string{"rollout: anchors, aliases and merge keys are not accepted"}},
		"bomb":                  {"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nnodes: 3\n", []string{"a: unknown key"}},
		"tag":                   {rest + "cluster: !!binary aGVsbG8=\n", []string{"cluster: the tag !!binary is not accepted"}},
		"key is a number":       {rest + "3: 4\n", []string{"orders.yaml:3: a key is the number 3; expected text"}},
		"key is a list":         {rest + "? [a]\n: 4\n", []string{"a key is a list"}},
		"two documents":         {rest + "---\nnodes: 4\n", []string{"orders.yaml:", "a second document begins here"}},
		"not UTF-8":             {"nodes: 3\ncluster: \xff\n", []string{"orders.yaml: is not UTF-8"}},
		"UTF-16":                {"\xff\xfen\x00", []string{"is not UTF-8"}},
		"control characters":    {"nodes: 3\x00", []string{"control characters"}},
		"empty":                 {"", []string{"orders.yaml: is empty"}},
		"only a comment":        {"# nothing\n", []string{"is empty"}},
		"null":                  {"null", []string{"is empty"}},
		"text":                  {"hello", []string{`is "hello"; expected keys with values`}},
		"list":                  {"[1]", []string{"is a list; expected keys with values"}},
		"HTML":                  {"<html><body>Bad gateway</body></html>", []string{"expected keys with values"}},
		"not YAML":              {"nodes: [3\ncluster: x", []string{"orders.yaml:", "is neither YAML nor JSON"}},
		"cut JSON":              {`{"nodes": 3, "clus`, []string{"is neither YAML nor JSON"}},
		"too long when decoded": {"nodes: 3\ndatabase: {parameters: {a: \"" + strings.Repeat("<", 30<<10) + "\"}}", []string{"takes 184366 bytes where the cluster keeps it; at most 131072 are kept"}},
		"too long":              {"# " + strings.Repeat("x", source.MaxDocument), []string{"is 65538 bytes long; at most 65536 are read"}},
		"deep":                  {strings.Repeat("[", 50000), []string{"orders.yaml"}},

		"no nodes":             {"generation: 1\n", []string{"orders.yaml:1: nodes: is missing"}},
		"zero nodes":           {"nodes: 0\n", []string{"orders.yaml:1: nodes: is 0; expected 1 to 1000"}},
		"too many nodes":       {"nodes: 1001\n", []string{"nodes: is 1001; expected 1 to 1000"}},
		"minimal, none":        {`{"NumberReplicas": 0}`, []string{"orders.yaml:1: NumberReplicas: is 0"}},
		"minimal, text":        {`{"NumberReplicas": "3"}`, []string{`NumberReplicas: is "3"`}},
		"minimal, and more":    {`{"NumberReplicas": 3, "generation": 1}`, []string{"NumberReplicas: stands alone"}},
		"generation 0":         {"nodes: 3\ngeneration: 0\n", []string{"orders.yaml:2: generation: must be at least 1"}},
		"negative shrink":      {rest + "confirmShrink: -1\n", []string{"confirmShrink: must not be negative"}},
		"stale shrink":         {rest + "confirmShrink: 1\n", []string{"confirmShrink: is 1, but nodes is 3"}},
		"slash in cluster":     {rest + "cluster: a/b\n", []string{`cluster: "a/b" is not a name`}},
		"slash in engine":      {rest + "database: {engine: ../x}\n", []string{`database.engine: "../x" is not a name`}},
		"slash in version":     {rest + "database: {engine: a, version: \"1/2\"}\n", []string{`database.version: "1/2" is not a version`}},
		"agent as database":    {rest + "database: {engine: ferryman}\n", []string{"database.engine: ferryman is the agent itself"}},
		"version alone":        {rest + "database: {version: \"1\"}\n", []string{"database.version: is set without database.engine"}},
		"version not listed":   {rest + "database: {engine: redis, version: \"7\"}\n", []string{"database.version: nothing says how 7 is installed: add releases[redis/7]"}},
		"agent version":        {rest + "agent: {version: 0.2.0}\n", []string{"orders.yaml:3: agent.version: nothing says how 0.2.0 is installed: add releases[ferryman/0.2.0]"}},
		"parameter line break": {rest + "database: {parameters: {a: \"b\\nc\"}}\n", []string{"database.parameters[a]: must not hold line breaks"}},
		"failover mode":        {rest + "database: {failover: {mode: auto}}\n", []string{`database.failover.mode: is "auto"; expected manual or automatic`}},
		"unknown failover":     {rest + "database: {failover: {mode: sometimes}}\n", []string{`orders.yaml:3: database.failover.mode: is "sometimes"; expected manual or automatic`}},
		"short lease":          {rest + "database: {failover: {leaseTTL: 900ms}}\n", []string{"leaseTTL: is 900ms; expected 1s to 1m0s"}},
		"long lease":           {rest + "database: {failover: {leaseTTL: 61s}}\n", []string{"leaseTTL: is 1m1s"}},
		"no lease":             {rest + "database: {failover: {leaseTTL: 0s}}\n", []string{"leaseTTL: is 0s"}},
		"no lag":               {rest + "database: {failover: {maxLagBytes: 0}}\n", []string{"maxLagBytes: must be at least 1"}},
		"negative role":        {rest + "database: {roles: {data: {count: -1}}}\n", []string{"database.roles[data].count: must not be negative"}},
		"role without count":   {rest + "database: {roles: {data: {}}}\n", []string{"database.roles[data].count: is missing"}},

		"release key":        {rest + "releases: {redis: {archive: " + archive + "}}\n", []string{`releases[redis]: "redis" is not an engine and a version`}},
		"release with slash": {rest + "releases: {redis/7/8: {archive: " + archive + "}}\n", []string{"releases[redis/7/8]: "}},
		"release of nothing": {rest + "releases: {redis/7: {}}\n", []string{"releases[redis/7]: says nothing"}},
		"release twice":      {rest + "releases:\n  redis/7: {archive: " + archive + "}\n  redis/7: {archive: " + archive + "}\n", []string{"orders.yaml:5: releases.redis/7: is set twice, first in line 4"}},
		"bad digest":         {rest + "releases:\n  redis/7:\n    archive: {url: \"http://x/y\", sha256: abc, size: 1}\n", []string{"orders.yaml:5: releases[redis/7].archive.sha256: is not a SHA-256 digest"}},
		"no digest":          {rest + "releases: {redis/7: {archive: {url: \"http://x/y\", size: 1}}}\n", []string{"releases[redis/7].archive.sha256: is missing"}},
		"no size":            {rest + "releases: {redis/7: {archive: {url: \"http://x/y\", size: 0, sha256: \"" + hex64 + "\"}}}\n", []string{"archive.size: is 0; expected 1 to 17179869184 bytes"}},
		"too big":            {rest + "releases: {redis/7: {archive: {url: \"http://x/y\", size: 17179869185, sha256: \"" + hex64 + "\"}}}\n", []string{"archive.size: is 17179869185"}},
		"scheme":             {rest + "releases: {redis/7: {archive: {url: \"ftp://x/y\", size: 1, sha256: \"" + hex64 + "\"}}}\n", []string{"archive.url: must begin with https://"}},
		"no host":            {rest + "releases: {redis/7: {archive: {url: \"https:///y\", size: 1, sha256: \"" + hex64 + "\"}}}\n", []string{"archive.url: names no host"}},
		"password":           {rest + "releases: {redis/7: {archive: {url: \"https://u:p@x/y\", size: 1, sha256: \"" + hex64 + "\"}}}\n", []string{"archive.url: holds a user name or password"}},
		"package's name":     {rest + "releases: {redis/7: {package: {name: -oA=b, version: \"1\"}}}\n", []string{`orders.yaml:3: releases[redis/7].package: "-oA=b" is not the name of a package`}},
		"package's version":  {rest + "releases: {redis/7: {package: {name: redis, version: 1/bookworm}}}\n", []string{`orders.yaml:3: releases[redis/7].package: "1/bookworm" is not the version of a package`}},
		"package of agent":   {rest + "releases: {ferryman/7: {package: {name: redis, version: \"1\"}}}\n", []string{"orders.yaml:3: releases[ferryman/7].package: the agent itself is not installed as a package of a release; give it an archive"}},
		"package, archive":   {rest + "releases: {redis/7: {package: {name: redis, version: \"1\"}, archive: {url: \"https://a/b\", sha256: \"" + strings.Repeat("0", 64) + "\", size: 1}}}\n", []string{"orders.yaml:3: releases[redis/7]: names an archive and a package: give it one of them"}},

		"maxUnavailable 0":     {rest + "rollout: {maxUnavailable: 0}\n", []string{"orders.yaml:3: rollout.maxUnavailable: must be at least 1"}},
		"maxUnavailable -1":    {rest + "rollout: {maxUnavailable: -1}\n", []string{"orders.yaml:3: rollout.maxUnavailable: must be at least 1"}},
		"negative canary":      {rest + "rollout: {canary: -1}\n", []string{"rollout.canary: must not be negative"}},
		"keepVersions 0":       {rest + "rollout: {keepVersions: 0}\n", []string{"rollout.keepVersions: must be at least 1"}},
		"negative time":        {rest + "rollout: {stepDeadline: -1s}\n", []string{"rollout.stepDeadline: must not be negative"}},
		"no time":              {rest + "rollout: {writeBudget: 0s}\n", []string{"rollout.writeBudget: must be more than 0s"}},
		"no bake":              {rest + "rollout: {bake: 0s}\n", []string{"rollout.bake: is 0s without a canary"}},
		"onFailure":            {rest + "rollout: {onFailure: panic}\n", []string{`rollout.onFailure: is "panic"; expected revert or halt`}},
		"finalize":             {rest + "rollout: {finalize: never}\n", []string{"rollout.finalize: "}},
		"demoteOnRestart":      {rest + "rollout: {demoteOnRestart: never}\n", []string{"rollout.demoteOnRestart: "}},
		"many at once, capped": {rest + "a: 1\nb: 1\nc: 1\nd: 1\ne: 1\nf: 1\ng: 1\nh: 1\ni: 1\nj: 1\nk: 1\nl: 1\n", []string{"orders.yaml:12: j: unknown key", "and 2 more"}},
		"a very long key":      {rest + strings.Repeat("k", 500) + ": 1\n", []string{"kkk…: unknown key"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := source.Parse([]byte(test.text), "orders.yaml")
			if !errors.Is(err, ferryman.ErrInvalid) {
				t.Fatalf("got document %+v and error %v, want ErrInvalid", doc, err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant it to contain %q", err, want)
				}
			}
			if len(err.Error()) > 4096 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
		})
	}
}

func TestParseAcceptsWhatJSONMay(t *testing.T) {
	t.Parallel()
	text := "{\n\t\"nodes\": 3,\n\t\"database\": {\"parameters\": {\"a\\u0062\": \"x\\/\\ud83d\\ude00\\\\/\"}}\n}"
	doc, err := source.Parse([]byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := doc.Database.Parameters["ab"], `x/😀\/`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseKeepsCanaryZeroAndUnset(t *testing.T) {
	t.Parallel()
	unset, err1 := source.Parse([]byte("nodes: 3\n"), "")
	zero, err2 := source.Parse([]byte("nodes: 3\nrollout: {canary: 0, bake: 0s}\n"), "")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if unset.Rollout.Canary != nil {
		t.Errorf("unset: got %d, want nil", *unset.Rollout.Canary)
	}
	if zero.Rollout.Canary == nil || *zero.Rollout.Canary != 0 {
		t.Errorf("zero: got %v, want 0", zero.Rollout.Canary)
	}
}

func TestValidateNeedsNoText(t *testing.T) {
	t.Parallel()
	err := source.Validate(ferryman.Document{Nodes: -1, Rollout: ferryman.Policy{MaxUnavailable: -2}})
	want := "nodes: is -1; expected 1 to 1000\nrollout.maxUnavailable: must be at least 1"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := source.Validate(ferryman.Document{Nodes: 2}.WithDefaults()); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}

func TestDigestIsOfTheContent(t *testing.T) {
	t.Parallel()
	digest := func(text string) string {
		t.Helper()
		doc, err := source.Parse([]byte(text), "")
		if err != nil {
			t.Fatal(err)
		}
		return source.Digest(doc)
	}
	want := digest("nodes: 3\nexpires: 2027-01-01T00:00:00Z\ndatabase: {parameters: {a: x, b: y}}\n")
	same := digest(`{"database": {"parameters": {"b": "y", "a": "x"}}, "expires": "2027-01-01T01:00:00+01:00", "nodes": 3}`)
	if same != want {
		t.Errorf("the same content in JSON: got %s, want %s", same, want)
	}
	if other := digest("nodes: 3\ndatabase: {parameters: {a: x, b: z}}\n"); other == want {
		t.Errorf("other content: got the same digest %s", other)
	}
	if got, want := digest(`{"NumberReplicas": 3}`), digest("nodes: 3"); got != want {
		t.Errorf("minimal: got %s, want %s", got, want)
	}
}
