package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ferryman"
)

// ErrLost means that the lease ended, or that another has it.
var ErrLost = errors.New("the primary's lease is not held")

// Wanted is what this node's own state says of the lease.
type Wanted struct {
	// Known tells that the state is as new as the last one that this node acted
	// upon: after a restart it may be older for a while.
	Known bool
	// Epoch is that under which this node is the primary with a lease; zero when
	// it is not, or needs none.
	Epoch uint64
	// Soon tells that a lease may be wanted at any time: the guard is to be there.
	Soon bool
	// Serial is that of the lease.
	Serial uint64
	// Length is the committed one. It says how often to ask; what counts is what
	// is granted.
	Length ferryman.Duration
}

// Guard is the process apart from this one that holds the same deadline.
type Guard interface {
	// Check returns nil when the guard answers; one that does not is started.
	Check(ctx context.Context) error
	// Arm has the guard end the database at that time (CLOCK_BOOTTIME), unless it
	// is armed anew before. It returns once the guard holds the deadline.
	Arm(ctx context.Context, epoch uint64, deadline time.Duration) error
	// Disarm lets the database be: it is known to accept no writes, or needs no
	// lease. It is idempotent.
	Disarm(ctx context.Context) error
	// Dismiss ends the guard, as far as nothing else needs it: failover is
	// manual. It is called disarmed, and is idempotent.
	Dismiss(ctx context.Context) error
}

// Config is what a Holder works with.
type Config struct {
	// Clock is CLOCK_BOOTTIME.
	Clock func() time.Duration
	// Wanted returns what the state says, and a channel that is closed when it
	// may say something else.
	Wanted func() (Wanted, <-chan struct{})
	// Renew asks Raft's leader for a grant under the epoch.
	Renew func(ctx context.Context, epoch uint64) (ferryman.Duration, error)
	Guard Guard
	// Safe makes sure that the database accepts no writes, when the lease is not
	// wanted any more although the state does not let it write without one. It
	// returns nil when that was seen.
	Safe func(ctx context.Context) error
	// Expired is told that the lease of an epoch ran out: the database must end.
	// The guard sees to that as well; whoever is first.
	Expired func(ctx context.Context, epoch uint64)
	// Changed is called when Status or Problem may say something else. It must
	// return at once, and ask neither itself.
	Changed func()
	Log     *slog.Logger
}

// Holder keeps the lease for as long as this node is the primary.
type Holder struct {
	cfg Config

	mu      sync.Mutex
	epoch   uint64
	serial  uint64
	until   time.Duration // when the lease is over for the database; zero: none
	length  ferryman.Duration
	failing string        // why the last renewal failed
	ended   string        // how the lease ended, until it is held again
	moved   chan struct{} // closed and replaced when the above change

	armed bool // as far as Run knows; Run alone touches it
}

// NewHolder returns a holder that does nothing until Run.
func NewHolder(cfg Config) *Holder {
	return &Holder{cfg: cfg, moved: make(chan struct{}), armed: true}
}

// The pace of a holder, as parts of the lease. What is asked of a leader that is
// gone must not be waited for because the lease is long: another one may lead.
const (
	renewals = 5  // in each length
	retries  = 20 // in each length, after a failure
	shortest = 50 * time.Millisecond
	patience = 3 * time.Second // for an answer
	longest  = time.Second     // until the next attempt
)

// Run renews until ctx ends. It leaves the guard as it is: an agent that comes
// back in time finds its lease running.
func (h *Holder) Run(ctx context.Context) {
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() { h.watch(ctx) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	var due time.Duration
	var last Wanted
	for ctx.Err() == nil {
		want, moved := h.cfg.Wanted()
		if now := h.cfg.Clock(); want != last || now >= due {
			pause := h.step(ctx, want)
			due, last = h.cfg.Clock()+pause, want
		}
		timer.Reset(max(0, due-h.cfg.Clock()))
		select {
		case <-ctx.Done():
		case <-moved:
		case <-timer.C:
		}
	}
}

// idle is how long nothing needs to be looked at while no lease is wanted; what
// changes in the state is seen at once.
const idle = time.Minute

// learning is how soon is looked again whether the state is known: Raft has it
// after entries that do not change it, of which nobody tells.
const learning = shortest

// step does what the state wants now, and says when to look again. It ends as
// soon as the state wants something else.
func (h *Holder) step(ctx context.Context, want Wanted) time.Duration {
	ctx, done := h.whileWanted(ctx, want)
	defer done()
	switch {
	case !want.Known:
		return learning
	case want.Epoch == 0:
		if err := h.rest(ctx, want.Soon); err != nil {
			if ctx.Err() == nil {
				h.say(fmt.Sprintf("the guard is not as it should be: %v", err))
			}
			return longest
		}
		h.say("")
		return idle
	}
	length := min(want.Length, h.running(want)).Std()
	limit := max(length/4, 4*shortest)
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	sent := h.cfg.Clock()
	if err := h.renew(attempt, want, min(limit, patience)); err != nil {
		if ctx.Err() == nil {
			h.say(fmt.Sprintf("the lease of epoch %d is not renewed: %v", want.Epoch, err))
		}
		return min(max(shortest, length/retries), longest)
	}
	h.say("")
	return max(shortest, length/renewals-(h.cfg.Clock()-sent))
}

// whileWanted ends with ctx, or when the state wants something else.
func (h *Holder) whileWanted(ctx context.Context, want Wanted) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			now, moved := h.cfg.Wanted()
			if now != want {
				cancel()
			}
			select {
			case <-moved:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() { cancel(); watching.Wait() }
}

// running is the length of the lease that runs: a longer one that is wanted sets
// the pace once it is granted.
func (h *Holder) running(want Wanted) ferryman.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != want.Epoch {
		return want.Length
	}
	return h.length
}

// renew gets a grant within limit, and arms the guard with it. Without a guard
// that answers nothing is asked for: a lease that nobody would end must not
// begin.
func (h *Holder) renew(ctx context.Context, want Wanted, limit time.Duration) error {
	if err := h.cfg.Guard.Check(ctx); err != nil {
		return fmt.Errorf("the guard does not answer: %w", err)
	}
	sent := h.cfg.Clock()
	length, err := h.ask(ctx, want.Epoch, limit)
	if err != nil {
		return err
	}
	until := sent + length.Std() - ferryman.Allowance(length.Std())
	h.armed = true
	if err := h.cfg.Guard.Arm(ctx, want.Epoch, until); err != nil {
		return fmt.Errorf("arm the guard: %w", err)
	}
	if h.cfg.Clock() >= until {
		return fmt.Errorf("%w: the grant of %s came too late", ErrLost, length)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = ""
	h.change(want, until, length)
	return nil
}

func (h *Holder) ask(ctx context.Context, epoch uint64, limit time.Duration) (ferryman.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return h.cfg.Renew(ctx, epoch)
}

// rest has the guard ready, or gone, while this node needs no lease.
func (h *Holder) rest(ctx context.Context, soon bool) error {
	if err := h.release(ctx); err != nil {
		return fmt.Errorf("it may still be armed: %w", err)
	}
	if soon {
		return h.cfg.Guard.Check(ctx)
	}
	return h.cfg.Guard.Dismiss(ctx)
}

// release ends what was armed once this node is no primary with a lease.
func (h *Holder) release(ctx context.Context) error {
	h.mu.Lock()
	h.ended = ""
	h.change(Wanted{}, 0, 0)
	h.mu.Unlock()
	if !h.armed {
		return nil
	}
	if err := h.cfg.Safe(ctx); err != nil {
		return err
	}
	if err := h.cfg.Guard.Disarm(ctx); err != nil {
		return err
	}
	h.armed = false
	return nil
}

// watch ends the lease when it is over, whatever Run waits for.
func (h *Holder) watch(ctx context.Context) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for ctx.Err() == nil {
		h.mu.Lock()
		epoch, until, moved := h.epoch, h.until, h.moved
		h.mu.Unlock()
		rest := idle
		if until > 0 {
			rest = until - h.cfg.Clock()
		}
		if rest <= 0 {
			if h.expire(epoch, until) {
				h.cfg.Log.Error("the primary's lease ran out; its database ends", "epoch", epoch)
				h.cfg.Expired(ctx, epoch)
			}
			continue
		}
		timer.Reset(rest)
		select {
		case <-ctx.Done():
		case <-moved:
		case <-timer.C:
		}
	}
}

// expire forgets the lease, unless it was renewed just now.
func (h *Holder) expire(epoch uint64, until time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != epoch || h.until != until {
		return false
	}
	why := cmp.Or(h.failing, "nothing more is known")
	h.ended = fmt.Sprintf("the lease of epoch %d ran out (%s); the database was ended, so that no second one accepts writes. "+
		"It comes back as soon as a majority of the agents reach each other and this node: look at their network and at `ferryman status` there", epoch, why)
	h.change(Wanted{}, 0, 0)
	return true
}

// change is under mu.
func (h *Holder) change(of Wanted, until time.Duration, length ferryman.Duration) {
	told := h.epoch != of.Epoch || h.serial != of.Serial || h.length != length
	h.epoch, h.serial, h.until, h.length = of.Epoch, of.Serial, until, length
	close(h.moved)
	h.moved = make(chan struct{})
	if told {
		h.cfg.Changed()
	}
}

// say keeps why a renewal failed. The log has the first reason of each time, and
// the end.
func (h *Holder) say(failing string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if failing == h.failing {
		return
	}
	switch {
	case failing == "":
		h.cfg.Log.Info("the lease and its guard are as they should be again")
	case h.failing == "":
		h.cfg.Log.Warn(failing)
	}
	h.failing = failing
	h.cfg.Changed()
}

// Status is the lease as it is held now; nil when it is not.
func (h *Holder) Status() *ferryman.LeaseStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch == 0 || h.cfg.Clock() >= h.until {
		return nil
	}
	return &ferryman.LeaseStatus{Epoch: h.epoch, Serial: h.serial, Length: h.length}
}

// Problem says why the lease is not what it should be; empty when it is.
func (h *Holder) Problem() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return cmp.Or(h.ended, h.failing)
}

// Hold waits until the lease of epoch is held, and returns a context that ends
// with it, with the cause ErrLost. It is for what makes a database writable.
func (h *Holder) Hold(ctx context.Context, epoch uint64) (context.Context, context.CancelFunc, error) {
	for {
		h.mu.Lock()
		held, moved, why := h.epoch == epoch && h.cfg.Clock() < h.until, h.moved, h.failing
		h.mu.Unlock()
		if held {
			break
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%w for epoch %d: %w (%s)", ErrLost, epoch, context.Cause(ctx), cmp.Or(why, "it was not granted yet"))
		}
	}
	held, cancel := context.WithCancelCause(ctx)
	go func() {
		for {
			h.mu.Lock()
			lost, moved := h.epoch != epoch || h.cfg.Clock() >= h.until, h.moved
			h.mu.Unlock()
			if lost {
				cancel(ErrLost)
			}
			select {
			case <-held.Done():
				return
			case <-moved:
			}
		}
	}()
	return held, func() { cancel(nil) }, nil
}
