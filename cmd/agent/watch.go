package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/rpc"
	"ferryman/cmd/agent/internal/render"
)

// watchEvery is how often a watched page is drawn anew.
const watchEvery = time.Second

// page is what a verb shows of the leader's report.
type page struct {
	table func(io.Writer, ferryman.Report, render.Options) error
	data  func(ferryman.Report) any
	// done ends a watch, perhaps with an error; nil watches until interrupted.
	done func(ferryman.Report) (bool, error)
	// log is set where a watch adds to what was shown, rather than showing all
	// again: it tells whether there is something to add.
	log func(ferryman.Report) bool
}

// viewer is a verb that shows a page, once or again and again.
type viewer struct {
	console
	output
	watch bool
}

func (v *viewer) flags(c *cobra.Command, watchable bool) {
	v.console.flags(c)
	v.output.flags(c)
	if watchable {
		c.Flags().BoolVarP(&v.watch, "watch", "w", false, "go on showing it; --timeout then bounds the whole")
	}
}

// show shows the page.
func (v *viewer) show(c *cobra.Command, p page) error {
	if err := v.check(); err != nil {
		return err
	}
	if v.watch {
		return v.follow(c, p)
	}
	return v.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
		r, err := client.Report(ctx)
		if err != nil {
			return err
		}
		return v.draw(c.OutOrStdout(), r, p)
	})
}

func (v *viewer) draw(w io.Writer, r ferryman.Report, p page) error {
	if v.form == formTable {
		return p.table(w, r, look(w))
	}
	return v.write(w, p.data(r))
}

// follow shows the page until the watch is over: drawn in place on a terminal,
// one after the other where it is piped, and there only what is news. An agent
// that is away for a moment does not end it.
func (v *viewer) follow(c *cobra.Command, p page) error {
	out := c.OutOrStdout()
	live := terminal(out) && v.form == formTable
	if p.log != nil {
		live = false
	}
	ctx, cancel := context.WithCancel(c.Context())
	bounded := c.Flags().Changed("timeout")
	if bounded {
		ctx, cancel = context.WithTimeout(c.Context(), v.timeout)
	}
	defer cancel()
	return v.with(c, func(client *rpc.ControlClient) error {
		var last ferryman.Report
		first, told := true, ""
		for {
			r, err := v.ask(ctx, client)
			switch {
			case ctx.Err() != nil:
			case err != nil && first:
				return err
			case err != nil:
				if text := err.Error(); text != told {
					complain(c.ErrOrStderr(), fmt.Errorf("%w; still watching", err))
					told = text
				}
			case live || p.log != nil && p.log(r) || p.log == nil && (first || news(last, r)):
				if err := v.next(out, r, p, live, first); err != nil {
					return err
				}
				last = r
			}
			if err == nil {
				first, told = false, ""
			}
			if err == nil && p.done != nil {
				if over, err := p.done(r); over {
					return err
				}
			}
			select {
			case <-ctx.Done():
				return v.over(c, p)
			case <-time.After(watchEvery):
			}
		}
	})
}

func (v *viewer) ask(ctx context.Context, client *rpc.ControlClient) (ferryman.Report, error) {
	call, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return client.Report(call)
}

// over is the end of a watch that did not end by itself.
func (v *viewer) over(c *cobra.Command, p page) error {
	switch {
	case p.done == nil:
		return nil // it was watched for as long as it was wanted
	case c.Context().Err() != nil:
		return exitStatus{exitFailed, errors.New("interrupted")}
	}
	return exitStatus{exitFailed, fmt.Errorf("it has not ended within %s; `ferryman rollout status` says why it waits", v.timeout)}
}

// next draws one more time: live over what was there.
func (v *viewer) next(w io.Writer, r ferryman.Report, p page, live, first bool) error {
	if live {
		var screen bytes.Buffer
		screen.WriteString("\x1b[H\x1b[2J") // drawn at once, so that it does not flicker
		if err := p.table(&screen, r, look(w)); err != nil {
			return err
		}
		_, err := w.Write(screen.Bytes())
		return err
	}
	between := ""
	switch {
	case first:
	case v.form == formYAML:
		between = "---\n"
	case v.form == formTable && p.log == nil:
		between = "\n"
	}
	if _, err := io.WriteString(w, between); err != nil {
		return err
	}
	return v.draw(w, r, p)
}

// news tells whether a report says more than that time went by.
func news(old, now ferryman.Report) bool { return digest(old) != digest(now) }

// digest is what a page shows, without ages and positions. Maps print sorted.
func digest(r ferryman.Report) string {
	var open []uint64
	for _, s := range r.State.Ledger {
		if s.Open() {
			open = append(open, s.ID)
		}
	}
	var waits []string
	for _, w := range r.Decision.Waits {
		waits = append(waits, w.Code, string(w.Node))
	}
	nodes := map[ferryman.NodeID][2]bool{}
	for id, n := range r.View.Nodes {
		nodes[id] = [2]bool{n.Reachable, n.CaughtUp}
	}
	return fmt.Sprint(r.State.LastEvent, r.View.Self, r.View.Raft, open, waits, nodes)
}
