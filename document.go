package ferryman

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// Document is the desired state that the user edits. Zero values mean that
// the user said nothing; WithDefaults fills in what the product then does.
type Document struct {
	// Cluster names the cluster the document is meant for; empty means any.
	Cluster string `json:"cluster,omitempty"`
	// Generation only grows. Zero is the minimal form without generations.
	Generation uint64 `json:"generation,omitempty"`
	// Expires is judged when the document is accepted, never afterwards.
	Expires time.Time `json:"expires,omitzero"`
	// Nodes is the number of nodes with services that the cluster shall have.
	Nodes int `json:"nodes"`
	// ConfirmShrink must equal Nodes when Nodes is less than half of what was
	// accepted before.
	ConfirmShrink int                `json:"confirmShrink,omitempty"`
	Database      Database           `json:"database,omitzero"`
	Agent         AgentSpec          `json:"agent,omitzero"`
	Releases      map[string]Release `json:"releases,omitempty"`
	Rollout       Policy             `json:"rollout,omitzero"`
	// Paused lets no further node be carried. The one under way is carried to its
	// end, and repairs of what is broken go on.
	Paused bool `json:"paused,omitempty"`
}

// Database is what the managed database shall be.
type Database struct {
	Engine            string            `json:"engine,omitempty"`
	Version           string            `json:"version,omitempty"`
	RestartGeneration uint64            `json:"restartGeneration,omitempty"`
	Parameters        map[string]string `json:"parameters,omitempty"`
	Failover          FailoverPolicy    `json:"failover,omitzero"`
	// Roles counts the services of each kind, for engines that have several.
	Roles map[string]RoleSpec `json:"roles,omitempty"`
}

// RoleSpec is how many services of one kind an engine shall have.
type RoleSpec struct {
	Count int `json:"count"`
}

// FailoverPolicy says what happens when the primary is lost.
type FailoverPolicy struct {
	Mode        FailoverMode `json:"mode,omitempty"`
	LeaseTTL    Duration     `json:"leaseTTL,omitempty"`
	MaxLagBytes Bytes        `json:"maxLagBytes,omitempty"`
}

// FailoverMode is manual or automatic.
type FailoverMode string

// The failover modes. In manual mode nothing is fenced or promoted on another
// node without a person or a rollout that asks for a switchover.
const (
	FailoverManual    FailoverMode = "manual"
	FailoverAutomatic FailoverMode = "automatic"
)

// AgentSpec is what the agents themselves shall be.
type AgentSpec struct {
	Version           string `json:"version,omitempty"`
	RestartGeneration uint64 `json:"restartGeneration,omitempty"`
}

// Release tells how one version is installed. Exactly one form is set.
type Release struct {
	Archive *Archive `json:"archive,omitempty"`
	Package *Package `json:"package,omitempty"`
}

// Archive is a tar.gz or tar.zst, bound by digest and size.
type Archive struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Package is an exact version in the host's package manager.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// What packages may be called, for apt and dnf alike: nothing that one of them
// could take for an option, a path, a pattern or another package.
var (
	packageName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]{1,99}$`)
	packageVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~^:_-]{0,99}$`)
)

// Check refuses what cannot be the name or the version of a package.
func (p Package) Check() error {
	switch {
	case !packageName.MatchString(p.Name):
		return fmt.Errorf("%w: %.100q is not the name of a package: 2 to 100 letters, digits and +._- that begin with a letter or digit", ErrInvalid, p.Name)
	case !packageVersion.MatchString(p.Version):
		return fmt.Errorf("%w: %.100q is not the version of a package: up to 100 letters, digits and .+~^:_- that begin with a letter or digit", ErrInvalid, p.Version)
	}
	return nil
}

// Digest identifies a release for quarantine: what is bound is refused, not
// the name it goes by.
func (r Release) Digest() string {
	switch {
	case r.Archive != nil:
		return "sha256:" + r.Archive.SHA256
	case r.Package != nil:
		return "package:" + r.Package.Name + "=" + r.Package.Version
	}
	return ""
}

// Binding is a release by its key, with what it is bound to: what a node
// remembers of documents that it verified, and what it asks root for.
func Binding(key string, r Release) string { return key + " " + r.Digest() }

// ReleaseKey is the key of a release in Document.Releases.
func ReleaseKey(engine, version string) string { return engine + "/" + version }

// AgentEngine is the engine name under which releases of the agent are listed.
const AgentEngine = "ferryman"

// Policy is how a rollout proceeds.
type Policy struct {
	MaxUnavailable int `json:"maxUnavailable,omitempty"`
	// Canary is how many nodes are carried before Bake is waited for.
	Canary *int     `json:"canary,omitempty"`
	Bake   Duration `json:"bake,omitempty"`
	// MinHealthy is how long a node must have been healthy before it counts.
	MinHealthy       Duration `json:"minHealthy,omitempty"`
	StepDeadline     Duration `json:"stepDeadline,omitempty"`
	ProgressDeadline Duration `json:"progressDeadline,omitempty"`
	// SwitchoverTimeout is how long a switchover may take in all.
	SwitchoverTimeout Duration `json:"switchoverTimeout,omitempty"`
	// WriteBudget is how long writes may be held up before a switchover that
	// has not reached its commit point goes back.
	WriteBudget     Duration        `json:"writeBudget,omitempty"`
	OnFailure       OnFailure       `json:"onFailure,omitempty"`
	Finalize        Finalize        `json:"finalize,omitempty"`
	KeepVersions    int             `json:"keepVersions,omitempty"`
	DemoteOnRestart DemoteOnRestart `json:"demoteOnRestart,omitempty"`
	// Windows are the times in which passages may begin; none means always.
	Windows []Window `json:"windows,omitempty"`
}

// OnFailure says what a failed rollout does.
type OnFailure string

// A failed rollout goes back to the last complete version, or stands still.
const (
	FailureRevert OnFailure = "revert"
	FailureHalt   OnFailure = "halt"
)

// Finalize says who ends a rollout whose nodes are all carried.
type Finalize string

// A finished rollout becomes the last complete one by itself, or when a person
// says `ferryman rollout continue`.
const (
	FinalizeAutomatic Finalize = "automatic"
	FinalizeManual    Finalize = "manual"
)

// DemoteOnRestart says when a voter is demoted around its agent's restart.
type DemoteOnRestart string

// By default a voter is demoted when three voters remain without it or a
// caught-up non-voter takes its seat.
const (
	DemoteSafe   DemoteOnRestart = "safe"
	DemoteAlways DemoteOnRestart = "always"
)

// The defaults of a Policy.
const (
	DefaultMaxUnavailable    = 1
	DefaultCanary            = 1
	DefaultBake              = Duration(60 * time.Second)
	DefaultMinHealthy        = Duration(10 * time.Second)
	DefaultStepDeadline      = Duration(10 * time.Minute)
	DefaultProgressDeadline  = Duration(20 * time.Minute)
	DefaultSwitchoverTimeout = Duration(60 * time.Second)
	DefaultWriteBudget       = Duration(5 * time.Second)
	DefaultKeepVersions      = 2
	DefaultLeaseTTL          = Duration(5 * time.Second)
	DefaultMaxLagBytes       = Bytes(1 << 20)
)

// WithDefaults returns d with every unset choice filled in.
func (d Document) WithDefaults() Document {
	p := &d.Rollout
	or(&p.MaxUnavailable, DefaultMaxUnavailable)
	or(&p.StepDeadline, DefaultStepDeadline)
	or(&p.ProgressDeadline, DefaultProgressDeadline)
	or(&p.SwitchoverTimeout, DefaultSwitchoverTimeout)
	or(&p.WriteBudget, DefaultWriteBudget)
	or(&p.OnFailure, FailureRevert)
	or(&p.Finalize, FinalizeAutomatic)
	or(&p.KeepVersions, DefaultKeepVersions)
	or(&p.DemoteOnRestart, DemoteSafe)
	if p.Canary == nil {
		n := DefaultCanary
		p.Canary = &n
		or(&p.Bake, DefaultBake)
	}
	or(&p.MinHealthy, DefaultMinHealthy)
	f := &d.Database.Failover
	or(&f.Mode, FailoverManual)
	or(&f.LeaseTTL, DefaultLeaseTTL)
	or(&f.MaxLagBytes, DefaultMaxLagBytes)
	return d
}

func or[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

// Target is what one service shall run, or runs: the observable part of a
// Database that a rollout carries a node to.
type Target struct {
	Version           string            `json:"version,omitempty"`
	RestartGeneration uint64            `json:"restartGeneration,omitempty"`
	Parameters        map[string]string `json:"parameters,omitempty"`
}

// Target is the part of the database's desired state that each node carries.
func (d Database) Target() Target {
	return Target{Version: d.Version, RestartGeneration: d.RestartGeneration, Parameters: maps.Clone(d.Parameters)}
}

// Target is what each agent shall run.
func (a AgentSpec) Target() Target {
	return Target{Version: a.Version, RestartGeneration: a.RestartGeneration}
}

// Equal tells whether two targets ask for the same.
func (t Target) Equal(o Target) bool {
	return t.Version == o.Version && t.RestartGeneration == o.RestartGeneration && maps.Equal(t.Parameters, o.Parameters)
}

// Window is a weekly span of time in UTC in which passages may begin.
type Window struct {
	Days  []time.Weekday
	Start time.Duration // since midnight UTC
	End   time.Duration // since midnight UTC; less than Start means over midnight
}

// Contains tells whether t lies in the window.
func (w Window) Contains(t time.Time) bool {
	t = t.UTC()
	sinceMidnight := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	on := func(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, d) }
	if w.Start <= w.End {
		return on(t.Weekday()) && sinceMidnight >= w.Start && sinceMidnight < w.End
	}
	return on(t.Weekday()) && sinceMidnight >= w.Start || on((t.Weekday()+6)%7) && sinceMidnight < w.End
}
