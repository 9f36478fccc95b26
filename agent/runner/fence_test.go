package runner_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/runner"
	database "ferryman/dbhooks/fake"
)

// diary notes in which order a unit was killed and its instance marked.
type diary struct {
	runner.Units
	mu     sync.Mutex
	lines  []string
	refuse map[string]error // what fails, by its line
}

func (d *diary) note(line string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
	return d.refuse[line]
}

func (d *diary) Kill(ctx context.Context, name string) error {
	if err := d.note("kill"); err != nil {
		return err
	}
	return d.Units.Kill(ctx, name)
}

// watched has the host write into a diary.
func (h *host) watched(refuse map[string]error) (runner.Deps, *diary) {
	deps := h.deps()
	d := &diary{Units: deps.Units, refuse: refuse}
	deps.Units = d
	deps.Services[0].Mark = func(epoch uint64) error {
		if err := d.note("mark"); err != nil {
			return err
		}
		return h.db.Fence(epoch)
	}
	return deps, d
}

func TestFence(t *testing.T) {
	t.Parallel()
	broken := errors.New("it broke")
	for _, tt := range []struct {
		name   string
		refuse map[string]error
		lines  []string
		runs   bool
		fenced bool
	}{
		{"kills, marks, and kills what came up in between", nil, []string{"kill", "mark", "kill"}, false, true},
		{"is none when nothing was killed", map[string]error{"kill": broken}, []string{"kill"}, true, false},
		{"is none without its mark", map[string]error{"mark": broken}, []string{"kill", "mark"}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, how := range []string{"alone", "by a step"} {
				synctest.Test(t, func(t *testing.T) {
					h := newHost(t)
					deps, d := h.watched(tt.refuse)
					a := run(t, deps)
					id := a.follower(t, 1)
					a.must(t, step(id, ferryman.OpPromote, ferryman.Args{Epoch: 2}))
					var failed bool
					if how == "alone" {
						failed = a.Fence(t.Context(), 2) != nil
					} else {
						out := a.carry(t, step(id+1, ferryman.OpFence, ferryman.Args{Epoch: 2, Kill: true}))
						failed = out.Status != ferryman.StatusDone
					}
					if failed != (tt.refuse != nil) || !slices.Equal(d.lines, tt.lines) {
						t.Errorf("%s: failed %v after %q, want %q", how, failed, d.lines, tt.lines)
					}
					if got := h.units.Starts("db"); got != 1 {
						t.Errorf("%s: it was started %d times", how, got)
					}
					st, _ := h.units.Status(t.Context(), "db")
					if st.Active != tt.runs {
						t.Errorf("%s: it runs %v, want %v", how, st.Active, tt.runs)
					}
					if !tt.runs {
						a.must(t, step(id+2, ferryman.OpStart, ferryman.Args{}))
					}
					out := a.carry(t, step(id+3, ferryman.OpPromote, ferryman.Args{Epoch: 2}))
					if refused := out.Status == ferryman.StatusFailed; refused != tt.fenced {
						t.Errorf("%s: promoted again under its epoch: %+v, want it refused %v", how, out, tt.fenced)
					}
				})
			}
		})
	}
}

// Without Kill a fence is the database's own, which goes on running.
func TestAFenceWithoutKillAsksTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		deps, d := h.watched(nil)
		a := run(t, deps)
		id := a.follower(t, 1)
		out := a.must(t, step(id, ferryman.OpFence, ferryman.Args{Epoch: 1}))
		if len(d.lines) > 0 || out.Result.Position == 0 || !a.service(t).Instance.Running {
			t.Errorf("it did %q, and said %+v; want its position, and no kill", d.lines, out.Result)
		}
	})
}

// A database that does not answer is killed all the same, and while a step that
// waits for it holds its service.
func TestFenceDoesNotWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		deps, _ := h.watched(nil)
		a := run(t, deps)
		id := a.follower(t, 1)
		h.db.Faults(database.Faults{Hang: true})
		if _, err := a.Run(step(id, ferryman.OpDrain, ferryman.Args{})); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := a.Fence(t.Context(), 1); err != nil || time.Since(began) > 0 {
			t.Errorf("it took %v: %v", time.Since(began), err)
		}
		if st, _ := h.units.Status(t.Context(), "db"); st.Active {
			t.Error("it runs on")
		}
	})
}

func TestWritable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		do    func(t *testing.T, h *host, a agent, id uint64)
		want  bool
		known bool
	}{
		{"a replica", func(*testing.T, *host, agent, uint64) {}, false, true},
		{"a primary", func(t *testing.T, _ *host, a agent, id uint64) {
			a.must(t, step(id, ferryman.OpPromote, ferryman.Args{Epoch: 2}))
		}, true, true},
		{"one that is fenced", func(t *testing.T, _ *host, a agent, id uint64) {
			a.must(t, step(id, ferryman.OpPromote, ferryman.Args{Epoch: 2}))
			a.must(t, step(id+1, ferryman.OpFence, ferryman.Args{Epoch: 2}))
		}, false, true},
		{"one that does not run", func(t *testing.T, _ *host, a agent, id uint64) {
			a.must(t, step(id, ferryman.OpStop, ferryman.Args{}))
		}, false, true},
		{"one that does not answer", func(_ *testing.T, h *host, _ agent, _ uint64) { h.db.Faults(database.Faults{Hang: true}) }, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				a := h.run(t)
				tt.do(t, h, a, a.follower(t, 1))
				began := time.Now()
				if got, err := a.Writable(t.Context()); got != tt.want || (err == nil) != tt.known || time.Since(began) > runner.DefaultAnswer {
					t.Errorf("got %v, %v after %v; want %v, known %v", got, err, time.Since(began), tt.want, tt.known)
				}
			})
		})
	}
}

// held is a lease that a test grants and ends.
type held struct {
	granted chan struct{}
	ctx     context.Context
	end     context.CancelCauseFunc
	mu      sync.Mutex
	asked   []uint64 // epochs
	let     int      // how often it was given back
}

var errLost = errors.New("the lease is lost")

func newHeld() *held {
	l := &held{granted: make(chan struct{})}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	return l
}

func (l *held) hold(ctx context.Context, epoch uint64) (context.Context, context.CancelFunc, error) {
	l.mu.Lock()
	l.asked = append(l.asked, epoch)
	l.mu.Unlock()
	select {
	case <-l.granted:
	case <-ctx.Done():
		return nil, nil, errors.Join(errLost, context.Cause(ctx))
	}
	under, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return under, func() {
		stop()
		cancel(nil)
		l.mu.Lock()
		l.let++
		l.mu.Unlock()
	}, nil
}

// TestWhatMakesWritableHoldsTheLease is about promote and unfence: they begin
// with the lease, and end with it.
func TestWhatMakesWritableHoldsTheLease(t *testing.T) {
	t.Parallel()
	for _, op := range []ferryman.Op{ferryman.OpPromote, ferryman.OpUnfence} {
		under := func(t *testing.T) (*host, *held, agent, ferryman.Step) {
			h := newHost(t)
			l := newHeld()
			deps := h.deps()
			deps.Hold = l.hold
			a := run(t, deps)
			id := a.follower(t, 1)
			if op == ferryman.OpUnfence {
				a.must(t, step(id, ferryman.OpFence, ferryman.Args{Epoch: 2}))
			}
			return h, l, a, step(id+1, op, ferryman.Args{Epoch: 2})
		}
		begin := func(t *testing.T, a agent, s ferryman.Step) {
			if _, err := a.Run(s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		t.Run(string(op)+" waits for it", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h, l, a, s := under(t)
				begin(t, a, s)
				if n := h.db.Calls(op); n != 0 || !slices.Equal(l.asked, []uint64{2}) {
					t.Errorf("without the lease it was begun %d times; asked for epochs %v, want 2", n, l.asked)
				}
				close(l.granted)
				a.must(t, s)
				if l.let != 1 {
					t.Errorf("the lease was given back %d times", l.let)
				}
			})
		})
		t.Run(string(op)+" waits until its deadline", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h, _, a, s := under(t)
				out := a.carry(t, s)
				if out.Status != ferryman.StatusFailed || !strings.Contains(out.Reason, errLost.Error()) || h.db.Calls(op) != 0 {
					t.Errorf("got %+v, and it was begun %d times", out, h.db.Calls(op))
				}
			})
		})
		t.Run(string(op)+" is cut off by its end", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h, l, a, s := under(t)
				h.db.Takes(func(ferryman.Op) time.Duration { return time.Hour })
				close(l.granted)
				begin(t, a, s)
				if h.db.Calls(op) != 1 {
					t.Fatalf("it was begun %d times, want once", h.db.Calls(op))
				}
				l.end(errLost)
				began := time.Now()
				out := a.carry(t, s)
				if took := time.Since(began); out.Status != ferryman.StatusFailed || took > time.Second {
					t.Errorf("after %v: %+v, want it failed at once", took, out)
				}
				if a.service(t).Instance.Writable {
					t.Error("it accepts writes")
				}
			})
		})
	}
	t.Run("nothing else does", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			l := newHeld()
			deps := h.deps()
			deps.Hold = l.hold
			a := run(t, deps)
			id := a.follower(t, 1)
			for i, op := range []ferryman.Op{ferryman.OpFence, ferryman.OpDrain, ferryman.OpStop, ferryman.OpStart} {
				a.must(t, step(id+uint64(i), op, ferryman.Args{Epoch: 1}))
			}
			if len(l.asked) > 0 {
				t.Errorf("the lease of epochs %v was asked for", l.asked)
			}
		})
	})
}
