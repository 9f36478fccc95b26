package main

import (
	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/cmd/agent/internal/render"
)

func planCommand() *cobra.Command {
	var v viewer
	c := &cobra.Command{Use: "plan", Short: "Show what would be done next, and why no more (changes nothing)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return v.show(c, page{table: render.Plan, data: func(r ferryman.Report) any { return r.Decision }})
		}}
	v.flags(c, false)
	return c
}
