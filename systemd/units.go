package systemd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"syscall"
	"time"
)

var (
	// ErrNoUnit means that systemd knows no unit of that name: it must be installed before it can be started.
	ErrNoUnit = errors.New("no such unit")
	// ErrInUse means that another process supervises this directory already: a second one could start a second database on the same data.
	ErrInUse = errors.New("directory is supervised by another process")
	// ErrNotEmpty means that processes of a unit were still alive when the time was up: it must not be taken for fenced.
	ErrNotEmpty = errors.New("unit still has processes")
)

// Unit says how to run one program. Systemd knows that already, so Bus reads the Name only.
type Unit struct {
	Name        string         // letters, digits and ._:@- ; on D-Bus ".service" may be left out
	Exec        []string       // program and arguments; it stays in the foreground, as with Type=exec
	Env         []string       // the whole environment, KEY=value; nothing is inherited. INVOCATION_ID is added, as systemd does
	Dir         string         // working directory; "/" when empty
	LogFile     string         // takes stdout and stderr, appended; beside the unit's record when empty
	StopSignal  syscall.Signal // asks the main process to end; SIGTERM when 0
	StopTimeout time.Duration  // from StopSignal to SIGKILL for all of the unit; DefaultStopTimeout when 0
}

// DefaultStopTimeout is what a unit that names none gets between the signal to stop and SIGKILL.
const DefaultStopTimeout = 30 * time.Second

// State is where a unit is in its life, in words that fit both kinds of Units.
type State string

const (
	StateStarting State = "starting" // systemd waits for the program's readiness
	StateRunning  State = "running"
	StateStopping State = "stopping" // asked to stop, or its main process ended and others of the unit are being killed
	StateStopped  State = "stopped"  // never started, ended well, or ended because it was asked to
	StateFailed   State = "failed"   // ended by itself, and not well
)

// UnitStatus is what was seen of a unit just now.
type UnitStatus struct {
	State    State
	Active   bool      // processes of the unit may be alive; false is a promise that none is
	PID      int       // of the main process; 0 when there is none
	StartID  string    // another one after each start; "" when it was never started
	Since    time.Time // of the start when active, else of the end; zero when unknown
	Result   string    // how it last ended, as systemd says it: success, exit-code, signal, timeout…, or ResultUnknown; "" while it runs for the first time
	ExitCode int       // 128+n for signal n; -1 while it runs or when unknown
	Command  string    // what the next start runs, arguments parted by blanks, commands by "; "; of Bus only, as are:
	Restart  string    // when systemd starts it again by itself: no, always, on-failure…
}

// ResultUnknown is the Result of a program that ended while nobody who may ask for its exit code was watching.
const ResultUnknown = "unknown"

// Units runs programs. A program outlives the agent that started it, and is restarted only on demand: whether something is restarted is the plan's decision.
// All methods are idempotent, may be called at the same time, and return ctx's error when it ends first; what they began then goes on, and calling again is safe.
type Units interface {
	// Start returns once the program runs, and at once when it does already. That it runs does not mean it is of use: ask the engine.
	Start(ctx context.Context, u Unit) error
	// Stop asks the main process to end, and kills whatever of the unit is left when it did or its time is up. It returns when no process is left.
	Stop(ctx context.Context, name string) error
	// Kill kills all of the unit at once and returns nil only after it saw that nothing is left: that is what may be called fenced.
	Kill(ctx context.Context, name string) error
	// Restart is Stop and Start; afterwards StartID is another one.
	Restart(ctx context.Context, u Unit) error
	Status(ctx context.Context, name string) (UnitStatus, error)
	// Target says where the unit's processes are found without this manager. It stays the same for as long as the host is up.
	Target(ctx context.Context, name string) (Target, error)
	// Changed gets a value after something may have changed. It is a wake-up, for one reader: changes coalesce, so look at Status.
	Changed() <-chan struct{}
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9@_][A-Za-z0-9@_.:-]{0,199}$`)

func checkName(name string) error {
	if !unitName.MatchString(name) {
		return fmt.Errorf("unit name %q: use up to 200 letters, digits and ._:@- and begin with a letter or digit", name)
	}
	return nil
}
