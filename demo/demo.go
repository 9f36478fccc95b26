// Package demo shows the main job on one machine: an api-server and agents as
// real processes, each with a real database process beside it, and a client
// that keeps writing while the cluster forms, is upgraded, loses hosts, grows,
// shrinks, restarts its agents and takes a bad release back. Every act has a
// check that can fail, and in the end every acknowledged write is read again.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Options are what a person may choose.
type Options struct {
	Engine string // demodb or redis
	Keep   bool   // leave the cluster running at the end
	Plain  bool   // lines rather than a live view
	Out    io.Writer
	// Width of the terminal; zero when Out is none.
	Width int
}

// ErrBroken means that a promise was broken; the summary says which.
var ErrBroken = errors.New("the demo broke a promise")

// Run plays the acts. It ends everything that it started, unless Keep is set, and
// removes its files, unless it broke a promise.
func Run(ctx context.Context, o Options) (err error) {
	eng, err := newEngine(o.Engine)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := sweep(os.TempDir(), o.Out); err != nil {
		fmt.Fprintln(o.Out, err) // no reason not to play
	}
	st, err := build(ctx, eng, self)
	if err != nil {
		return err
	}
	v := newView(o)
	defer func() {
		switch {
		case o.Keep:
			err = errors.Join(err, st.disown())
			st.handOver(o.Out)
		case errors.Is(err, ErrBroken):
			err = errors.Join(err, st.leave())
			fmt.Fprintf(o.Out, "What its hosts logged is kept: %s\nRemove it with: %s demo --stop %s\n", filepath.Join(st.dir, "hosts", "*", "agent.log"), st.program, st.dir)
		default:
			err = errors.Join(err, st.strike())
		}
	}()
	if err := st.serve(ctx); err != nil {
		return err
	}

	p := &play{stage: st, view: v, writer: newWriter(st, eng), began: time.Now()}
	ctx, cancel := context.WithCancel(ctx)
	watched := v.watch(ctx, p)
	p.run(ctx)
	p.writer.stop()
	if ctx.Err() == nil {
		p.readBack(ctx)
	}
	cancel()
	<-watched
	p.summary(o.Out)
	switch {
	case context.Cause(ctx) != nil && p.interrupted:
		return errors.New("the demo was interrupted; everything it started is ended")
	case p.broken():
		return ErrBroken
	}
	return nil
}

// handOver tells how to talk to a cluster that is left running.
func (s *stage) handOver(w io.Writer) {
	hosts, _ := s.hosts()
	fmt.Fprintf(w, "\nThe cluster keeps running in %s.\n", s.dir)
	if len(hosts) > 0 {
		fmt.Fprintf(w, "  %s status --socket %s\n", s.program, s.socket(hosts[0]))
	}
	fmt.Fprintf(w, "  change the desired state:  $EDITOR %s\n", s.document)
	fmt.Fprintf(w, "  end all of it:             %s demo --stop %s\n", s.program, s.dir)
}

// Stop ends a demo that was left running, or that crashed, and removes its
// directory, which Run made.
func Stop(dir string) error {
	if _, err := os.Stat(dir + "/" + documentFile); err != nil {
		return fmt.Errorf("%s is not the directory of a demo: %w", dir, err)
	}
	s := reopen(dir)
	return s.strike()
}
