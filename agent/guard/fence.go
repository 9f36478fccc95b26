package guard

import (
	"context"
	"time"

	"ferryman/dbhooks"
)

const (
	// killTime bounds one try to see the database's end, so that one that cannot die does not keep the marker from being written.
	killTime = time.Second
	// killAgain and markAgain are the pauses between tries.
	killAgain = 100 * time.Millisecond
	markAgain = time.Second
)

// kill says whether nothing of the database was seen to be left.
func (g *guard) kill(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	err := g.Spec.Target.Kill(ctx)
	if err != nil {
		g.Log.Error("guard: the database is not seen dead; killing it again", "error", err)
	}
	return err == nil
}

// fence returns when the database was seen dead and its marker says that it is fenced, and does not give up before ctx ends.
//
// It kills, marks, and kills again. The first kill must be in time, so it waits for no disk. A process that somebody started between it and the marker may
// know nothing of the marker, and dies of the second. One that is started after that reads the marker. Killing goes on for as long as the marker cannot be
// written, and is never held up by it.
func (a *active) fence(ctx context.Context, epoch uint64) error {
	began := Boottime()
	empty := a.kill(ctx)
	a.Log.Info("guard: killed the database", "epoch", epoch, "seen_dead", empty, "took", Boottime()-began)

	marked := make(chan error, 1)
	mark := func() { a.tasks.Go(func() { marked <- a.mark(epoch) }) }
	mark()
	again := time.NewTicker(killAgain)
	defer again.Stop()
	var retry <-chan time.Time
	for done := false; ; {
		select {
		case err := <-marked:
			if done = err == nil; !done {
				a.Log.Error("guard: the database's marker does not say that it is fenced; trying again", "epoch", epoch, "error", err)
				retry = time.After(markAgain)
			}
		case <-retry:
			retry = nil
			mark()
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if a.kill(ctx) && done {
			a.Log.Info("guard: fenced the database", "epoch", epoch, "took", Boottime()-began)
			return nil
		}
	}
}

func (a *active) mark(epoch uint64) error {
	if a.Spec.Marker == "" {
		return nil
	}
	return dbhooks.FenceMarker(a.Spec.Marker, epoch)
}
