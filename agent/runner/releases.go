package runner

import (
	"errors"
	"fmt"
	"slices"

	"ferryman"
	"ferryman/upgrade/install"
)

// engines are those of which this node may hold releases.
func (r *Runner) engines() []string {
	all := []string{ferryman.AgentEngine}
	for _, w := range r.watchers {
		if e := w.svc.Service.Engine; !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// inherit takes over what is current in the store, for services of which nothing is noted: their first start, or a lost journal.
func (r *Runner) inherit() error {
	for _, w := range r.watchers {
		var known bool
		r.journal.read(func(b *book) { _, known = b.Services[w.svc.Slot] })
		if known {
			continue
		}
		in, err := r.deps.Store.Current(w.svc.Service.Engine)
		if errors.Is(err, install.ErrNone) {
			continue
		}
		if err != nil {
			// An agent that does not come up could not be told to switch to another; the problem is shown.
			r.log.Error("which version a service is to run is not known", "service", w.svc.Slot, "err", err)
			continue
		}
		err = r.journal.change(func(b *book) {
			b.service(w.svc.Slot, func(s *selection) { s.Selected.Version, s.Digest = in.Version, in.SHA256 })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// find returns the release that is staged under that version. Without a digest the version must be there only once.
func (r *Runner) find(engine, version, digest string) (install.Installed, error) {
	all, err := r.deps.Store.List(engine)
	if err != nil {
		return install.Installed{}, fmt.Errorf("look for %s %s: %w", engine, version, err)
	}
	all = slices.DeleteFunc(all, func(in install.Installed) bool {
		return in.Version != version || digest != "" && in.SHA256 != digest
	})
	switch len(all) {
	case 0:
		return install.Installed{}, fmt.Errorf("%s %s: %w: stage it first", engine, version, install.ErrNotStaged)
	case 1:
		return all[0], nil
	}
	return install.Installed{}, fmt.Errorf("%s %s is staged here with %d digests, and the step names none: %w", engine, version, len(all), ferryman.ErrConflict)
}

// digestOf is the digest of the release that the step means, "" when it names none.
func digestOf(a ferryman.Args) string {
	if a.Release == nil {
		return ""
	}
	return install.Digest(*a.Release)
}

// observeStore reads anew which releases are whole, and which are selected.
func (r *Runner) observeStore() {
	var staged, selected []string
	var errs []error
	var agent string
	for _, engine := range r.engines() {
		all, err := r.deps.Store.List(engine)
		for _, in := range all {
			staged = append(staged, in.Release().Digest())
		}
		now, currentErr := r.deps.Store.Current(engine)
		if currentErr == nil {
			selected = append(selected, ferryman.ReleaseKey(engine, now.Version))
			if engine == ferryman.AgentEngine {
				agent = now.Release().Digest()
			}
		} else if errors.Is(currentErr, install.ErrNone) {
			currentErr = nil
		}
		errs = append(errs, err, currentErr)
	}
	var putBack *ferryman.PutBack
	t, err := r.deps.Store.Trial(ferryman.AgentEngine)
	if errs = append(errs, err); t.PutBack != "" {
		putBack = &ferryman.PutBack{Version: t.Version, Digest: t.Digest(), Reason: t.PutBack}
	}
	slices.Sort(staged)
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.board.staged, r.board.selected, r.board.problem = slices.Compact(staged), selected, ""
	r.board.agent, r.board.putBack = agent, putBack
	if err := errors.Join(errs...); err != nil {
		r.board.problem = fmt.Sprintf("which releases are installed is not quite known: %v", err)
	}
}
