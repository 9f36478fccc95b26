package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	bus "github.com/godbus/dbus/v5"
)

// systemdOf is a systemd with one unit, whose jobs take five seconds, behind a bus that can be restarted. It lives in virtual time.
type systemdOf struct {
	mu      sync.Mutex
	running bool
	starts  int // the invocation id
	job     int
	fails   bool // what starts ends at once
	asked   int
	removed map[int]chan<- string // who hears the end of a job
	deaf    bool                  // nobody hears it

	conns  []*connection
	down   bool // the bus lets nobody in
	hangs  bool // it lets in, and does not answer
	absent bool // systemd is not on the bus
	mute   bool // the next job is begun, and its answer lost
	drop   bool // the next job is lost before systemd hears of it
}

type connection struct {
	s    *systemdOf
	lost bool
}

// later does f after a time.
func (s *systemdOf) later(d time.Duration, f func()) {
	go func() {
		time.Sleep(d)
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	}()
}

func (s *systemdOf) connect(ctx context.Context) (manager, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hangs {
		s.mu.Unlock()
		defer s.mu.Lock()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.down {
		return nil, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	}
	c := &connection{s: s}
	s.conns = append(s.conns, c)
	return c, nil
}

// restart takes the bus away for a time; systemd comes back to it a second after that. s.mu is held.
func (s *systemdOf) restart(away time.Duration) {
	for _, c := range s.conns {
		c.lost = true
	}
	clear(s.removed)
	s.down, s.absent = true, true
	s.later(away, func() { s.down = false })
	s.later(away+time.Second, func() { s.absent = false })
}

func (c *connection) Connected() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return !c.lost
}

func (c *connection) Close() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.lost = true
}

func (c *connection) here() error {
	switch {
	case c.lost:
		return bus.ErrClosed
	case c.s.absent:
		return bus.Error{Name: "org.freedesktop.DBus.Error.ServiceUnknown"}
	}
	return nil
}

// enqueue is a job that ends the unit's process at once and starts another at its end.
func (c *connection) enqueue(stop, start bool, ch chan<- string) (int, error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := c.here(); err != nil {
		return 0, err
	}
	if s.drop {
		s.drop = false
		s.restart(2 * time.Second)
		return 0, bus.Error{Name: "org.freedesktop.DBus.Error.NoReply"}
	}
	s.asked++
	s.job = s.asked
	job := s.job
	if !s.deaf {
		s.removed[job] = ch
	}
	if stop {
		s.running = false
	}
	s.later(5*time.Second, func() {
		result := "done"
		if start {
			s.starts++
			s.running = !s.fails
		}
		if start && s.fails {
			result = "failed"
		}
		s.job = 0
		if ch := s.removed[job]; ch != nil {
			ch <- result
		}
	})
	if s.mute {
		s.mute = false
		s.restart(2 * time.Second)
		return 0, bus.Error{Name: "org.freedesktop.DBus.Error.NoReply"}
	}
	return job, nil
}

func (c *connection) StartUnitContext(_ context.Context, _, _ string, ch chan<- string) (int, error) {
	return c.enqueue(false, true, ch)
}

func (c *connection) StopUnitContext(_ context.Context, _, _ string, ch chan<- string) (int, error) {
	return c.enqueue(true, false, ch)
}

func (c *connection) RestartUnitContext(_ context.Context, _, _ string, ch chan<- string) (int, error) {
	return c.enqueue(true, true, ch)
}

func (c *connection) KillUnitWithTarget(context.Context, string, dbus.Who, int32) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.here()
}

func (c *connection) GetUnitPropertiesContext(context.Context, string) (map[string]any, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if err := c.here(); err != nil {
		return nil, err
	}
	active := "inactive"
	switch {
	case c.s.running:
		active = "active"
	case c.s.fails && c.s.job == 0 && c.s.starts > 1:
		active = "failed"
	}
	return map[string]any{
		"LoadState": "loaded", "ActiveState": active, "InvocationID": []byte{byte(c.s.starts)}, "Job": []any{uint32(c.s.job), bus.ObjectPath("/")},
	}, nil
}

func (c *connection) GetUnitTypePropertiesContext(context.Context, string, string) (map[string]any, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if err := c.here(); err != nil {
		return nil, err
	}
	return map[string]any{"Result": "exit-code"}, nil
}

func TestTheBusGoesAwayDuringAJob(t *testing.T) {
	start := func(ctx context.Context, b *Bus) error { return b.Start(ctx, Unit{Name: "db"}) }
	restart := func(ctx context.Context, b *Bus) error { return b.Restart(ctx, Unit{Name: "db"}) }
	stop := func(ctx context.Context, b *Bus) error { return b.Stop(ctx, "db") }
	kill := func(ctx context.Context, b *Bus) error { return b.Kill(ctx, "db") }
	after := func(d, away time.Duration) func(*systemdOf) {
		return func(s *systemdOf) {
			s.later(d, func() { s.restart(away) })
		}
	}
	tests := []struct {
		name    string
		running bool
		do      func(context.Context, *Bus) error
		happens func(*systemdOf)
		asked   int    // jobs that systemd got
		starts  int    // by then
		err     string // "" for success
		within  time.Duration
	}{
		{"nothing happens", true, restart, func(*systemdOf) {}, 1, 2, "", 5 * time.Second},
		{"back before a restart ends", true, restart, after(time.Second, time.Second), 1, 2, "", 6 * time.Second},
		{"back after a restart ended", true, restart, after(4*time.Second, 5*time.Second), 1, 2, "", 12 * time.Second},
		{"back before a start ends", false, start, after(time.Second, time.Second), 1, 2, "", 6 * time.Second},
		{"back before a stop ends", true, stop, after(time.Second, time.Second), 1, 1, "", 6 * time.Second},
		{"back before a kill ends", true, kill, after(time.Second, time.Second), 1, 1, "", 6 * time.Second},
		{"away before it begins", true, restart, func(s *systemdOf) { s.restart(3 * time.Second) }, 1, 2, "", 10 * time.Second},
		{"twice", true, restart, func(s *systemdOf) { after(time.Second, time.Second)(s); after(4*time.Second, time.Second)(s) }, 1, 2, "", 8 * time.Second},
		{"a restart that fails meanwhile", true, restart, func(s *systemdOf) { s.fails = true; after(time.Second, time.Second)(s) }, 1, 2,
			`unit db: systemd says "unsaid", and the unit is failed (result "exit-code"`, 6 * time.Second},
		{"the answer to a restart is lost", true, restart, func(s *systemdOf) { s.mute = true }, 1, 2, "", 6 * time.Second},
		{"a restart is lost", true, restart, func(s *systemdOf) { s.drop = true }, 1, 2, "", 9 * time.Second},
		{"a stop is lost", true, stop, func(s *systemdOf) { s.drop = true }, 1, 1, "", 9 * time.Second},
		{"the end of a job is not told", true, restart, func(s *systemdOf) { s.deaf = true }, 1, 2, "", 7 * time.Second},
		{"it stays away", true, restart, after(time.Second, time.Hour), 1, 2, "what became of it is not known", 40 * time.Second},
		{"it hangs when it is back", true, restart, func(s *systemdOf) { s.hangs = true; after(time.Second, time.Second)(s) }, 1, 2,
			"no answer within 5s: is dbus running?", 45 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &systemdOf{running: tt.running, starts: 1, removed: map[int]chan<- string{}}
				b := newBus(slog.New(slog.DiscardHandler))
				b.connect = s.connect
				defer b.Close()
				if _, err := b.connection(t.Context()); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				s.mu.Lock()
				tt.happens(s)
				s.mu.Unlock()
				err := tt.do(t.Context(), b)
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				if took := time.Since(began); took > tt.within {
					t.Errorf("it took %s, want %s at most", took, tt.within)
				}
				time.Sleep(time.Hour + time.Minute) // also for what goes on although nobody waits for it
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.asked != tt.asked || s.starts != tt.starts {
					t.Errorf("systemd got %d jobs and started the unit %d times, want %d and %d", s.asked, s.starts-1, tt.asked, tt.starts-1)
				}
			})
		})
	}
}

// Whoever asks has a time, and is not held up by a bus that lets in and does not answer, nor by another who waits for it.
func TestABusThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &systemdOf{running: true, hangs: true}
		b := newBus(slog.New(slog.DiscardHandler))
		b.connect = s.connect
		defer b.Close()
		go func() { _, _ = b.Status(t.Context(), "db") }()
		synctest.Wait()
		for _, limit := range []time.Duration{time.Second, 2 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			began := time.Now()
			if _, err := b.Status(ctx, "db"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != limit {
				t.Errorf("got %v after %s, want the end of its time after %s", err, time.Since(began), limit)
			}
			cancel()
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := b.Status(t.Context(), "db"); err == nil || away(err) {
			t.Errorf("after its end: got %v, want that it is closed", err)
		}
	})
}
