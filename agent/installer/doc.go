// Package installer is what takes root to install a package: the agent asks for it, and a unit of root's judges by itself whether to do it.
//
// The agent has no right to install anything, and may be somebody else's by now. All that it can say is in the name of the unit that it starts,
// ferryman-install@<verb>-<id>.service: what is to be done, and an id of a release, which is a hash of its binding. Which package that is, root takes from
// the document that the agent wrote beside it: with trusted keys only from one that they signed, and that is no step behind any that root verified before;
// without, only a name on root's own list. What came of it is in a file that everybody may read.
package installer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"ferryman"
)

// The places that both sides know.
const (
	// RunDir is the agent's: it writes what it asks for there. Root owns the directory above, so that nobody can put another in its place.
	RunDir = "/run/ferryman"
	// StateDir is root's: its memory, what it keeps of packages, and how requests ended.
	StateDir = "/var/lib/ferryman-install"
	// List is the file with the names of packages that root installs where no keys are trusted, one a line.
	List = "/etc/ferryman/packages"
)

// KeepDir is where packages are kept below a state directory.
func KeepDir(state string) string { return filepath.Join(state, "kept") }

// Verb is what is asked for.
type Verb string

// To stage changes nothing but what is kept.
const (
	Stage  Verb = "stage"
	Switch Verb = "switch"
)

// Request is what the agent asks for.
type Request struct {
	Verb Verb
	id   string
}

// NewRequest asks for a release that is a package.
func NewRequest(verb Verb, key string, p ferryman.Package) Request {
	return Request{verb, idOf(ferryman.Binding(key, ferryman.Release{Package: &p}))}
}

// idOf is short enough for the name of a unit, and a hash, so that there is nothing to escape and nothing to be tricked by.
func idOf(binding string) string {
	sum := sha256.Sum256([]byte(binding))
	return hex.EncodeToString(sum[:])
}

var instance = regexp.MustCompile(`^(stage|switch)-([0-9a-f]{64})$`)

// ParseRequest reads the instance of a unit.
func ParseRequest(text string) (Request, error) {
	m := instance.FindStringSubmatch(text)
	if m == nil {
		return Request{}, fmt.Errorf("%w: %.100q is nothing that can be asked of the installer", ferryman.ErrInvalid, text)
	}
	return Request{Verb(m[1]), m[2]}, nil
}

// String is the instance of the unit.
func (r Request) String() string { return string(r.Verb) + "-" + r.id }

// Unit is the unit that carries it out.
func (r Request) Unit() string { return "ferryman-install@" + r.String() + ".service" }

func (r Request) document(run string) string {
	return filepath.Join(run, "install-"+r.String()+".json")
}
func (r Request) result(state string) string {
	return filepath.Join(state, "results", r.String()+".json")
}

// result is how a request ended.
type result struct {
	Error string    `json:"error,omitempty"` // empty when it ended well
	At    time.Time `json:"at"`
}
