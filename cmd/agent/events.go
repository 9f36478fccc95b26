package main

import (
	"io"
	"slices"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/cmd/agent/internal/render"
)

func eventsCommand() *cobra.Command {
	var v viewer
	c := &cobra.Command{Use: "events", Short: "Show what happened lately, oldest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var shown uint64 // of a watch: up to here
			fresh := func(r ferryman.Report) []ferryman.Event {
				return slices.DeleteFunc(append([]ferryman.Event{}, r.State.Events...), func(e ferryman.Event) bool { return e.Seq <= shown })
			}
			p := page{
				table: func(w io.Writer, r ferryman.Report, o render.Options) error {
					r.State.Events, shown = fresh(r), r.State.LastEvent
					return render.Events(w, r, o)
				},
				data: func(r ferryman.Report) any {
					events := fresh(r)
					shown = r.State.LastEvent
					return events
				},
				log: func(r ferryman.Report) bool { return r.State.LastEvent > shown },
			}
			return v.show(c, p)
		}}
	v.flags(c, true)
	return c
}
