package source_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"ferryman"
	"ferryman/agent/source"
)

// key is the same in every run: n makes it another one.
func key(n byte) source.PrivateKey { return source.KeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

func keys(t testing.TB, need int, of ...byte) source.Keys {
	t.Helper()
	var public []source.PublicKey
	for _, n := range of {
		public = append(public, key(n).Public())
	}
	k, err := source.NewKeys(need, public...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign puts text into an envelope that these keys signed.
func sign(text string, by ...byte) source.Envelope {
	e := source.Envelope{Type: source.PayloadType, Payload: []byte(text)}
	for _, n := range by {
		e.Sign(key(n))
	}
	return e
}

const orders7 = "cluster: orders\ngeneration: 7\nnodes: 3\n"

// The format cannot drift: what an earlier release signed stays good.
func TestTheGoldenEnvelope(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/golden.dsse.json")
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := source.ReadKeys([]string{"testdata/golden.pub"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	d, mark, err := trusted.Verify(golden, "orders-0123", source.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	want := "sha256:8ee31e4ef73199550fc5c0c0946c8af38d189c89dbc64237e37aba3b0e9d93d2"
	if d.Generation != 7 || mark.Digest != want {
		t.Errorf("got generation %d, digest %s; want 7, %s", d.Generation, mark.Digest, want)
	}
	if got := string(sign(orders7, 1).Marshal()) + "\n"; got != string(golden) {
		t.Errorf("signed again: got\n%s\nwant\n%s", got, golden)
	}
}

// The example of DSSE's own specification, so that other tools' envelopes are
// understood: what is signed is "DSSEv1 29 http://example.com/HelloWorld 11 hello world".
func TestWhatIsSignedIsThatOfDSSE(t *testing.T) {
	t.Parallel()
	e := source.Envelope{Type: "http://example.com/HelloWorld", Payload: []byte("hello world")}
	if got, want := string(source.PAE(e)), "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	one, two := keys(t, 1, 1), keys(t, 2, 1, 2, 3)
	good := sign(orders7, 1)
	seen := source.Mark{Generation: 7, Digest: digest(t, orders7)}
	change := func(e source.Envelope, f func(*source.Envelope)) source.Envelope {
		e.Payload, e.Signatures = slices.Clone(e.Payload), slices.Clone(e.Signatures)
		f(&e)
		return e
	}
	hint := func(id string) func(*source.Envelope) {
		return func(e *source.Envelope) { e.Signatures[0].KeyID = id }
	}
	for name, test := range map[string]struct {
		keys source.Keys
		raw  []byte
		last source.Mark
		want string // in the refusal; "" for a good one
	}{
		"good":                          {one, good.Marshal(), source.Mark{}, ""},
		"the same again":                {one, good.Marshal(), seen, ""},
		"the same content signed anew":  {one, sign("# a comment\n"+orders7, 1).Marshal(), seen, ""},
		"a newer one":                   {one, sign("cluster: orders-0123\ngeneration: 8\nnodes: 3", 1).Marshal(), seen, ""},
		"in JSON":                       {one, sign(`{"cluster":"orders","generation":7,"nodes":3}`, 1).Marshal(), seen, ""},
		"spread over lines":             {one, indent(t, good.Marshal()), seen, ""},
		"base64 for URLs":               {one, urlSafe(t, good.Marshal()), seen, ""},
		"with a signature of others":    {one, sign(orders7, 9, 1).Marshal(), seen, ""},
		"without hints":                 {one, change(good, hint("")).Marshal(), seen, ""},
		"with another tool's hint":      {one, change(good, hint("SHA256:abc")).Marshal(), seen, ""},
		"with the hint of another key":  {two, change(sign(orders7, 1, 2), hint(key(3).Public().ID)).Marshal(), seen, ""},
		"two of three":                  {two, sign(orders7, 3, 1).Marshal(), seen, ""},
		"rotated: signed by the newer":  {keys(t, 1, 1, 2), sign(orders7, 2).Marshal(), seen, ""},
		"not signed":                    {one, []byte(orders7), seen, "the document is not signed"},
		"not signed, garbage":           {one, []byte("\x00\xff{"), seen, "the document is not signed"},
		"empty":                         {one, nil, seen, "the document is not signed"},
		"an envelope in YAML":           {one, []byte("payload: eA==\npayloadType: x\nsignatures: []"), seen, "the document is not signed"},
		"signatures taken off":          {one, sign(orders7).Marshal(), seen, "it has no signature, and needs 1"},
		"by nobody who is trusted":      {one, sign(orders7, 2).Marshal(), seen, fmt.Sprintf("the key %q is not trusted", key(2).Public().ID[:16])},
		"by nobody, with a stolen hint": {one, change(sign(orders7, 2), hint(key(1).Public().ID)).Marshal(), seen, "does not fit the content"},
		"by nobody, without a hint":     {one, change(sign(orders7, 2), hint("")).Marshal(), seen, "without a key id is by none"},
		"one of two":                    {two, sign(orders7, 1).Marshal(), seen, "it has 1 of the 2 signatures by trusted keys that it needs"},
		"one of two, twice":             {two, change(sign(orders7, 1), func(e *source.Envelope) { e.Signatures = append(e.Signatures, e.Signatures[0]) }).Marshal(), seen, "it has 1 of the 2"},
		"one of two, under two names": {two, change(sign(orders7, 1, 1), func(e *source.Envelope) {
			e.Signatures = append(e.Signatures, source.Signature{KeyID: key(2).Public().ID, Sig: e.Signatures[0].Sig})
		}).Marshal(), seen, "it has 1 of the 2"},
		"a payload changed":                  {one, change(good, func(e *source.Envelope) { e.Payload[len(e.Payload)-2]++ }).Marshal(), seen, "does not fit the content, so one of them was changed"},
		"a payload swapped":                  {one, change(good, func(e *source.Envelope) { e.Payload = sign("cluster: orders\ngeneration: 8\nnodes: 1", 2).Payload }).Marshal(), seen, "does not fit the content"},
		"another type, signed as ours":       {one, change(good, func(e *source.Envelope) { e.Type = "application/x" }).Marshal(), seen, "does not fit the content"},
		"another type, signed as that":       {one, other("application/vnd.in-toto+json").Marshal(), seen, `payloadType: is "application/vnd.in-toto+json"; a desired state is`},
		"for another cluster":                {one, sign("cluster: billing\ngeneration: 8\nnodes: 3", 1).Marshal(), seen, "it is meant for cluster billing; this is orders"},
		"for another cluster of that name":   {one, sign("cluster: orders-9999\ngeneration: 8\nnodes: 3", 1).Marshal(), seen, "it is meant for cluster orders-9999"},
		"for any cluster":                    {one, sign("generation: 8\nnodes: 3", 1).Marshal(), seen, "cluster: is missing, and a signed document needs it"},
		"without a generation":               {one, sign("cluster: orders\nnodes: 3", 1).Marshal(), seen, "generation: is missing, and a signed document needs it"},
		"the minimal form":                   {one, sign(`{"NumberReplicas": 3}`, 1).Marshal(), seen, "generation: is missing"},
		"an older generation":                {one, sign("cluster: orders\ngeneration: 6\nnodes: 3", 1).Marshal(), seen, "generation 6 is older than 7, which was verified here before"},
		"the same generation, other content": {one, sign("cluster: orders\ngeneration: 7\nnodes: 4", 1).Marshal(), seen, "generation 7 was verified here before with other content"},
		"signed nonsense":                    {one, sign("cluster: orders\ngeneration: 8\nnodes: -3\ncolour: red", 1).Marshal(), seen, "desired state:4: colour: unknown key"},
		"an envelope in an envelope":         {one, sign(string(good.Marshal()), 1).Marshal(), seen, "payload: unknown key"},
		"no keys":                            {source.Keys{}, good.Marshal(), seen, "no key is trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, mark, err := test.keys.Verify(test.raw, "orders-0123", test.last)
			if test.want == "" {
				if err != nil || d.Nodes != 3 || mark.Generation != d.Generation || mark.Digest != source.Digest(d) {
					t.Errorf("got %+v, %+v, %v; want it to be good", d, mark, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || d.Nodes != 0 || mark != test.last {
				t.Errorf("got %+v, %+v, %v; want nothing, the mark as it was, and %q", d, mark, err, test.want)
			}
			if !errors.Is(err, source.ErrUntrusted) && !errors.Is(err, ferryman.ErrInvalid) {
				t.Errorf("%v is neither ErrUntrusted nor ErrInvalid", err)
			}
		})
	}
}

func other(payloadType string) source.Envelope {
	e := source.Envelope{Type: payloadType, Payload: []byte(orders7)}
	e.Sign(key(1))
	return e
}

func digest(t *testing.T, text string) string {
	t.Helper()
	d, err := source.Parse([]byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	return source.Digest(d)
}

func indent(t *testing.T, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "\t", "  "); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// urlSafe writes an envelope in the other alphabet, without padding.
func urlSafe(t *testing.T, raw []byte) []byte {
	t.Helper()
	e, err := source.ParseEnvelope(raw)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Appendf(nil, `{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}],"more":1}`, encode(e.Payload), e.Type, encode(e.Signatures[0].Sig))
}

func TestParseEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`:                                 "payload is missing",
		`{"payload":"eA=="}`:                 "payloadType is missing",
		`{"payload":null,"payloadType":"x"}`: "payload is missing",
		`{"payload":"eA","payloadType":"x","signatures":[]} {}`:                "something follows its end",
		`{"payload":"e A=","payloadType":"x"}`:                                 "payload is not base64",
		`{"payload":"eB==","payloadType":"x"}`:                                 "payload is not base64", // bits that mean nothing
		`{"payload":"eA==\n","payloadType":"x"}`:                               "payload is not base64",
		`{"payload":"eA==","payloadType":"x","signatures":[{}]}`:               "signatures[0].sig is not base64",
		`{"payload":"eA==","payloadType":"x","signatures":[{"sig":"?"}]}`:      "signatures[0].sig is not base64",
		`{"payload":"eA==","payloadType":7}`:                                   "cannot unmarshal number",
		`[`:                                                                    "unexpected EOF",
		`{"payload":"eA==","payloadType":"x","signatures":[` + many(17) + `]}`: "17 signatures; at most 16",
		`{"payload":"` + strings.Repeat("A", source.MaxEnvelope) + `"}`:        "bytes long; at most 98304 are read",
	} {
		_, err := source.ParseEnvelope([]byte(text))
		if !errors.Is(err, ferryman.ErrInvalid) || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.60s: got %v, want %q", text, err, want)
		}
	}
}

func many(n int) string {
	return strings.TrimSuffix(strings.Repeat(`{"sig":"eA=="},`, n), ",")
}

// The largest document fits in its envelope, with as many signatures as are read.
func TestTheLargestEnvelopeIsRead(t *testing.T) {
	t.Parallel()
	text := orders7 + "# "
	text += strings.Repeat("x", source.MaxDocument-len(text))
	raw := sign(text, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16).Marshal()
	if _, _, err := keys(t, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16).Verify(raw, "orders", source.Mark{}); err != nil {
		t.Errorf("%d bytes: %v", len(raw), err)
	}
}

func TestSigningAgainReplaces(t *testing.T) {
	t.Parallel()
	e := sign(orders7, 1, 2)
	e.Sign(key(1))
	if len(e.Signatures) != 2 || !slices.Equal(keys(t, 1, 1, 2).Signers(e.Marshal()), sorted(key(1), key(2))) {
		t.Errorf("got %d signatures, want one of each key", len(e.Signatures))
	}
}

func sorted(of ...source.PrivateKey) []string {
	var ids []string
	for _, k := range of {
		ids = append(ids, k.Public().ID)
	}
	slices.Sort(ids)
	return ids
}

func TestReadUnderstandsBoth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		orders7:                            "",
		string(sign(orders7).Marshal()):    "",
		string(sign(orders7, 1).Marshal()): "",
		string(sign("nodes: 3\ngeneration: 1", 1).Marshal()): "file: cluster: is missing",
		string(sign("nodes: 3\nclustr: x", 1).Marshal()):     "file:2: clustr: unknown key",
		`{"payload": "x"}`: "file: it is no DSSE envelope",
	} {
		d, err := source.Read([]byte(text), "file")
		if want == "" && (err != nil || d.Generation != 7) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %+v, %v; want %q", text, d, err, want)
		}
	}
}

// Whatever is served, nothing is good that a trusted key did not sign, errors
// are short, and what is good is so again as it is kept.
func FuzzEnvelope(f *testing.F) {
	trusted := keys(f, 1, 1)
	for _, e := range []source.Envelope{sign(orders7, 1), sign(orders7, 2), sign(orders7), other("x"), sign("nodes: [", 1)} {
		f.Add(e.Marshal())
	}
	for _, seed := range []string{"", "{}", orders7, `{"payload":"eA","payloadType":"","signatures":[{"keyid":"","sig":"eA"}]}`, `{"signatures":null}`} {
		f.Add([]byte(seed))
	}
	signed := string(sign(orders7, 1).Payload)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, parseErr := source.ParseEnvelope(raw)
		if parseErr == nil {
			again, err := source.ParseEnvelope(e.Marshal())
			if err != nil && len(e.Marshal()) <= source.MaxEnvelope {
				t.Fatalf("as it is kept: %v", err)
			}
			if err == nil && (again.Type != e.Type && strings.ToValidUTF8(e.Type, "") == e.Type || !bytes.Equal(again.Payload, e.Payload) || len(again.Signatures) != len(e.Signatures)) {
				t.Fatalf("as it is kept: got %+v, want %+v", again, e)
			}
		}
		d, _, err := trusted.Verify(raw, "orders", source.Mark{})
		if err != nil {
			if len(err.Error()) > 16<<10 {
				t.Fatalf("the error is %d bytes long", len(err.Error()))
			}
			return
		}
		if string(e.Payload) != signed {
			t.Fatalf("nobody signed this: %q", e.Payload)
		}
		if kept, _, err := trusted.Verify(e.Marshal(), "orders", source.Mark{Generation: 7, Digest: source.Digest(d)}); err != nil || kept.Generation != 7 {
			t.Fatalf("good, but not as it is kept: %v", err)
		}
	})
}
