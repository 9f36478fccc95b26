package agent_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/source"
)

func signingKey(n byte) source.PrivateKey { return source.KeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// trusts gives the host these keys, from its next start on.
func (h *host) trusts(keys ...byte) {
	h.lab.t.Helper()
	h.cfg.Source.TrustedKeys = nil
	for _, n := range keys {
		pem, err := signingKey(n).Public().PEM()
		if err != nil {
			h.lab.t.Fatal(err)
		}
		path := filepath.Join(h.lab.t.TempDir(), fmt.Sprintf("%d.pub", n))
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			h.lab.t.Fatal(err)
		}
		h.cfg.Source.TrustedKeys = append(h.cfg.Source.TrustedKeys, path)
	}
}

func (l *lab) trust(keys ...byte) {
	for _, h := range l.hosts {
		h.trusts(keys...)
	}
}

// restart starts the agents anew, one after the other.
func (l *lab) restart(hosts ...*host) {
	l.t.Helper()
	for _, h := range hosts {
		if err := h.stop(); err != nil {
			l.t.Fatalf("stop %s: %v", h.name, err)
		}
		h.start()
		l.until(h.name+" is back", 5*time.Minute, func(r ferryman.Report) bool {
			m, ok := member(r, h.name)
			return ok && m.Want == ferryman.WantActive && r.View.Nodes[m.ID].Reachable && r.View.Nodes[m.ID].CaughtUp
		})
	}
}

// wrap puts a document of cluster orders into an envelope.
func wrap(text string, keys ...byte) source.Envelope {
	e := source.Envelope{Type: source.PayloadType, Payload: []byte("cluster: orders\n" + text)}
	for _, n := range keys {
		e.Sign(signingKey(n))
	}
	return e
}

func signed(text string, keys ...byte) string { return string(wrap(text, keys...).Marshal()) }

func upgradeTo2(generation int) string {
	return fmt.Sprintf(`
generation: %d
nodes: 3
database: {engine: fake, version: "2.0"}
releases:
  fake/2.0: {archive: {url: "https://example.com/fake-2.0.tar.gz", sha256: "%s", size: 1}}
rollout: {canary: 0, minHealthy: 1s}
`, generation, strings.Repeat("2", 64))
}

// formSigned forms a cluster whose hosts trust keys, by a document of
// generation 1.
func (l *lab) formSigned(keys ...byte) (ferryman.Report, *host) {
	l.t.Helper()
	l.hosts["n1"].found()
	for _, h := range l.hosts {
		h.start()
	}
	l.doc.set(signed(document(len(l.hosts), 1, ""), keys...))
	return l.until("formed", 5*time.Minute, settled(len(l.hosts)))
}

func upgraded(r ferryman.Report) bool {
	if !settled(3)(r) {
		return false
	}
	for _, v := range r.View.Nodes {
		if v.Status.Services[0].Instance.Version != "2.0" {
			return false
		}
	}
	return true
}

// The api-server is the attacker's, who has every document that was ever
// signed and no key. It can hold updates back, and nothing else.
func TestACompromisedApiServerOnlyHoldsUpdatesBack(t *testing.T) {
	inLab(t, 31, three, func(t *testing.T, l *lab) {
		l.trust(1, 2)
		l.formSigned(1)
		first := signed(document(3, 1, ""), 1)
		l.doc.set(signed(document(3, 2, "  restartGeneration: 1"), 1))
		before, _ := l.until("restarted", 10*time.Minute, func(r ferryman.Report) bool {
			return settled(3)(r) && r.State.Rollout.Generation == 2
		})
		current := signed(document(3, 2, "  restartGeneration: 1"), 1)
		otherCluster := source.Envelope{Type: source.PayloadType, Payload: []byte("cluster: billing\n" + upgradeTo2(9))}
		otherCluster.Sign(signingKey(1))
		otherType := source.Envelope{Type: "application/vnd.in-toto+json", Payload: wrap(upgradeTo2(9)).Payload}
		otherType.Sign(signingKey(1))
		swapped := wrap(upgradeTo2(9))
		swapped.Signatures = wrap(document(3, 2, "  restartGeneration: 1"), 1).Signatures
		stolen := wrap(upgradeTo2(9), 9) // a key of the attacker's own, under a good name
		stolen.Signatures[0].KeyID = signingKey(1).Public().ID
		expired := signed(strings.Replace(upgradeTo2(9), "nodes:", "expires: 2000-01-01T00:00:00Z\nnodes:", 1), 1)

		attacks := []struct{ serves, told string }{
			{upgradeTo2(9), "the document is not signed"},
			{`{"NumberReplicas": 1}`, "the document is not signed"},
			{"\x00garbage", "the document is not signed"},
			{current[:len(current)/2], "the document is not signed"},
			{first, "generation 1 is older than 2"},
			{string(wrap(upgradeTo2(9)).Marshal()), "it has no signature, and needs 1"},
			{string(swapped.Marshal()), "does not fit the content"},
			{string(stolen.Marshal()), "does not fit the content"},
			{signed(upgradeTo2(9), 9), "is not trusted"},
			{string(otherCluster.Marshal()), "meant for cluster billing"},
			{string(otherType.Marshal()), "a desired state is"},
			{strings.Replace(current, "payloadType", "payloadtype2", 1), "payloadType is missing"},
			{expired, "it expired at 2000-01-01"},
		}
		began := time.Now()
		for _, a := range attacks {
			l.doc.set(a.serves)
			r, _ := l.until("refused: "+a.told, 2*time.Minute, func(r ferryman.Report) bool {
				return r.State.Refused != nil && strings.Contains(r.State.Refused.Reason, a.told)
			})
			if e := r.State.Events[len(r.State.Events)-1]; e.Kind != "document" || !e.Bad || !strings.Contains(e.Text, a.told) {
				t.Errorf("the newest event is %+v, want a bad one that says %q", e, a.told)
			}
		}
		// Now all of it at random, faster than anybody reads, and good ones in between.
		rng := rand.New(rand.NewPCG(31, 1))
		for range 2000 {
			switch n := rng.IntN(len(attacks) + 3); {
			case n < len(attacks):
				l.doc.set(attacks[n].serves)
			case n == len(attacks):
				l.doc.set(current)
			case n == len(attacks)+1: // the same, by junk beside the signature
				e := wrap(document(3, 2, "  restartGeneration: 1"), 1, byte(3+rng.IntN(200)))
				l.doc.set(string(e.Marshal()))
			default:
				raw := []byte(current)
				raw[rng.IntN(len(raw))] ^= byte(1 << rng.IntN(8))
				l.doc.set(string(raw))
			}
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
			l.holds()
		}
		after, _ := l.until("calm", time.Minute, settled(3))
		if after.State.LastStep != before.State.LastStep || after.State.Primary != before.State.Primary || len(after.State.Members) != 3 {
			t.Errorf("something was done: %d steps before and %d now\n%s", before.State.LastStep, after.State.LastStep, describe(after, true))
		}
		if got, most := after.State.LastEvent-before.State.LastEvent, uint64(time.Since(began)/(10*time.Second))+2; got < uint64(len(attacks))/2 || got > most {
			t.Errorf("%d events, want one for what is new, and at most %d", got, most)
		}
		if a := after.State.Accepted; a.Document.Generation != 2 || a.Digest != before.State.Accepted.Digest || !bytes.Equal(a.Envelope, before.State.Accepted.Envelope) {
			t.Errorf("accepted = %+v, want what was signed", a)
		}
		for name, h := range l.hosts {
			if got := h.releases.Stages(); got != 0 {
				t.Errorf("%s staged %d releases", name, got)
			}
		}
		// And who holds the key is still heard.
		l.doc.set(signed(strings.Replace(upgradeTo2(3), `"2.0"}`, `"2.0", restartGeneration: 1}`, 1), 2))
		l.until("upgraded", 10*time.Minute, upgraded)
	})
}

// The leader was started without keys, and takes what nobody signed. Nodes that
// have keys carry none of it out, and say so.
func TestALeaderWithoutKeysMovesNoNodeThatHasThem(t *testing.T) {
	inLab(t, 32, three, func(t *testing.T, l *lab) {
		l.trust(1)
		before, leader := l.formSigned(1)
		leader.trusts()
		// Only this one is to lead: the others cannot, while it is away.
		if err := leader.stop(); err != nil {
			t.Fatal(err)
		}
		leader.start()
		_, now := l.until("whole again", 5*time.Minute, settled(3))
		if now != leader {
			l.lead(leader)
		}
		starts := map[string]int{}
		for name, h := range l.hosts {
			starts[name] = h.units.Starts("db")
		}

		l.doc.set(upgradeTo2(2))
		said := func(r ferryman.Report) bool {
			told := 0
			for _, v := range r.View.Nodes {
				for _, p := range v.Status.Problems {
					if strings.Contains(p, "this node carries out nothing: the accepted document, generation 2: not trusted: it is not signed") {
						told++
					}
				}
			}
			for _, w := range r.Decision.Waits {
				if w.Code == "step-refused" && strings.Contains(w.Reason, "it is not signed") {
					return told == 2
				}
			}
			return false
		}
		l.until("told by two nodes and by the leader", 2*time.Minute, said)
		time.Sleep(30 * time.Minute)
		after, _, _ := l.report()
		for name, h := range l.hosts {
			if h == leader {
				continue
			}
			if got := h.releases.Stages(); got != 0 || h.units.Starts("db") != starts[name] {
				t.Errorf("%s staged %d releases and started its database %d times, want 0 and %d", name, got, h.units.Starts("db"), starts[name])
			}
			if in, err := h.db.Status(t.Context()); err != nil || !in.Healthy || in.Version == "2.0" {
				t.Errorf("the database of %s: %+v, %v", name, in, err)
			}
		}
		if after.State.Primary.Epoch != before.State.Primary.Epoch || len(after.State.Members) != 3 {
			t.Errorf("the primary or the members are others\n%s", describe(after, true))
		}

		// Its keys, and a document that is signed, end it.
		l.doc.set(signed(upgradeTo2(3), 1))
		leader.trusts(1)
		l.restart(leader)
		l.until("upgraded", time.Hour, upgraded)
	})
}

// lead has a host lead: the others are cut off until it does.
func (l *lab) lead(h *host) {
	l.t.Helper()
	for range 20 {
		_, now, ok := l.report()
		if ok && now == h {
			return
		}
		if ok {
			l.links.Isolate(now.cfg.Node.Address)
			l.until("another leader", time.Minute, func(r ferryman.Report) bool { return true })
			time.Sleep(10 * time.Second)
			l.links.Rejoin(now.cfg.Node.Address)
		}
		time.Sleep(10 * time.Second)
	}
	l.t.Fatalf("%s does not come to lead", h.name)
}

// Documents become signed, and the key is replaced, while the cluster runs: the
// same content under the same generation gets other signatures.
func TestKeysAreIntroducedAndRotated(t *testing.T) {
	inLab(t, 33, three, func(t *testing.T, l *lab) {
		text := document(3, 1, "")
		l.hosts["n1"].found()
		for _, h := range l.hosts {
			h.start()
		}
		l.doc.set("cluster: orders\n" + text)
		before, _ := l.until("formed", 5*time.Minute, settled(3))
		all := []*host{l.hosts["n1"], l.hosts["n2"], l.hosts["n3"]}
		by := func(keys ...byte) func(ferryman.Report) bool {
			return func(r ferryman.Report) bool {
				if string(r.State.Accepted.Envelope) != signed(text, keys...) || !settled(3)(r) {
					return false
				}
				for _, v := range r.View.Nodes {
					if len(v.Status.Problems) > 0 {
						return false
					}
				}
				return true
			}
		}

		l.doc.set(signed(text, 1))
		l.until("refused where there are no keys", time.Minute, func(r ferryman.Report) bool {
			return r.State.Refused != nil && strings.Contains(r.State.Refused.Reason, "set source.trusted_keys")
		})
		l.trust(1)
		l.restart(all...)
		l.until("signed by 1", 5*time.Minute, by(1))

		l.trust(1, 2)
		l.restart(all...)
		l.doc.set(signed(text, 1, 2))
		l.until("signed by 1 and 2", 5*time.Minute, by(1, 2))
		l.trust(2)
		l.restart(all...)
		l.until("still good", 5*time.Minute, by(1, 2))

		l.doc.set(signed(upgradeTo2(2), 1))
		l.until("the old key is refused", 5*time.Minute, func(r ferryman.Report) bool {
			return r.State.Refused != nil && strings.Contains(r.State.Refused.Reason, "is not trusted")
		})
		after, _, _ := l.report()
		if after.State.Primary != before.State.Primary {
			t.Errorf("to change keys moved the primary\n%s", describe(after, true))
		}
		for name, h := range l.hosts {
			if got := h.units.Starts("db"); got != 1 {
				t.Errorf("the database of %s was started %d times, want 1", name, got)
			}
		}
		l.doc.set(signed(upgradeTo2(2), 2))
		l.until("upgraded", 10*time.Minute, upgraded)
	})
}
