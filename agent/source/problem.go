package source

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ferryman"
)

// Problem is one thing that is wrong with a document. It is a
// ferryman.ErrInvalid.
type Problem struct {
	Name   string // of the document, as given to Parse; may be empty
	Line   int    // from 1; 0 where there is none
	Path   string // such as rollout.windows[0]; empty for the whole document
	Reason string
}

// Error reads "orders.yaml:7: rollout.canary: must not be negative".
func (p Problem) Error() string {
	var parts []string
	switch {
	case p.Line > 0 && p.Name != "":
		parts = append(parts, fmt.Sprintf("%s:%d", p.Name, p.Line))
	case p.Line > 0:
		parts = append(parts, fmt.Sprintf("line %d", p.Line))
	case p.Name != "":
		parts = append(parts, p.Name)
	}
	if p.Path != "" {
		parts = append(parts, p.Path)
	}
	return strings.Join(append(parts, p.Reason), ": ")
}

// Unwrap makes every problem a ferryman.ErrInvalid.
func (p Problem) Unwrap() error { return ferryman.ErrInvalid }

// maxProblems is how many problems are told at once: enough to correct a file
// in one go, and few enough for an event.
const maxProblems = 10

// join makes one error of problems, in the order of their lines.
func join(problems []Problem) error {
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, p := range problems {
		if i == maxProblems {
			errs = append(errs, fmt.Errorf("and %d more", len(problems)-i))
			break
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}
