package source

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ferryman"
)

// ErrUntrusted means that a document's signatures are not what the trusted keys
// want, or that it is not the one that may come next.
var ErrUntrusted = errors.New("not trusted")

// maxKeys bounds what is verified.
const maxKeys = 32

// Keys are trusted, so many of them together. The zero value has none: then
// documents come without envelopes.
type Keys struct {
	keys []PublicKey
	need int
}

// NewKeys trusts what need of these keys signed.
func NewKeys(need int, keys ...PublicKey) (Keys, error) {
	for i, k := range keys {
		if j := slices.IndexFunc(keys[:i], func(o PublicKey) bool { return o.ID == k.ID }); j >= 0 {
			return Keys{}, fmt.Errorf("%w: %s and %s are the same key; remove one of them", ferryman.ErrInvalid, keys[j], k)
		}
	}
	switch {
	case len(keys) > maxKeys:
		return Keys{}, fmt.Errorf("%w: %d keys are trusted; at most %d may be", ferryman.ErrInvalid, len(keys), maxKeys)
	case need < 1 || need > len(keys):
		return Keys{}, fmt.Errorf("%w: %d signatures are wanted, of %d trusted keys; from 1 to %d can be", ferryman.ErrInvalid, need, len(keys), len(keys))
	}
	return Keys{keys: slices.Clone(keys), need: need}, nil
}

// ReadKeys reads trusted keys from files, and from directories all that end in
// .pub. Without paths there are none.
func ReadKeys(paths []string, need int) (Keys, error) {
	if len(paths) == 0 {
		return Keys{}, nil
	}
	var keys []PublicKey
	for _, path := range paths {
		files, err := KeyFiles(path)
		if err != nil {
			return Keys{}, err
		}
		for _, file := range files {
			key, err := ReadPublicKey(file)
			if err != nil {
				return Keys{}, err
			}
			keys = append(keys, key)
		}
	}
	return NewKeys(need, keys...)
}

// KeyFiles are the files that a path of a trusted key stands for.
func KeyFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the trusted keys: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("read the trusted keys: %w", err)
	}
	var files []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".pub" {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: the directory %s holds no key: no file whose name ends in .pub", ferryman.ErrInvalid, path)
	}
	return files, nil
}

// None tells that nothing is trusted, because nothing needs to be.
func (k Keys) None() bool { return len(k.keys) == 0 }

// Signers are the trusted keys with a good signature in the envelope, by id.
func (k Keys) Signers(raw []byte) []string {
	e, err := ParseEnvelope(raw)
	if err != nil {
		return nil
	}
	signers, _ := k.signers(e)
	return signers
}

// signers verifies every signature with every key, whatever its hint says. It
// returns the keys that signed, each once, and what is wrong with the other
// signatures.
func (k Keys) signers(e Envelope) (good, bad []string) {
	message := e.signed()
	for _, s := range e.Signatures {
		i := slices.IndexFunc(k.keys, func(key PublicKey) bool { return ed25519.Verify(key.key, message, s.Sig) })
		if i >= 0 {
			if !slices.Contains(good, k.keys[i].ID) {
				good = append(good, k.keys[i].ID)
			}
			continue
		}
		hint := slices.IndexFunc(k.keys, func(key PublicKey) bool { return key.ID == s.KeyID })
		switch {
		case hint >= 0:
			bad = append(bad, fmt.Sprintf("that of %s does not fit the content, so one of them was changed after it was signed", k.keys[hint]))
		case s.KeyID == "":
			bad = append(bad, "one without a key id is by none of the trusted keys")
		default:
			bad = append(bad, fmt.Sprintf("the key %q is not trusted", first(s.KeyID, shownID)))
		}
	}
	slices.Sort(good)
	slices.Sort(bad)
	return good, slices.Compact(bad)
}

func first(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}

// Open returns the document in an envelope that enough trusted keys signed, and
// who they are. It reads nothing of the content before it verified it.
func (k Keys) Open(raw []byte, name string) (ferryman.Document, []string, error) {
	fail := func(format string, args ...any) (ferryman.Document, []string, error) {
		return ferryman.Document{}, nil, fmt.Errorf("%w: %s", ErrUntrusted, fmt.Sprintf(format, args...))
	}
	if k.None() {
		return fail("no key is trusted, so that no signature says anything")
	}
	if !Signed(raw) {
		return fail("the document is not signed, and the trusted keys want it to be; sign it with `ferryman desired sign`")
	}
	e, err := ParseEnvelope(raw)
	if err != nil {
		return fail("%s", strings.TrimPrefix(err.Error(), ferryman.ErrInvalid.Error()+": "))
	}
	good, bad := k.signers(e)
	if len(good) < k.need {
		why := fmt.Sprintf("it has %d of the %d signatures by trusted keys that it needs", len(good), k.need)
		if len(e.Signatures) == 0 {
			why = fmt.Sprintf("it has no signature, and needs %d", k.need)
		}
		if extra := len(bad) - maxTold; extra > 0 {
			bad = append(bad[:maxTold:maxTold], fmt.Sprintf("and so on (%d more)", extra))
		}
		return fail("%s", strings.Join(append([]string{why}, bad...), "; "))
	}
	d, err := e.document(name)
	return d, good, err
}

// maxTold is how many signatures a message says something about.
const maxTold = 3

// Mark is the newest document that was verified somewhere, by its generation
// and what it says. It only moves on.
type Mark struct {
	Generation uint64 `json:"generation"`
	Digest     string `json:"digest"`
}

// Verify is what every node asks before it acts on a document, whoever accepted
// it, and what whoever acts with more rights asks again by itself: is it signed
// by enough trusted keys, meant for this cluster (its name, or its id), and no
// step back behind what this verifier has seen? It is a function of what it is
// given. Keep the mark that it returns, durably, before you act.
func (k Keys) Verify(raw []byte, cluster string, last Mark) (ferryman.Document, Mark, error) {
	fail := func(err error) (ferryman.Document, Mark, error) { return ferryman.Document{}, last, err }
	d, _, err := k.Open(raw, "desired state")
	if err != nil {
		return fail(err)
	}
	next := Mark{Generation: d.Generation, Digest: Digest(d)}
	switch {
	case d.Cluster != cluster && d.Cluster != ferryman.ClusterName(cluster):
		return fail(fmt.Errorf("%w: it is meant for cluster %s; this is %s", ErrUntrusted, d.Cluster, ferryman.ClusterName(cluster)))
	case next.Generation < last.Generation:
		return fail(fmt.Errorf("%w: generation %d is older than %d, which was verified here before", ErrUntrusted, next.Generation, last.Generation))
	case next.Generation == last.Generation && next.Digest != last.Digest:
		return fail(fmt.Errorf("%w: generation %d was verified here before with other content: somebody signed two documents as one; raise the generation",
			ErrUntrusted, next.Generation))
	}
	return d, next, nil
}
