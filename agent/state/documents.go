package state

import (
	"bytes"

	"ferryman"
)

// accept puts a document in force, or says why the one before stays.
func (a *applier) accept(n ferryman.Accepted) error {
	old := a.s.Accepted
	d := n.Document
	if old != nil && old.Digest == n.Digest {
		return a.signedAnew(*old, n)
	}
	if d.Cluster != "" && d.Cluster != ferryman.ClusterName(a.s.Cluster) && d.Cluster != a.s.Cluster {
		return refuse("it is meant for cluster %s; this is %s", d.Cluster, ferryman.ClusterName(a.s.Cluster))
	}
	if !d.Expires.IsZero() && !a.at.Before(d.Expires) {
		return refuse("it expired at %s", d.Expires.Format("2006-01-02 15:04:05 MST"))
	}
	if err := a.generation(&n, old); err != nil {
		return err
	}
	if old != nil {
		if err := follows(d, old.Document); err != nil {
			return err
		}
	}
	if err := a.wayBack(n); err != nil {
		return err
	}
	for key, r := range d.Releases {
		for part, k := range a.s.Complete {
			if k.Release.Digest() != "" && key == ferryman.ReleaseKey(a.engine(part), k.Target.Version) && k.Release.Digest() != r.Digest() {
				return refuse("release %s has another digest than the one that was rolled out; a version's digest never changes", key)
			}
		}
	}
	n.At = a.at
	a.s.Accepted, a.s.Refused = &n, nil
	a.event("document", "", 0, false, "generation %d was accepted", n.Document.Generation)
	if a.s.Stale() && a.s.Rollout.Supersedable() {
		a.open()
	}
	return nil
}

// signedAnew takes other signatures of what is in force: after a rotation of
// keys, or where there were none. Nothing else changes.
func (a *applier) signedAnew(old, n ferryman.Accepted) error {
	if len(n.Envelope) == 0 || bytes.Equal(old.Envelope, n.Envelope) {
		return refuse("it is in force already")
	}
	old.Envelope = n.Envelope
	a.s.Accepted, a.s.Refused = &old, nil
	a.event("document", "", 0, false, "generation %d, which is in force, was signed anew", old.Document.Generation)
	return nil
}

// wayBack wants a signed document to list the release that a failed rollout
// goes back to: a node that joins in the middle installs nothing that the
// document it can verify does not name.
func (a *applier) wayBack(n ferryman.Accepted) error {
	for _, part := range ferryman.Parts {
		k := a.s.Complete[part]
		if len(n.Envelope) == 0 || k.Release.Digest() == "" {
			continue
		}
		key := ferryman.ReleaseKey(a.engine(part), k.Target.Version)
		if _, ok := n.Document.Releases[key]; !ok {
			return refuse("it does not list releases[%s], to which a failed rollout would go back; a signed document has to, as nothing else is installed", key)
		}
	}
	return nil
}

// generation judges the document's place in the line; the minimal form gets
// the next number, until a document with a generation was accepted once.
func (a *applier) generation(n *ferryman.Accepted, old *ferryman.Accepted) error {
	g := n.Document.Generation
	switch {
	case g == 0 && (old == nil || old.Implicit):
		n.Implicit = true
		n.Document.Generation = 1
		if old != nil {
			n.Document.Generation = old.Document.Generation + 1
		}
	case g == 0:
		return refuse("it has no generation, but generation %d was accepted before; add generation: %d", old.Document.Generation, old.Document.Generation+1)
	case old == nil || old.Implicit: // the user's own numbers begin where the user wants
	case g < old.Document.Generation:
		return refuse("generation %d is older than %d, which is in force", g, old.Document.Generation)
	case g == old.Document.Generation:
		return refuse("generation %d is in force with other content; raise the generation", g)
	}
	return nil
}

// follows says whether d may come after old.
func follows(d, old ferryman.Document) error {
	if old.Database.Engine != "" && d.Database.Engine != old.Database.Engine {
		return refuse("database.engine changes from %s to %q; a cluster keeps its engine", old.Database.Engine, d.Database.Engine)
	}
	if old.Database.Version != "" && d.Database.Version == "" {
		return refuse("database.version is missing, but %s is in force", old.Database.Version)
	}
	if d.Database.RestartGeneration < old.Database.RestartGeneration {
		return refuse("database.restartGeneration goes from %d back to %d", old.Database.RestartGeneration, d.Database.RestartGeneration)
	}
	if d.Agent.RestartGeneration < old.Agent.RestartGeneration {
		return refuse("agent.restartGeneration goes from %d back to %d", old.Agent.RestartGeneration, d.Agent.RestartGeneration)
	}
	if d.Nodes*2 < old.Nodes && d.ConfirmShrink != d.Nodes {
		return refuse("nodes goes from %d to %d, less than half; add confirmShrink: %d if that is meant", old.Nodes, d.Nodes, d.Nodes)
	}
	for key, r := range d.Releases {
		if o, ok := old.Releases[key]; ok && o.Digest() != r.Digest() {
			return refuse("release %s has another digest than before; a version's digest never changes", key)
		}
	}
	return nil
}

// refused remembers the newest document that was not accepted.
func (a *applier) refused(r ferryman.Refusal) {
	if old := a.s.Refused; old != nil && old.Digest == r.Digest && old.Reason == r.Reason {
		return
	}
	r.At = a.at
	a.s.Refused = &r
	a.event("document", "", 0, true, "a document was refused: %s", r.Reason)
}
