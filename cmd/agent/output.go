package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"ferryman/cmd/agent/internal/render"
)

// The forms in which data are written.
const (
	formTable = "table"
	formJSON  = "json"
	formYAML  = "yaml"
)

// output is the -o flag of a verb.
type output struct{ form string }

func (o *output) flags(c *cobra.Command) {
	c.Flags().StringVarP(&o.form, "output", "o", formTable, "table, json or yaml")
	_ = c.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{formTable, formJSON, formYAML}, cobra.ShellCompDirectiveNoFileComp
	}) // fails for a flag that there is not, or twice
}

func (o *output) check() error {
	switch o.form {
	case formTable, formJSON, formYAML:
		return nil
	}
	return usage("-o %s: must be table, json or yaml", o.form)
}

// write writes data as JSON or YAML; tables are drawn by who knows what is in them.
func (o *output) write(w io.Writer, data any) error {
	if o.form == formYAML {
		return writeYAML(w, data)
	}
	return writeJSON(w, data, "  ")
}

// look has colours on a terminal only, and where nobody objects
// (https://no-color.org).
func look(w io.Writer) render.Options {
	return render.Options{Color: terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func writeJSON(w io.Writer, data any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(data)
}

// writeYAML writes what JSON would say: JSON is YAML, so that names and order
// are those of the json tags.
func writeYAML(w io.Writer, data any) error {
	var buffer bytes.Buffer
	if err := writeJSON(&buffer, data, ""); err != nil {
		return err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(buffer.Bytes(), &root); err != nil {
		return err
	}
	plain(&root)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	return e.Encode(&root)
}

// plain drops the looks of JSON; quotes stay where YAML needs them.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}
