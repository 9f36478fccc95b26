package render

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// style is how a text looks on a terminal that has colours.
type style string

const (
	plain style = ""
	bold  style = "1"
	dim   style = "2"
	red   style = "31"
	green style = "32"
	amber style = "33"
)

// text is a styled piece of a line.
type text struct {
	s     string
	style style
}

// page writes lines, and keeps the first error.
type page struct {
	w     io.Writer
	color bool
	err   error
}

func (p *page) paint(t text) string {
	if !p.color || t.style == plain || t.s == "" {
		return t.s
	}
	return "\x1b[" + string(t.style) + "m" + t.s + "\x1b[0m"
}

func (p *page) line(parts ...text) {
	var b strings.Builder
	for _, t := range parts {
		b.WriteString(p.paint(t))
	}
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, strings.TrimRight(b.String(), " "))
	}
}

func (p *page) printf(format string, args ...any) { p.line(text{s: fmt.Sprintf(format, args...)}) }

func (p *page) heading(format string, args ...any) {
	p.line(text{fmt.Sprintf(format, args...), bold})
}

// table writes rows in columns; the first row is the heading. Widths are those
// of what is seen, which text/tabwriter cannot do for coloured text.
func (p *page) table(indent string, heading []string, rows [][]text) {
	all := make([][]text, 0, len(rows)+1)
	if heading != nil {
		first := make([]text, len(heading))
		for i, h := range heading {
			first[i] = text{h, dim}
		}
		all = append(all, first)
	}
	all = append(all, rows...)
	var width []int
	for _, row := range all {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell.s))
		}
	}
	for _, row := range all {
		parts := []text{{s: indent}}
		below := len(indent)
		for i, cell := range row {
			if i < len(row)-1 {
				parts = append(parts, cell, text{s: strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell.s)+2)})
				below += width[i] + 2
				continue
			}
			// Only the last column has more than one line.
			cell.s = strings.ReplaceAll(cell.s, "\n", "\n"+strings.Repeat(" ", below))
			parts = append(parts, cell)
		}
		p.line(parts...)
	}
}
