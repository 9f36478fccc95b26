package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"ferryman"
	"ferryman/agent/config"
	"ferryman/agent/runner"
	"ferryman/agent/source"
)

// trustFile holds the newest document that this node verified, so that nobody
// can have it go back to an older one, signed as that may be.
const trustFile = "trust.json"

// trust is what this node believes of documents. With keys it verifies each by
// itself, whoever accepted it; without, it believes what is committed.
type trust struct {
	keys    source.Keys // read once, at the agent's start
	cluster string      // the certificate's, which no document and no leader can change
	path    string

	mu    sync.Mutex
	known source.Memory
	// judged is the accepted document that was looked at last, and err what came
	// of it. Records of the state never change, so that the pointer is enough.
	judged *ferryman.Accepted
	err    error
}

// openTrust reads the trusted keys, and what was verified before.
func openTrust(cfg config.Config, cluster string) (*trust, error) {
	keys, err := TrustedKeys(cfg.Source)
	if err != nil {
		return nil, err
	}
	t := &trust{keys: keys, cluster: cluster, path: filepath.Join(cfg.DataDir, trustFile)}
	if keys.None() {
		return t, nil
	}
	raw, err := runner.OpenFile(t.path).Load()
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &t.known)
	}
	if err != nil {
		return nil, fmt.Errorf("read which document this node verified last: %s: %w; restore it, or move it away: the node then takes any generation that the trusted keys signed", t.path, err)
	}
	return t, nil
}

// TrustedKeys are those of the configuration.
func TrustedKeys(cfg config.Source) (source.Keys, error) {
	keys, err := source.ReadKeys(cfg.TrustedKeys, cfg.Signatures)
	if err != nil {
		return source.Keys{}, fmt.Errorf("source.trusted_keys: %w", err)
	}
	return keys, nil
}

// errKeyless refuses a signed document where nothing can verify it. To take it
// unverified would make a signature look like a protection that it is not.
var errKeyless = fmt.Errorf("%w: the document is signed, and this node has no key to verify it with; set source.trusted_keys here and on every other node", source.ErrUntrusted)

// parse reads what the source gave, for this node as the leader. The digest is
// that of what the document says.
func (t *trust) parse(raw []byte) (ferryman.Accepted, error) {
	if t.keys.None() {
		if source.Signed(raw) {
			return ferryman.Accepted{}, errKeyless
		}
		d, err := source.Parse(raw, "desired state")
		if err != nil {
			return ferryman.Accepted{}, err
		}
		return ferryman.Accepted{Document: d, Digest: source.Digest(d)}, nil
	}
	t.mu.Lock()
	last := t.known.Mark
	t.mu.Unlock()
	d, mark, err := t.keys.Verify(raw, t.cluster, last)
	if err != nil {
		return ferryman.Accepted{}, err
	}
	e, err := source.ParseEnvelope(raw)
	if err != nil {
		return ferryman.Accepted{}, err
	}
	return ferryman.Accepted{Document: d, Digest: mark.Digest, Envelope: e.Marshal()}, nil
}

// renews tells whether the signatures of what was fetched are to replace those
// of the same document in force: they are by all trusted keys that signed it
// before, and by another. So they replace each other no more often than there
// are keys, whatever a source serves.
func (t *trust) renews(old, now ferryman.Accepted) bool {
	if t.keys.None() || len(now.Envelope) == 0 {
		return false
	}
	before, after := t.keys.Signers(old.Envelope), t.keys.Signers(now.Envelope)
	return len(after) > len(before) && !slices.ContainsFunc(before, func(id string) bool { return !slices.Contains(after, id) })
}

// allows says why this node does not carry a step out, on itself or as the
// leader for another, because the document behind it is not to be trusted.
//
// A fence is always carried out: it only takes writes away. So is its end, by
// which the recorded primary has again what it had, under the same epoch;
// otherwise a switchover that goes back would leave nobody to write. To admit a
// node, to give it a vote and to hand leadership over rests on certificates and
// not on a document. Nothing else gets by, not even what stops the database: a
// document that nobody signed could shrink the cluster by it.
func (t *trust) allows(s ferryman.State, st ferryman.Step) error {
	switch st.Op {
	case ferryman.OpFence, ferryman.OpUnfence, ferryman.OpAdmit, ferryman.OpVote, ferryman.OpTransfer:
		return nil
	}
	if t.keys.None() || s.Accepted == nil && st.Op.ByLeader() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.judge(s.Accepted); err != nil {
		return err
	}
	if accepted := s.Accepted.Document.Generation; st.Generation > accepted {
		return fmt.Errorf("%w: it was planned under generation %d, and %d is in force", source.ErrUntrusted, st.Generation, accepted)
	}
	if r := st.Args.Release; r != nil {
		if !t.known.Names(ferryman.ReleaseKey(st.Args.Engine, st.Args.Version), *r) {
			return fmt.Errorf("%w: no document that this node verified names the release %s with digest %s; list it under releases in the next one",
				source.ErrUntrusted, ferryman.ReleaseKey(st.Args.Engine, st.Args.Version), r.Digest())
		}
	}
	return nil
}

// judge verifies the accepted document, once. What it finds is written down
// before it counts. t.mu is held.
func (t *trust) judge(a *ferryman.Accepted) error {
	if a == nil {
		return fmt.Errorf("%w: no document was accepted yet", source.ErrUntrusted)
	}
	if a == t.judged {
		return t.err
	}
	next, err := t.verify(a)
	if err == nil && !next.Equal(t.known) {
		if err := t.save(next); err != nil {
			return err // the disk may be mended: look again
		}
		t.known = next
	}
	t.judged, t.err = a, err
	return err
}

func (t *trust) verify(a *ferryman.Accepted) (source.Memory, error) {
	fail := func(err error) (source.Memory, error) {
		return source.Memory{}, fmt.Errorf("the accepted document, generation %d: %w", a.Document.Generation, err)
	}
	if len(a.Envelope) == 0 {
		return fail(fmt.Errorf("%w: it is not signed, and source.trusted_keys of this node wants it to be; sign it with `ferryman desired sign` and publish it, also under the same generation", source.ErrUntrusted))
	}
	d, mark, err := t.keys.Verify(a.Envelope, t.cluster, t.known.Mark)
	if err != nil {
		return fail(err)
	}
	// What is planned on is what was decoded; it must be what was signed.
	if a.Digest != mark.Digest || source.Digest(a.Document) != mark.Digest {
		return fail(fmt.Errorf("%w: what is committed is another document than the one in its envelope", source.ErrUntrusted))
	}
	return t.known.With(d, mark), nil
}

func (t *trust) save(m source.Memory) error {
	raw, err := json.Marshal(m)
	if err == nil {
		err = runner.OpenFile(t.path).Save(append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write down which document this node verified: %w", err)
	}
	return nil
}

// look judges the document in force, and says what a person should know.
func (t *trust) look(s ferryman.State) string {
	switch {
	case s.Accepted == nil:
		return ""
	case t.keys.None() && len(s.Accepted.Envelope) > 0:
		return "documents are signed in this cluster, and this node has no source.trusted_keys: it verifies nothing, and as the leader takes no signed document; give it the keys that the other nodes have"
	case t.keys.None():
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.judge(s.Accepted); err != nil {
		return "this node carries out nothing: " + err.Error()
	}
	return ""
}
