package config

import (
	"fmt"
	"strings"

	"ferryman"
)

// place is where something was set: a line of a file, or a variable.
type place struct {
	File string
	Line int
}

func (p place) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return p.File
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	place
	Key  string // "cluster.max_voters"; empty where no key is to blame
	Text string
}

func (p Problem) Error() string {
	if p.Key == "" {
		return fmt.Sprintf("%s: %s", p.place, p.Text)
	}
	return fmt.Sprintf("%s: %s: %s", p.place, p.Key, p.Text)
}

// Problems are all that is wrong, in the order in which it was found.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Is makes every Problems an ErrInvalid.
func (p Problems) Is(target error) bool { return target == ferryman.ErrInvalid }

// err is nil when nothing is wrong.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// hint names the known key that was probably meant: the same name in another
// section, or a similar one.
func (s schema) hint(key string) string {
	name := func(k string) string { return k[strings.LastIndexByte(k, '.')+1:] }
	for _, k := range s.settings() {
		if name(k) == name(key) {
			return "; did you mean " + k + "?"
		}
	}
	if near := nearest(key, s); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// nearest is the known name with the fewest edits to word, if they are few; of
// equals the first in order, so that the answer does not vary.
func nearest[V any](word string, known map[string]V) string {
	best, edits := "", max(2, len(word)/4)+1
	for k := range known {
		if d := distance(word, k); d < edits || d == edits && best != "" && k < best {
			best, edits = k, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
