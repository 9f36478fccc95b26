package source

import (
	"slices"

	"ferryman"
)

// Memory is what a verifier remembers of the documents that it verified. It is
// written down before anything is done for a document.
type Memory struct {
	Mark
	// Releases are the bindings of releases that any of them named, newest last: a
	// failed rollout goes back to one that the newest need not name.
	Releases []string `json:"releases,omitempty"`
}

// keepReleases is how many of them are remembered.
const keepReleases = 256

// With is the memory once d was verified, as mark.
func (m Memory) With(d ferryman.Document, mark Mark) Memory {
	next := Memory{Mark: mark, Releases: slices.Clone(m.Releases)}
	for key, r := range d.Releases {
		if b := ferryman.Binding(key, r); !slices.Contains(next.Releases, b) {
			next.Releases = append(next.Releases, b)
		}
	}
	if extra := len(next.Releases) - keepReleases; extra > 0 {
		next.Releases = next.Releases[extra:]
	}
	return next
}

// Names tells whether a document that was verified binds the release to its key.
func (m Memory) Names(key string, r ferryman.Release) bool {
	return slices.Contains(m.Releases, ferryman.Binding(key, r))
}

// Equal tells whether two memories are the same.
func (m Memory) Equal(o Memory) bool {
	return m.Mark == o.Mark && slices.Equal(m.Releases, o.Releases)
}
