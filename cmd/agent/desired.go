package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ferryman/agent/source"
)

func desiredCommand() *cobra.Command {
	return family("desired", "Check, sign and verify desired-state documents",
		desiredValidateCommand(), desiredKeygenCommand(), desiredSignCommand(), desiredVerifyCommand())
}

func desiredValidateCommand() *cobra.Command {
	return &cobra.Command{Use: "validate FILE", Short: "Tell all that is wrong with a document, signed or not (- is the standard input)", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			raw, err := readDocument(c, name)
			if err != nil {
				return err
			}
			doc, err := source.Read(raw, name)
			if err != nil {
				return unusable(err)
			}
			switch {
			case source.Signed(raw):
				say(c, "%s is good: generation %d, nodes: %d; who signed it is for `ferryman desired verify` to say", name, doc.Generation, doc.Nodes)
			case doc.Generation == 0:
				say(c, "%s is good; it names no generation, so it is refused once a cluster accepted one that does", name)
			default:
				say(c, "%s is good: generation %d, nodes: %d", name, doc.Generation, doc.Nodes)
			}
			return nil
		}}
}

// readDocument reads a document or an envelope from a file, or from the
// standard input if name is -.
func readDocument(c *cobra.Command, name string) ([]byte, error) {
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, unusable(err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, source.MaxEnvelope+1)) // one more is too long
	if err != nil {
		return nil, unusable(fmt.Errorf("read the document: %w", err))
	}
	return raw, nil
}
