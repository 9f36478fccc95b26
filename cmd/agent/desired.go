package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"ferryman/agent/source"
)

func desiredCommand() *cobra.Command {
	return family("desired", "Check desired-state documents", desiredValidateCommand())
}

func desiredValidateCommand() *cobra.Command {
	return &cobra.Command{Use: "validate FILE", Short: "Tell all that is wrong with a document (- is the standard input)", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name, in := args[0], c.InOrStdin()
			if name != "-" {
				f, err := os.Open(name)
				if err != nil {
					return unusable(err)
				}
				defer f.Close()
				in = f
			}
			raw, err := io.ReadAll(io.LimitReader(in, source.MaxDocument+1)) // one more is too long
			if err != nil {
				return unusable(err)
			}
			doc, err := source.Parse(raw, name)
			if err != nil {
				return unusable(err)
			}
			if doc.Generation == 0 {
				say(c, "%s is good; it names no generation, so it is refused once a cluster accepted one that does", name)
				return nil
			}
			say(c, "%s is good: generation %d, nodes: %d", name, doc.Generation, doc.Nodes)
			return nil
		}}
}
