package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// manCommand prints ferryman(1), for packages.
func manCommand() *cobra.Command {
	return &cobra.Command{Use: "man", Short: "Print the manual page of the command line", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return writeMan(c.OutOrStdout(), c.Root()) }}
}

// writeMan writes what the help says of each verb, as man(7) has it.
func writeMan(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH FERRYMAN 1 \"\" \"Ferryman\"\n.SH NAME\nferryman \\- %s\n", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B ferryman\n.I verb\n[\\fIarguments\\fR] [\\fIflags\\fR]\n")
	fmt.Fprintf(&b, ".SH DESCRIPTION\nOne program is the agent beside a database node, the reference api-server, and the verbs by which a person talks to a cluster.\n")
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, ".SH %s\n", roff(strings.ToUpper(strings.TrimSuffix(g.Title, ":"))))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				manVerb(&b, c)
			}
		}
	}
	fmt.Fprintf(&b, ".SH EXIT STATUS\n")
	for _, m := range exitStatuses() {
		fmt.Fprintf(&b, ".TP\n%d\n%s\n", m.code, roff(m.text))
	}
	fmt.Fprintf(&b, ".SH ENVIRONMENT\n.TP\n.B %s\nThe agent's control socket, for the verbs that ask it.\n.TP\n.B NO_COLOR\nNo colours.\n", socketEnv)
	fmt.Fprintf(&b, ".SH SEE ALSO\n.BR ferryman\\-agent.yaml (5),\n.BR ferryman\\-service (8)\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// manVerb writes one verb, and those below it.
func manVerb(b *strings.Builder, c *cobra.Command) {
	if !c.IsAvailableCommand() {
		return
	}
	if c.Runnable() && !c.HasAvailableSubCommands() {
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(strings.TrimSuffix(c.UseLine(), " [flags]")), roff(text))
		if flags := c.LocalFlags().FlagUsages(); flags != "" {
			fmt.Fprintf(b, "\n.nf\n%s\n.fi\n", roff(strings.TrimRight(flags, "\n")))
		}
	}
	for _, below := range c.Commands() {
		manVerb(b, below)
	}
}

// roff is a text of several lines, none of which is taken for a request.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
