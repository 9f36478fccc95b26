package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/lease"
	"ferryman/agent/lease/fake"
)

// counted is a guard that counts how often it was let go.
type counted struct {
	*fake.Guard
	mu      sync.Mutex
	disarms int
}

func (g *counted) Disarm(ctx context.Context) error {
	g.mu.Lock()
	g.disarms++
	g.mu.Unlock()
	return g.Guard.Disarm(ctx)
}

func (g *counted) letGo() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.disarms
}

// beside is what a holder stands beside: its node's state, the leader, a guard,
// a database. It outlives the holder, as a host does its agent.
type beside struct {
	t     *testing.T
	began time.Time
	guard *counted

	mu      sync.Mutex
	want    lease.Wanted
	moved   chan struct{}
	takes   time.Duration   // a request
	grants  time.Duration   // zero: no leader answers
	asked   []time.Duration // when
	unsafe  int             // how often the database is still seen to accept writes
	checked int             // for that
	expired []uint64
}

// newBeside has a leader that grants what is wanted. It lives in a bubble.
func newBeside(t *testing.T, want lease.Wanted) *beside {
	b := &beside{t: t, began: time.Now(), want: want, grants: want.Length.Std(), moved: make(chan struct{})}
	b.guard = &counted{Guard: &fake.Guard{Clock: b.now, Kill: func(uint64) {}}}
	t.Cleanup(func() { _ = b.guard.Guard.Disarm(context.Background()) })
	return b
}

func (b *beside) now() time.Duration { return time.Since(b.began) }

// set changes something, and tells whoever waits for the state.
func (b *beside) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.moved)
	b.moved = make(chan struct{})
}

// agent runs a holder until it ends, or the test does.
func (b *beside) agent() (h *lease.Holder, end func()) {
	h = lease.NewHolder(lease.Config{
		Clock: b.now,
		Wanted: func() (lease.Wanted, <-chan struct{}) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.want, b.moved
		},
		Renew: func(ctx context.Context, epoch uint64) (ferryman.Duration, error) {
			b.mu.Lock()
			b.asked = append(b.asked, b.now())
			takes, grants := b.takes, b.grants
			b.mu.Unlock()
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			if grants == 0 {
				return 0, errors.New("no leader is known")
			}
			return ferryman.Duration(grants), nil
		},
		Guard: b.guard,
		Safe: func(context.Context) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.checked++
			if b.checked <= b.unsafe {
				return errors.New("it accepts writes")
			}
			return nil
		},
		Expired: func(_ context.Context, epoch uint64) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.expired = append(b.expired, epoch)
		},
		Changed: func() {},
		Log:     slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { h.Run(ctx) })
	end = func() { cancel(); run.Wait() }
	b.t.Cleanup(end)
	synctest.Wait()
	return h, end
}

// after lets time pass, and all that it brings.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *beside) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked)
}

func (b *beside) ends() []uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.expired)
}

// looks is how often the database was asked whether it accepts writes.
func (b *beside) looks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checked
}

// wanted is a lease of epoch 3.
func wanted(length time.Duration) lease.Wanted {
	return lease.Wanted{Known: true, Epoch: 3, Length: ferryman.Duration(length)}
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestAHolderCountsFromSending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(10*time.Second))
		b.takes = time.Second
		h, _ := b.agent()
		if h.Status() != nil {
			t.Error("it is held before it was granted")
		}
		after(time.Second)
		b.set(func() { b.grants = 0 })
		if got := h.Status(); got == nil || *got != (ferryman.LeaseStatus{Epoch: 3, Length: ferryman.Duration(10 * time.Second)}) {
			t.Errorf("got %+v, want the lease of epoch 3 for 10s", got)
		}
		end := 10*time.Second - ferryman.Allowance(10*time.Second) // from the beginning, when it was asked for
		after(end - time.Second - time.Millisecond)
		if h.Status() == nil || b.guard.Kills() != 0 {
			t.Errorf("it ended before %v, and the guard killed %d times", end, b.guard.Kills())
		}
		after(time.Millisecond)
		if h.Status() != nil || b.guard.Kills() != 1 || !slices.Equal(b.ends(), []uint64{3}) {
			t.Errorf("after %v it is held (%v), the guard killed %d times, it ran out for %v; want its end, once, for epoch 3", end, h.Status(), b.guard.Kills(), b.ends())
		}
	})
}

func TestAHolderAsksForNothingWithoutItsGuard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(10*time.Second))
		b.guard.Die()
		h, _ := b.agent()
		after(time.Minute)
		if n := b.requests(); n != 0 || h.Status() != nil {
			t.Errorf("it asked %d times, and holds %v", n, h.Status())
		}
		if p := h.Problem(); !strings.Contains(p, "the guard does not answer") {
			t.Errorf("it says %q", p)
		}
		b.guard.Revive()
		after(time.Second)
		if h.Status() == nil || h.Problem() != "" || !b.guard.Armed() {
			t.Errorf("with its guard it holds %v, guarded %v, and says %q", h.Status(), b.guard.Armed(), h.Problem())
		}
	})
}

// The guard dies under a lease: no other is asked for, and the agent ends the database itself.
func TestALeaseEndsWithItsGuard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(10*time.Second))
		h, _ := b.agent()
		after(time.Second)
		asked := b.requests()
		b.guard.Die()
		after(9 * time.Second)
		if h.Status() != nil || b.requests() != asked || !slices.Equal(b.ends(), []uint64{3}) {
			t.Errorf("held %v, %d more requests, ran out for %v", h.Status(), b.requests()-asked, b.ends())
		}
	})
}

func TestAGrantThatComesTooLateIsNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(10*time.Second))
		b.takes, b.grants = 2*time.Second, time.Second
		h, _ := b.agent()
		after(2 * time.Second)
		if h.Status() != nil || len(b.ends()) != 0 {
			t.Errorf("held %v, ran out for %v; want neither", h.Status(), b.ends())
		}
		if p := h.Problem(); !strings.Contains(p, "came too late") {
			t.Errorf("it says %q", p)
		}
		if b.guard.Kills() != 1 { // it is armed before anybody looks at the time
			t.Errorf("the guard killed %d times, want once", b.guard.Kills())
		}
	})
}

func TestALeaseThatRanOutSaysWhyAndWhatToDo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(5*time.Second))
		h, _ := b.agent()
		after(time.Second / 2)
		b.set(func() { b.grants = 0 })
		after(time.Minute)
		if got := b.ends(); !slices.Equal(got, []uint64{3}) {
			t.Errorf("it ran out for %v, want once for 3", got)
		}
		for _, part := range []string{"epoch 3 ran out", "no leader is known", "no second one accepts writes", "majority", "ferryman status"} {
			if p := h.Problem(); !strings.Contains(p, part) {
				t.Errorf("it says %q, want %q in it", p, part)
			}
		}
		b.set(func() { b.grants = 5 * time.Second })
		after(time.Second)
		if h.Status() == nil || h.Problem() != "" {
			t.Errorf("with a leader it holds %v and says %q", h.Status(), h.Problem())
		}
	})
}

func TestAHolderPaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		length, takes time.Duration
		leader        bool
		each          time.Duration // from one request to the next
	}{
		{"five times in each lease", 10 * time.Second, 0, true, 2 * time.Second},
		{"of whatever length", time.Minute, 0, true, 12 * time.Second},
		{"however long a request takes", 10 * time.Second, 1500 * time.Millisecond, true, 2 * time.Second},
		{"twenty times when nobody answers", 10 * time.Second, 0, false, 500 * time.Millisecond},
		{"and each second, however long it is", time.Minute, 0, false, time.Second},
		{"and with a pause when that takes long", 10 * time.Second, time.Second, false, 1500 * time.Millisecond},
		{"and never without one", 100 * time.Millisecond, 0, true, 50 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBeside(t, wanted(tt.length))
				b.takes = tt.takes
				if !tt.leader {
					b.grants = 0
				}
				_, end := b.agent()
				after(20 * tt.each)
				end()
				for i := 1; i < len(b.asked); i++ {
					if d := b.asked[i] - b.asked[i-1]; d != tt.each {
						t.Errorf("request %d came %v after the one before, want %v", i, d, tt.each)
					}
				}
				if len(b.asked) < 20 {
					t.Errorf("%d requests in %v", len(b.asked), 20*tt.each)
				}
			})
		})
	}
}

func TestAHolderEndsAnAttemptAtWhatIsNotWantedAnyMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(time.Minute))
		b.takes = time.Hour
		h, _ := b.agent()
		after(time.Second)
		b.set(func() { b.want.Length, b.takes, b.grants = ferryman.Duration(2*time.Second), 0, 2*time.Second })
		synctest.Wait()
		if got := h.Status(); got == nil || got.Length != ferryman.Duration(2*time.Second) {
			t.Errorf("it holds %v, want the lease of 2s as soon as that is wanted", got)
		}
		if p := h.Problem(); p != "" {
			t.Errorf("it says %q of an attempt that nobody wants any more", p)
		}
	})
}

func TestAHolderDoesNotWaitAsLongAsALongLeaseAllows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(time.Minute))
		b.takes = time.Hour
		h, _ := b.agent()
		b.set(func() { b.takes = 0 })
		after(5 * time.Second)
		if h.Status() == nil {
			t.Errorf("it still waits for the answer to its first request, after %d; it says %q", b.requests(), h.Problem())
		}
	})
}

// Before a leader has told the node what is committed, its state may be older
// than what it knew: nothing is asked for, and nothing let go.
func TestAHolderThatDoesNotKnowDoesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, lease.Wanted{})
		if err := b.guard.Arm(t.Context(), 3, time.Minute); err != nil {
			t.Fatal(err)
		}
		_, _ = b.agent()
		after(30 * time.Second)
		if b.requests() != 0 || b.looks() != 0 || b.guard.letGo() != 0 || !b.guard.Armed() {
			t.Errorf("%d requests, %d looks at the database, %d disarms, armed %v", b.requests(), b.looks(), b.guard.letGo(), b.guard.Armed())
		}
		after(30 * time.Second)
		if b.guard.Kills() != 1 {
			t.Errorf("the guard killed %d times at its deadline, want once", b.guard.Kills())
		}
	})
}

// That the state is known is told by nobody when it did not change.
func TestAHolderLearnsByItselfThatItKnows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(time.Second))
		b.want.Known = false
		h, _ := b.agent()
		after(time.Minute)
		b.mu.Lock()
		b.want.Known = true
		b.mu.Unlock()
		after(100 * time.Millisecond)
		if h.Status() == nil {
			t.Error("it holds nothing, a tenth of the lease after it could")
		}
	})
}

func TestAHolderLetsGoOnceTheDatabaseIsSeenSafe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(10*time.Second))
		h, _ := b.agent()
		after(time.Second)
		b.set(func() { b.want, b.unsafe = lease.Wanted{Known: true}, 2 })
		synctest.Wait()
		if h.Status() != nil || !b.guard.Armed() || b.guard.letGo() != 0 {
			t.Errorf("while it accepts writes: held %v, armed %v, %d disarms; want the guard alone", h.Status(), b.guard.Armed(), b.guard.letGo())
		}
		after(2 * time.Second)
		if b.guard.Armed() || b.guard.letGo() != 1 || b.looks() != 3 {
			t.Errorf("armed %v, %d disarms after %d looks, want one after 3", b.guard.Armed(), b.guard.letGo(), b.looks())
		}
		for range 10 {
			b.set(func() {})
			after(time.Minute)
		}
		if b.guard.letGo() != 1 || len(b.ends()) != 0 || b.guard.Kills() != 0 {
			t.Errorf("%d disarms, ran out for %v, %d kills; want one and no more", b.guard.letGo(), b.ends(), b.guard.Kills())
		}
	})
}

// An agent that comes anew cannot know whether its guard is armed.
func TestAHolderLetsGoOnceAfterItsStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, lease.Wanted{Known: true})
		if err := b.guard.Arm(t.Context(), 3, time.Minute); err != nil {
			t.Fatal(err)
		}
		_, _ = b.agent()
		if b.guard.Armed() || b.guard.letGo() != 1 || b.looks() != 1 {
			t.Errorf("armed %v, %d disarms after %d looks, want one of each", b.guard.Armed(), b.guard.letGo(), b.looks())
		}
	})
}

func TestALongerLeaseIsAskedForAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBeside(t, wanted(10*time.Second))
		h, _ := b.agent()
		after(time.Second)
		asked := b.requests()
		b.set(func() { b.want, b.grants = wanted(time.Minute), time.Minute })
		synctest.Wait()
		if got := h.Status(); b.requests() != asked+1 || got == nil || got.Length != ferryman.Duration(time.Minute) {
			t.Errorf("%d more requests, held %+v; want one, and a minute", b.requests()-asked, got)
		}
		b.set(func() {}) // what does not concern the lease
		synctest.Wait()
		if b.requests() != asked+1 {
			t.Errorf("another request for nothing")
		}
	})
}

// The agent ends and comes again, on a host whose guard and database go on.
// A longer lease is wanted in the moment in which the leader is another one, or
// does not answer: what runs is the shorter one, which sets the pace.
func TestAShorterLeaseIsKeptUntilTheLongerOneIsGranted(t *testing.T) {
	for _, takes := range []time.Duration{0, time.Hour} {
		t.Run(takes.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBeside(t, wanted(2*time.Second))
				h, _ := b.agent()
				after(time.Second)
				b.set(func() { b.want.Length, b.grants, b.takes = ferryman.Duration(30*time.Second), 0, takes })
				after(time.Second)
				b.set(func() { b.grants, b.takes = 30*time.Second, 0 })
				after(time.Second)
				if got := h.Status(); got == nil || got.Length != ferryman.Duration(30*time.Second) || b.guard.Kills() != 0 {
					t.Errorf("got %+v, and the guard killed %d times; want the lease of 30s and no kill", got, b.guard.Kills())
				}
			})
		})
	}
}

func TestAHolderThatComesBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		away  time.Duration
		kills int
	}{
		{"in time finds its lease running", 3 * time.Second, 0},
		{"too late finds its database ended", 6 * time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBeside(t, wanted(5*time.Second))
				_, end := b.agent()
				end()
				if !b.guard.Armed() || b.guard.letGo() != 0 {
					t.Fatal("the end of the agent let the guard go")
				}
				after(tt.away)
				b.set(func() { b.want.Known = false })
				h, _ := b.agent()
				if h.Status() != nil {
					t.Error("a new agent holds what it has not asked for")
				}
				b.set(func() { b.want.Known = true })
				after(time.Minute)
				if h.Status() == nil || b.guard.Kills() != tt.kills || len(b.ends()) != 0 {
					t.Errorf("held %v, %d kills, ran out for %v; want held, and %d kills", h.Status(), b.guard.Kills(), b.ends(), tt.kills)
				}
			})
		})
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	t.Run("waits for the lease and ends with it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBeside(t, wanted(5*time.Second))
			b.takes = time.Second
			h, _ := b.agent()
			ctx, release, err := h.Hold(t.Context(), 3)
			if err != nil || b.now() != time.Second || !b.guard.Armed() {
				t.Fatalf("after %v: %v, armed %v; want it held after a second", b.now(), err, b.guard.Armed())
			}
			defer release()
			b.set(func() { b.grants = 0 })
			after(3 * time.Second)
			if ctx.Err() != nil {
				t.Fatalf("it ended while the lease was held: %v", context.Cause(ctx))
			}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), lease.ErrLost) || b.now() != 4500*time.Millisecond {
				t.Errorf("it ended after %v with %v, want ErrLost when the lease did", b.now(), context.Cause(ctx))
			}
		})
	})
	t.Run("says why it waited in vain", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBeside(t, wanted(5*time.Second))
			b.grants = 0
			h, _ := b.agent()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, _, err := h.Hold(ctx, 3); !errors.Is(err, lease.ErrLost) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no leader is known") {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("is not for another epoch", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBeside(t, wanted(5*time.Second))
			h, _ := b.agent()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, _, err := h.Hold(ctx, 4); !errors.Is(err, lease.ErrLost) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("ends when this node is the primary no more", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBeside(t, wanted(5*time.Second))
			h, _ := b.agent()
			ctx, release, err := h.Hold(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			b.set(func() { b.want = lease.Wanted{Known: true} })
			synctest.Wait()
			if !errors.Is(context.Cause(ctx), lease.ErrLost) {
				t.Errorf("it goes on: %v", context.Cause(ctx))
			}
		})
	})
	t.Run("ends when its caller does", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBeside(t, wanted(5*time.Second))
			h, _ := b.agent()
			ctx, release, err := h.Hold(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			release()
			if !errors.Is(context.Cause(ctx), context.Canceled) || h.Status() == nil {
				t.Errorf("ended with %v, held %v", context.Cause(ctx), h.Status())
			}
		})
	})
	t.Run("by many at once", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBeside(t, wanted(5*time.Second))
			b.takes = 100 * time.Millisecond
			h, _ := b.agent()
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					ctx, release, err := h.Hold(context.Background(), 3)
					if err != nil {
						t.Error(err)
						return
					}
					defer release()
					_, _ = h.Status(), h.Problem()
					<-ctx.Done()
				})
			}
			after(10 * time.Second)
			b.set(func() { b.grants = 0 })
			all.Wait()
			if got := b.ends(); !slices.Equal(got, []uint64{3}) {
				t.Errorf("it ran out for %v", got)
			}
		})
	})
}
