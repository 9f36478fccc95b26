package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/cluster"
	"ferryman/agent/config"
	"ferryman/agent/source"
	"ferryman/agent/state"
)

func trustedKey(n byte) source.PrivateKey { return source.KeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// trusting is the trust of a node with these keys, on the data directory dir.
func trusting(t testing.TB, dir string, keys ...byte) *trust {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir = dir
	for _, n := range keys {
		pem, err := trustedKey(n).Public().PEM()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "key.pub")
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Source.TrustedKeys = append(cfg.Source.TrustedKeys, path)
	}
	tr, err := openTrust(cfg, "orders-0123")
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func envelope(text string, keys ...byte) []byte {
	e := source.Envelope{Type: source.PayloadType, Payload: []byte(text)}
	for _, n := range keys {
		e.Sign(trustedKey(n))
	}
	return e.Marshal()
}

// acceptedBy is what a leader commits that has these keys, or none.
func acceptedBy(t testing.TB, raw []byte, keys ...byte) *ferryman.Accepted {
	t.Helper()
	a, err := trusting(t, t.TempDir(), keys...).parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &a
}

const (
	gen6 = "cluster: orders\ngeneration: 6\nnodes: 3\n"
	gen7 = "cluster: orders\ngeneration: 7\nnodes: 3\nreleases: {fake/2: {archive: {url: 'https://x/2', sha256: '2222222222222222222222222222222222222222222222222222222222222222', size: 1}}}\n"
	gen8 = "cluster: orders\ngeneration: 8\nnodes: 3\n"
)

func TestWhatANodeCarriesOut(t *testing.T) {
	t.Parallel()
	good := acceptedBy(t, envelope(gen7, 1), 1)
	forged := func(change func(*ferryman.Accepted)) *ferryman.Accepted {
		a := *good
		change(&a)
		return &a
	}
	of := func(digit string) *ferryman.Release {
		return &ferryman.Release{Archive: &ferryman.Archive{URL: "https://elsewhere", SHA256: strings.Repeat(digit, 64), Size: 1}}
	}
	step := func(op ferryman.Op) ferryman.Step { return ferryman.Step{Op: op, Generation: 7} }
	stage := func(version, digit string) ferryman.Step {
		return ferryman.Step{Op: ferryman.OpStage, Generation: 7, Args: ferryman.Args{Engine: "fake", Version: version, Release: of(digit)}}
	}
	for name, test := range map[string]struct {
		keys     []byte
		accepted *ferryman.Accepted
		step     ferryman.Step
		want     string // in the refusal
	}{
		"signed":                      {[]byte{1}, good, step(ferryman.OpStart), ""},
		"planned under an older one":  {[]byte{1}, good, ferryman.Step{Op: ferryman.OpStart, Generation: 5}, ""},
		"its release":                 {[]byte{1}, good, stage("2", "2"), ""},
		"another release":             {[]byte{1}, good, stage("2", "3"), "no document that this node verified names the release fake/2"},
		"a release by another name":   {[]byte{1}, good, stage("3", "2"), "names the release fake/3"},
		"without keys, unsigned":      {nil, acceptedBy(t, []byte(gen7)), step(ferryman.OpStart), ""},
		"without keys, signed":        {nil, good, step(ferryman.OpStart), ""},
		"without keys, nothing":       {nil, nil, step(ferryman.OpStart), ""},
		"nothing":                     {[]byte{1}, nil, step(ferryman.OpStart), "no document was accepted yet"},
		"nothing, a vote":             {[]byte{1}, nil, step(ferryman.OpVote), ""},
		"nothing, hosts":              {[]byte{1}, nil, step(ferryman.OpRequestHosts), ""},
		"unsigned":                    {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpStart), "generation 7: not trusted: it is not signed"},
		"unsigned, a preflight":       {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpPreflight), "it is not signed"},
		"unsigned, a stop":            {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpStop), "it is not signed"},
		"unsigned, a departure":       {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpDepart), "it is not signed"},
		"unsigned, a removal":         {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpRemove), "it is not signed"},
		"unsigned, hosts":             {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpRequestHosts), "it is not signed"},
		"unsigned, a fence":           {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpFence), ""},
		"unsigned, the fence's end":   {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpUnfence), ""},
		"unsigned, leadership":        {[]byte{1}, acceptedBy(t, []byte(gen7)), step(ferryman.OpTransfer), ""},
		"by another key":              {[]byte{2}, good, step(ferryman.OpStart), "is not trusted"},
		"another document":            {[]byte{1}, forged(func(a *ferryman.Accepted) { a.Document.Nodes = 1 }), step(ferryman.OpStart), "another document than the one in its envelope"},
		"another digest":              {[]byte{1}, forged(func(a *ferryman.Accepted) { a.Digest = "sha256:0" }), step(ferryman.OpStart), "another document than the one in its envelope"},
		"another generation":          {[]byte{1}, forged(func(a *ferryman.Accepted) { a.Document.Generation = 8 }), step(ferryman.OpStart), "another document"},
		"an older envelope":           {[]byte{1}, forged(func(a *ferryman.Accepted) { a.Envelope = envelope(gen6, 1) }), step(ferryman.OpStart), "another document"},
		"an envelope that is garbage": {[]byte{1}, forged(func(a *ferryman.Accepted) { a.Envelope = []byte(`"x"`) }), step(ferryman.OpStart), "not signed"},
		"a step of the future":        {[]byte{1}, good, ferryman.Step{Op: ferryman.OpStart, Generation: 8}, "planned under generation 8, and 7 is in force"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := trusting(t, t.TempDir(), test.keys...)
			for range 2 { // the second time from memory
				err := tr.allows(ferryman.State{Accepted: test.accepted}, test.step)
				if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, source.ErrUntrusted) || !strings.Contains(err.Error(), test.want)) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
			}
		})
	}
}

// What was verified is on disk before a step of it runs, so that no restart of
// the agent and no leader brings an older document back.
func TestANodeNeverGoesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := ferryman.Step{Op: ferryman.OpStart}
	allows := func(raw []byte) error {
		return trusting(t, dir, 1).allows(ferryman.State{Accepted: acceptedBy(t, raw, 1)}, start)
	}
	for i, test := range []struct {
		raw  []byte
		want string
	}{
		{envelope(gen7, 1), ""},
		{envelope(gen6, 1), "generation 6 is older than 7"},
		{envelope(strings.Replace(gen7, "nodes: 3", "nodes: 1", 1), 1), "generation 7 was verified here before with other content"},
		{envelope("# again\n"+gen7, 1), ""},
		{envelope(gen8, 1), ""},
		{envelope(gen7, 1), "generation 7 is older than 8"},
	} {
		if err := allows(test.raw); test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%d: got %v, want %q", i, err, test.want)
		}
	}
	// The release of generation 7 is that to which a rollout of 8 goes back.
	back := ferryman.Step{Op: ferryman.OpStage, Args: ferryman.Args{Engine: "fake", Version: "2",
		Release: &ferryman.Release{Archive: &ferryman.Archive{SHA256: strings.Repeat("2", 64)}}}}
	if err := trusting(t, dir, 1).allows(ferryman.State{Accepted: acceptedBy(t, envelope(gen8, 1), 1)}, back); err != nil {
		t.Errorf("the release of an earlier document: %v", err)
	}

	if err := os.WriteFile(filepath.Join(dir, trustFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.DataDir, cfg.Source.TrustedKeys = dir, trustedFile(t)
	if _, err := openTrust(cfg, "orders-0123"); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a record that cannot be read: got %v, want a refusal to start", err)
	}
}

func trustedFile(t *testing.T) []string {
	t.Helper()
	pem, err := trustedKey(1).Public().PEM()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.pub")
	if err := os.WriteFile(path, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{path}
}

// A disk that does not take the mark holds the step back, and is asked again.
func TestWhatCannotBeWrittenDownIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	tr := trusting(t, dir, 1)
	s, start := ferryman.State{Accepted: acceptedBy(t, envelope(gen7, 1), 1)}, ferryman.Step{Op: ferryman.OpStart}
	if err := tr.allows(s, start); err == nil || !strings.Contains(err.Error(), "write down") {
		t.Errorf("without a directory: got %v, want that it is not written down", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tr.allows(s, start); err != nil {
		t.Errorf("with one: %v", err)
	}
}

func TestALeaderParses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		keys []byte
		raw  []byte
		want string
	}{
		"unsigned without keys":           {nil, []byte(gen7), ""},
		"signed without keys":             {nil, envelope(gen7, 1), "this node has no key to verify it with; set source.trusted_keys here and on every other node"},
		"signed":                          {[]byte{1, 2}, envelope(gen7, 2), ""},
		"unsigned":                        {[]byte{1}, []byte(gen7), "the document is not signed"},
		"expired, for the state to judge": {[]byte{1}, envelope(gen7+"expires: 2001-01-01T00:00:00Z\n", 1), ""},
	} {
		a, err := trusting(t, t.TempDir(), test.keys...).parse(test.raw)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q", name, err, test.want)
			}
			continue
		}
		if err != nil || a.Document.Generation != 7 || a.Digest != source.Digest(a.Document) || (len(a.Envelope) > 0) != (len(test.keys) > 0) {
			t.Errorf("%s: got %+v, %v", name, a, err)
		}
	}
}

// Signatures replace each other as long as they become more, so that no source
// can have them committed again and again.
func TestSignaturesAreRenewed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		keys     []byte // of the leader
		old, now []byte // who signed
		want     bool
	}{
		"the first signature": {[]byte{1}, nil, []byte{1}, true},
		"the same":            {[]byte{1}, []byte{1}, []byte{1}, false},
		"one more":            {[]byte{1, 2}, []byte{1}, []byte{1, 2}, true},
		"one less":            {[]byte{1, 2}, []byte{1, 2}, []byte{2}, false},
		"the other":           {[]byte{1, 2}, []byte{1}, []byte{2}, false},
		"the old one revoked": {[]byte{2}, []byte{1}, []byte{2}, true},
		"a stranger's":        {[]byte{1}, []byte{1}, []byte{1, 9}, false},
		"without keys":        {nil, []byte{1}, []byte{1, 2}, false},
		"not signed":          {[]byte{1}, []byte{1}, nil, false},
	} {
		of := func(by []byte) (a ferryman.Accepted) {
			if len(by) > 0 {
				a.Envelope = envelope(gen7, by...)
			}
			return a
		}
		if got := trusting(t, t.TempDir(), test.keys...).renews(of(test.old), of(test.now)); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// The largest document and its envelope fit in one entry of the log.
func TestTheLargestSignedDocumentIsCommitted(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString(gen7 + "database:\n  parameters:\n    a: \"")
	text.WriteString(strings.Repeat("<", 20<<10)) // six bytes each as JSON
	text.WriteString("\"\n# ")
	text.WriteString(strings.Repeat("x", source.MaxDocument-text.Len()))
	keys := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	a := acceptedBy(t, envelope(text.String(), keys...), keys...)
	data, err := state.Encode(ferryman.State{}, state.Command{At: time.Now(), Accept: a})
	if err != nil || len(data) > cluster.MaxEntry {
		t.Errorf("%d bytes, %v; at most %d fit", len(data), err, cluster.MaxEntry)
	}
	t.Logf("%d of %d bytes", len(data), cluster.MaxEntry)
}
