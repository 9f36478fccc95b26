package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ferryman"
)

// stage makes a release complete on this node and then removes old ones.
func (r *Runner) stage(ctx context.Context, s ferryman.Step) (effect, error) {
	if s.Args.Release == nil {
		return effect{}, fmt.Errorf("stage %s %s: the step says nothing of how it is installed: %w", s.Args.Engine, s.Args.Version, ferryman.ErrInvalid)
	}
	if _, err := r.deps.Store.Stage(ctx, s.Args.Engine, s.Args.Version, *s.Args.Release); err != nil {
		return effect{}, err
	}
	if s.Args.Keep > 0 {
		if _, err := r.deps.Store.Prune(ctx, s.Args.Engine, s.Args.Keep, r.inUse(s)...); err != nil {
			// The release is there, which is what the step is for; a full disk will say so itself.
			r.log.Warn("old releases could not be removed", "engine", s.Args.Engine, "err", err)
		}
	}
	return effect{}, nil
}

// inUse are the paths that pruning must spare: what is being staged, and what services run or are to run.
func (r *Runner) inUse(s ferryman.Step) []string {
	versions := []string{s.Args.Version}
	for _, w := range r.watchers {
		if w.svc.Service.Engine == s.Args.Engine {
			sel := r.journal.selection(w.svc.Slot)
			versions = append(versions, sel.Selected.Version, sel.Launched.Version)
		}
	}
	all, _ := r.deps.Store.List(s.Args.Engine) // when it fails, so does Prune
	var paths []string
	for _, in := range all {
		if slices.Contains(versions, in.Version) {
			paths = append(paths, in.Path)
		}
	}
	return paths
}

// switchAgent makes another version of the agent the one that starts next.
func (r *Runner) switchAgent(ctx context.Context, s ferryman.Step) (effect, error) {
	if s.Args.Engine != ferryman.AgentEngine {
		return effect{}, fmt.Errorf("switch %s %s: no service is named: %w", s.Args.Engine, s.Args.Version, ferryman.ErrInvalid)
	}
	limit := s.Deadline
	if limit <= 0 {
		limit = ferryman.DefaultStepDeadline
	}
	if s.Args.Version == "" { // the one that the host has installed
		return effect{}, r.deps.Store.Try(ctx, s.Args.Engine, "", "", s.ID, limit.Std())
	}
	in, err := r.find(s.Args.Engine, s.Args.Version, digestOf(s.Args))
	if err != nil {
		return effect{}, err
	}
	return effect{}, r.deps.Store.Try(ctx, in.Engine, in.Version, in.SHA256, s.ID, limit.Std())
}

// Prove notes how far this agent's release on trial, if it is on trial, has come by what the cluster knows of it: it has arrived once the passage is over
// that switched to it, which the leader only ends when it sees the agent caught up, and proved itself once its version is that of all.
func (r *Runner) Prove(self ferryman.NodeID, s ferryman.State) error {
	t, err := r.deps.Store.Trial(ferryman.AgentEngine)
	if err != nil || !t.Open() || t.Digest() != r.deps.Release || s.LastStep < t.Step || s.Rollout == nil {
		return err // or it is another that runs
	}
	if _, carried := s.Rollout.Passages[self]; carried {
		return nil
	}
	if s.Rollout.Parts[ferryman.PartAgents].Status.Done() && s.Complete[ferryman.PartAgents].Target.Version == t.Version {
		return r.deps.Store.Confirm(ferryman.AgentEngine)
	}
	return r.deps.Store.Arrive(ferryman.AgentEngine)
}

// EndStart notes that this agent ends in order, which says nothing against its release.
func (r *Runner) EndStart() error { return r.deps.Store.EndStart(ferryman.AgentEngine) }

// exit ends the agent, so that it comes up again under another generation. The record comes first: an agent that ended before its record would end
// again, and again, whenever the step is asked for. One that came up as that already has nothing to do: it was asked while it was away.
func (r *Runner) exit(s ferryman.Step) (effect, error) {
	r.board.mu.Lock()
	another := r.board.agent != r.deps.Release
	r.board.mu.Unlock()
	if (s.Args.Engine == ferryman.AgentEngine || s.Args.RestartGeneration > 0) && r.generation >= s.Args.RestartGeneration && !another {
		return effect{}, nil
	}
	return effect{
		note: func(b *book) { b.Agent = s.Args.RestartGeneration },
		then: func() {
			r.deps.Exit(fmt.Sprintf("step %d restarts the agent (restart generation %d)", s.ID, s.Args.RestartGeneration))
		},
	}, nil
}

// Depart has this node leave although no step says so: it is no member any
// more, and no step can reach it. It only gives up power, which a node may.
func (r *Runner) Depart(why string) error {
	_, err := r.Run(ferryman.Step{Op: ferryman.OpDepart, Attempt: 1, Deadline: ferryman.Duration(time.Minute)})
	if err != nil {
		return fmt.Errorf("depart (%s): %w", why, err)
	}
	return nil
}

// depart stops the services and ends the agent for good.
func (r *Runner) depart(ctx context.Context, s ferryman.Step) (effect, error) {
	var errs []error
	for _, w := range r.watchers {
		errs = append(errs, w.stop(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return effect{}, err
	}
	why := fmt.Sprintf("step %d removed it from the cluster", s.ID)
	if s.ID == 0 {
		why = "it is no member of its cluster any more"
	}
	return effect{
		note: func(b *book) { b.Departed = why },
		then: func() { r.deps.Exit(why) },
	}, nil
}
