package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ferryman"
)

// act is one scene: what is done, what must come of it, and how long that may
// take before the promise counts as broken.
type act struct {
	name  string
	title string
	do    func(p *play, ctx context.Context) error
}

func acts() []act {
	return []act{
		{"form", "the cluster forms itself", (*play).form},
		{"upgrade", "the database is upgraded by bumping its version", (*play).upgrade},
		{"kill-first", "the first node is killed with its database, and replaced", (*play).killFirst},
		{"kill-leader", "Raft's leader is killed with its database, and replaced", (*play).killLeader},
		{"kill-primary", "the primary is killed with its host; another takes over", (*play).killPrimary},
		{"grow", "the cluster grows to five", (*play).grow},
		{"shrink", "the cluster shrinks to three", (*play).shrink},
		{"agents", "the agents are restarted one after the other", (*play).agents},
		{"revert", "a release that does not start is rolled back by itself", (*play).revert},
	}
}

// patience is how long an act may take: far longer than it should.
const patience = 90 * time.Second

// play is a performance: the acts, what came of them, and what is seen.
type play struct {
	stage  *stage
	view   *view
	writer *writer
	doc    ferryman.Document
	began  time.Time

	mu          sync.Mutex
	current     string
	results     []result
	report      ferryman.Report
	reportErr   error
	interrupted bool
	checked     int      // keys read back
	lost        []string // and missing
	nodeTimes   []time.Duration
}

// result is what came of one act.
type result struct {
	act  act
	took time.Duration
	gap  time.Duration
	err  error
}

// run plays the acts in order. After one that failed the next would only show
// what follows from it.
func (p *play) run(ctx context.Context) {
	for _, a := range acts() {
		if ctx.Err() != nil {
			break
		}
		p.enter(a)
		began := time.Now()
		scene, cancel := context.WithTimeout(ctx, patience)
		err := a.do(p, scene)
		cancel()
		if ctx.Err() != nil {
			break // interrupted: nothing is said of the promise
		}
		_, _, gap := p.writer.seen(a.name)
		r := result{act: a, took: time.Since(began), gap: gap, err: err}
		p.mu.Lock()
		p.results = append(p.results, r)
		p.mu.Unlock()
		p.view.ended(r)
		if err != nil {
			break
		}
	}
	p.mu.Lock()
	p.interrupted = ctx.Err() != nil
	p.mu.Unlock()
}

func (p *play) enter(a act) {
	p.mu.Lock()
	p.current = a.name
	p.mu.Unlock()
	p.writer.enter(a.name)
	p.view.began(a)
}

// until looks at the cluster until f is content. In the end it tells what f
// missed and what the cluster itself says that it waits for.
func (p *play) until(ctx context.Context, f func(ferryman.Report) error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var missed, silent error
	var waits []string
	for {
		r, err := p.stage.report(ctx)
		p.see(r, err)
		if silent = err; err == nil {
			if missed = f(r); missed == nil {
				return nil
			}
			waits = nil
			for _, w := range r.Decision.Waits {
				waits = append(waits, w.Reason)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; the cluster says: %s", errors.Join(missed, silent), strings.Join(waits, "; "))
		}
	}
}

// see takes a report in: for the view, and for the client's addresses.
func (p *play) see(r ferryman.Report, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reportErr = err
	if err != nil {
		return
	}
	p.report = r
	var addrs []string
	for _, m := range r.State.Members {
		for _, svc := range m.Services {
			if m.ID == r.State.Primary.Node {
				addrs = append([]string{svc.Address}, addrs...)
			} else {
				addrs = append(addrs, svc.Address)
			}
		}
	}
	p.writer.know(addrs)
}

func (p *play) publish() error { return p.stage.publish(&p.doc) }

// settled is content with n nodes that all run the version, follow the one
// primary, and vote as they should, and no rollout open.
func settled(d ferryman.Document, version string) func(ferryman.Report) error {
	return func(r ferryman.Report) error {
		s := r.State
		if s.Accepted == nil || s.Accepted.Document.Generation != d.Generation {
			return fmt.Errorf("generation %d is not accepted", d.Generation)
		}
		if s.Rollout.Open() || s.Stale() {
			return errors.New("the rollout is open")
		}
		if len(s.Members) != d.Nodes {
			return fmt.Errorf("there are %d nodes, not %d", len(s.Members), d.Nodes)
		}
		voters := 0
		for id, m := range s.Members {
			v := r.View.Nodes[id]
			if r.View.Raft[id] == ferryman.Voter {
				voters++
			}
			if !v.Reachable || len(v.Status.Services) != 1 {
				return fmt.Errorf("%s does not answer", m.Name)
			}
			in := v.Status.Services[0].Instance
			switch {
			case in.Version != version:
				return fmt.Errorf("%s runs %q, not %s", m.Name, in.Version, version)
			case id == s.Primary.Node && !in.Writable:
				return fmt.Errorf("%s is the primary and accepts no writes", m.Name)
			case id != s.Primary.Node && !in.Streaming:
				return fmt.Errorf("%s does not stream", m.Name)
			}
		}
		if want := d.Nodes - (d.Nodes+1)%2; voters != want {
			return fmt.Errorf("%d nodes vote, not %d", voters, want)
		}
		return nil
	}
}

func (p *play) form(ctx context.Context) (err error) {
	if p.doc, err = p.stage.firstDocument(); err != nil {
		return err
	}
	if err := p.publish(); err != nil {
		return err
	}
	if err := p.until(ctx, settled(p.doc, p.doc.Database.Version)); err != nil {
		return err
	}
	p.writer.start(context.WithoutCancel(ctx), "form")
	return p.writes(ctx, 20)
}

// writes waits until n more writes were acknowledged.
func (p *play) writes(ctx context.Context, n int) error {
	from, _, _ := p.writer.seen("")
	return p.until(ctx, func(ferryman.Report) error {
		if now, _, _ := p.writer.seen(""); now < from+n {
			return fmt.Errorf("%d of %d writes were acknowledged", now-from, n)
		}
		return nil
	})
}

func (p *play) upgrade(ctx context.Context) error {
	_, next, _ := p.stage.eng.versions()
	p.doc.Database.Version = next
	if err := p.publish(); err != nil {
		return err
	}
	if err := p.until(ctx, settled(p.doc, next)); err != nil {
		return err
	}
	p.mu.Lock()
	for _, c := range p.report.State.Rollout.Parts[ferryman.PartDatabase].Carried {
		p.nodeTimes = append(p.nodeTimes, c.Ended.Sub(c.Began))
	}
	p.mu.Unlock()
	return p.writes(ctx, 20)
}

func (p *play) killFirst(ctx context.Context) error {
	return p.kill(ctx, func(r ferryman.Report) ferryman.NodeID {
		first := ferryman.Member{}
		for _, m := range r.State.Members {
			if first.ID == "" || m.Joined.Before(first.Joined) {
				first = m
			}
		}
		return first.ID
	})
}

func (p *play) killLeader(ctx context.Context) error {
	return p.kill(ctx, func(r ferryman.Report) ferryman.NodeID { return r.View.Self })
}

func (p *play) killPrimary(ctx context.Context) error {
	return p.kill(ctx, func(r ferryman.Report) ferryman.NodeID { return r.State.Primary.Node })
}

// kill ends a host as a power failure would, and waits for another in its
// place. If the primary was there, the database has another long before.
func (p *play) kill(ctx context.Context, pick func(ferryman.Report) ferryman.NodeID) error {
	var victim ferryman.Member
	if err := p.until(ctx, func(r ferryman.Report) error {
		victim = r.State.Members[pick(r)]
		if l := r.State.Primary.Lease; l == nil || !l.Enforced {
			return errors.New("failover is not automatic yet")
		}
		return settled(p.doc, p.doc.Database.Version)(r)
	}); err != nil {
		return err
	}
	if err := p.stage.quiet().Kill(ctx, victim.Name); err != nil {
		return err
	}
	p.view.note("%s is killed", victim.Name)
	if err := p.until(ctx, func(r ferryman.Report) error {
		if _, there := r.State.Members[victim.ID]; there {
			return fmt.Errorf("%s is still a member", victim.Name)
		}
		return settled(p.doc, p.doc.Database.Version)(r)
	}); err != nil {
		return err
	}
	return p.writes(ctx, 20)
}

func (p *play) grow(ctx context.Context) error   { return p.scale(ctx, 5) }
func (p *play) shrink(ctx context.Context) error { return p.scale(ctx, 3) }

func (p *play) scale(ctx context.Context, n int) error {
	p.doc.Nodes = n
	if err := p.publish(); err != nil {
		return err
	}
	if err := p.until(ctx, settled(p.doc, p.doc.Database.Version)); err != nil {
		return err
	}
	// The hosts that left must be gone as well, and no more than n may run.
	if err := p.until(ctx, func(ferryman.Report) error {
		hosts, err := p.stage.hosts()
		if err == nil && len(hosts) != n {
			err = fmt.Errorf("%d hosts run, not %d", len(hosts), n)
		}
		return err
	}); err != nil {
		return err
	}
	return p.writes(ctx, 20)
}

func (p *play) agents(ctx context.Context) error {
	boots := map[string]string{}
	starts := map[string]string{}
	r, err := p.stage.report(ctx)
	if err != nil {
		return err
	}
	for _, v := range r.View.Nodes {
		boots[v.Status.Name] = v.Status.BootID
		for _, s := range v.Status.Services {
			starts[v.Status.Name] = s.Unit.StartID
		}
	}
	p.doc.Agent.RestartGeneration++
	if err := p.publish(); err != nil {
		return err
	}
	return p.until(ctx, func(r ferryman.Report) error {
		if err := settled(p.doc, p.doc.Database.Version)(r); err != nil {
			return err
		}
		for _, v := range r.View.Nodes {
			if boots[v.Status.Name] == v.Status.BootID {
				return fmt.Errorf("the agent of %s was not restarted", v.Status.Name)
			}
			for _, s := range v.Status.Services {
				if starts[v.Status.Name] != s.Unit.StartID {
					return fmt.Errorf("the database of %s was restarted with its agent", v.Status.Name)
				}
			}
		}
		return nil
	})
}

func (p *play) revert(ctx context.Context) error {
	good := p.doc.Database.Version
	_, _, broken := p.stage.eng.versions()
	p.doc.Database.Version = broken
	if err := p.publish(); err != nil {
		return err
	}
	if err := p.until(ctx, func(r ferryman.Report) error {
		if err := settled(p.doc, good)(r); err != nil {
			return err
		}
		if got := r.State.Rollout.Parts[ferryman.PartDatabase].Status; got != ferryman.PartReverted {
			return fmt.Errorf("the rollout of %s is %s, not reverted", broken, got)
		}
		if len(r.State.Quarantined) != 1 {
			return fmt.Errorf("%d releases are in quarantine, not one", len(r.State.Quarantined))
		}
		return nil
	}); err != nil {
		return err
	}
	// The document names again what runs, as a person would have it do.
	p.doc.Database.Version = good
	if err := p.publish(); err != nil {
		return err
	}
	return p.until(ctx, settled(p.doc, good))
}

// readBack reads every acknowledged write from the primary.
func (p *play) readBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	acked, _, _ := p.writer.seen("")
	addrs := p.writer.instances()
	if acked == 0 || len(addrs) == 0 {
		return
	}
	const batch = 1000
	for from := 0; from < acked; from += batch {
		var keys []string
		for i := from; i < min(from+batch, acked); i++ {
			keys = append(keys, key(i))
		}
		found, err := p.stage.eng.read(ctx, addrs[0], keys)
		if err != nil {
			p.lost = append(p.lost, fmt.Sprintf("reading back from %s: %v", addrs[0], err))
			return
		}
		for i, k := range keys {
			p.checked++
			if found[k] != value(from+i) {
				p.lost = append(p.lost, k)
			}
		}
	}
}

// broken tells whether any promise was.
func (p *play) broken() bool {
	failed := slices.ContainsFunc(p.results, func(r result) bool { return r.err != nil })
	acked, _, _ := p.writer.seen("")
	return failed || len(p.results) != len(acts()) || len(p.lost) > 0 || p.checked != acked || acked == 0
}
