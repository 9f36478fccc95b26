package source

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"ferryman"
)

// PayloadType is what an envelope says of its content when that is a
// desired-state document, in YAML or JSON. It is signed with the content: what
// was signed for another purpose is no document.
const PayloadType = "application/vnd.ferryman.desired-state+yaml"

// MaxEnvelope is the size of the largest envelope that is read, in bytes: the
// largest document in base64, and its signatures.
const MaxEnvelope = 96 << 10

// maxSignatures bounds what is verified, and with it the time that it takes.
const maxSignatures = 16

// Envelope is a signed document, as DSSE has it (https://github.com/secure-systems-lab/dsse).
type Envelope struct {
	Type       string
	Payload    []byte
	Signatures []Signature
}

// Signature is by one key. Its KeyID is a hint from whoever made the envelope:
// messages name it, and nothing is decided by it.
type Signature struct {
	KeyID string
	Sig   []byte
}

// The envelope's JSON; a pointer tells what is missing.
type (
	wireEnvelope struct {
		Payload    *string         `json:"payload"`
		Type       *string         `json:"payloadType"`
		Signatures []wireSignature `json:"signatures"`
	}
	wireSignature struct {
		KeyID string `json:"keyid,omitempty"`
		Sig   string `json:"sig"`
	}
)

// Signed tells whether raw looks like an envelope rather than a document: no
// document has its keys.
func Signed(raw []byte) bool {
	var keys map[string]json.RawMessage
	if json.Unmarshal(raw, &keys) != nil {
		return false
	}
	for _, key := range []string{"payload", "payloadType", "signatures"} {
		if _, ok := keys[key]; ok {
			return true
		}
	}
	return false
}

// ParseEnvelope reads an envelope. It verifies nothing: see Keys.
func ParseEnvelope(raw []byte) (Envelope, error) {
	fail := func(format string, args ...any) (Envelope, error) {
		return Envelope{}, fmt.Errorf("%w: it is no DSSE envelope: %s", ferryman.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if len(raw) > MaxEnvelope {
		return fail("it is %d bytes long; at most %d are read", len(raw), MaxEnvelope)
	}
	var w wireEnvelope
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&w); err != nil {
		return fail("%s", short(err.Error()))
	}
	if _, err := d.Token(); err != io.EOF {
		return fail("something follows its end")
	}
	switch {
	case w.Payload == nil:
		return fail("payload is missing")
	case w.Type == nil:
		return fail("payloadType is missing")
	case len(w.Signatures) > maxSignatures:
		return fail("it has %d signatures; at most %d are read", len(w.Signatures), maxSignatures)
	}
	e := Envelope{Type: *w.Type}
	var err error
	if e.Payload, err = decodeBase64(*w.Payload); err != nil {
		return fail("payload is not base64")
	}
	for i, s := range w.Signatures {
		sig, err := decodeBase64(s.Sig)
		if err != nil || len(sig) == 0 {
			return fail("signatures[%d].sig is not base64", i)
		}
		e.Signatures = append(e.Signatures, Signature{KeyID: s.KeyID, Sig: sig})
	}
	return e, nil
}

// decodeBase64 reads both alphabets, as DSSE wants, but no line breaks and no
// bits that mean nothing.
func decodeBase64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	encoding := base64.StdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.URLEncoding
	}
	if !strings.HasSuffix(text, "=") && len(text)%4 != 0 {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	return encoding.Strict().DecodeString(text)
}

// Marshal writes the envelope as one line of JSON, always alike.
func (e Envelope) Marshal() []byte {
	payload := base64.StdEncoding.EncodeToString(e.Payload)
	w := wireEnvelope{Payload: &payload, Type: &e.Type, Signatures: []wireSignature{}}
	for _, s := range e.Signatures {
		w.Signatures = append(w.Signatures, wireSignature{KeyID: s.KeyID, Sig: base64.StdEncoding.EncodeToString(s.Sig)})
	}
	raw, err := json.Marshal(w)
	if err != nil {
		panic(fmt.Sprintf("source: an envelope cannot be written as JSON: %v", err)) // plain fields only
	}
	return raw
}

// Sign adds the key's signature, in the place of an earlier one of the same key.
func (e *Envelope) Sign(key PrivateKey) {
	id := key.Public().ID
	e.Signatures = slices.DeleteFunc(slices.Clone(e.Signatures), func(s Signature) bool { return s.KeyID == id })
	e.Signatures = append(e.Signatures, Signature{KeyID: id, Sig: ed25519.Sign(key.key, e.signed())})
}

// signed is what is signed: DSSE's pre-authentication encoding of type and
// content, in which neither can be taken for a part of the other.
func (e Envelope) signed() []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.Type), e.Type, len(e.Payload), e.Payload)
}

// Read parses a document that may be in an envelope, whose signatures it does
// not check: it is for those who write documents or hand them on.
func Read(raw []byte, name string) (ferryman.Document, error) {
	if !Signed(raw) {
		return Parse(raw, name)
	}
	e, err := ParseEnvelope(raw)
	if err != nil {
		return ferryman.Document{}, Problem{Name: name, Reason: strings.TrimPrefix(err.Error(), ferryman.ErrInvalid.Error()+": ")}
	}
	return e.document(name)
}

// document reads the content, which must say what a signature is to bind: the
// cluster, or it would be good for every cluster that trusts the key, and a
// generation, or an older document could be put in force again.
func (e Envelope) document(name string) (ferryman.Document, error) {
	var c checker
	c.refuse(e.Type != PayloadType, "payloadType", "is %q; a desired state is %q", short(e.Type), PayloadType)
	if len(c.problems) > 0 {
		return ferryman.Document{}, named(c.problems, name)
	}
	d, err := Parse(e.Payload, name)
	if err != nil {
		return ferryman.Document{}, err
	}
	c.refuse(d.Cluster == "", "cluster", "is missing, and a signed document needs it: its signature would be good for every cluster that trusts the key")
	c.refuse(d.Generation == 0, "generation", "is missing, and a signed document needs it: an older document could be put in force again")
	if len(c.problems) > 0 {
		return ferryman.Document{}, named(c.problems, name)
	}
	return d, nil
}

func named(problems []Problem, name string) error {
	for i := range problems {
		problems[i].Name = name
	}
	return join(problems)
}
