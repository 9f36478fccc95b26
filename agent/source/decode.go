package source

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder carries a tree of YAML nodes into structs by their json tags. The
// libraries' own decoders stop at the first unknown key, or tell no line or no
// path; a person who corrects a file at night needs all three.
type decoder struct {
	problems []Problem
	lines    map[string]int // where each path is set
	minimal  bool           // the document is the smallest form
}

func valueOf(pointer any) reflect.Value { return reflect.ValueOf(pointer).Elem() }

func (d *decoder) add(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: line, Path: path, Reason: fmt.Sprintf(format, args...)})
}

var (
	decimal  = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	timeType = reflect.TypeFor[time.Time]()
)

// value decodes n, which stands at path, into v.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	fail := func(format string, args ...any) { d.add(n.Line, path, format, args...) }
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		fail("anchors and aliases are not accepted; write it out")
		return
	case n.Style&yaml.TaggedStyle != 0:
		fail("the tag %s is not accepted", short(n.Tag))
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		fail("is empty; give it a value, or leave the key out")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	wrong := func(want string) { fail("is %s; expected %s", describe(n), want) }

	if v.Type() == timeType {
		t, err := time.Parse(time.RFC3339, n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			wrong("a time such as 2027-01-01T00:00:00Z")
			return
		}
		v.Set(reflect.ValueOf(t.UTC()))
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode {
			wrong("one value")
		} else if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			if len(n.Value) > maxShown {
				wrong("another value")
				return
			}
			fail("%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			wrong("keys with values")
			return
		}
		d.fields(n, v, path)
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			wrong("keys with values")
			return
		}
		d.entries(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			wrong("a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.lines[at] = item.Line
			d.value(item, v.Index(i), at)
		}
	case reflect.String:
		switch {
		case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
			v.SetString(n.Value)
		case n.Kind == yaml.ScalarNode:
			// 15.20 without quotes is the number 15.2 to every other tool.
			wrong("text: put it in quotes")
		default:
			wrong("text")
		}
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			wrong("true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if !plainNumber(n) || err != nil {
			wrong("a whole number")
			return
		}
		v.SetInt(i)
	case reflect.Uint64:
		i, err := strconv.ParseUint(n.Value, 10, 64)
		if !plainNumber(n) || err != nil {
			wrong("a whole number from 0 on")
			return
		}
		v.SetUint(i)
	default:
		panic(fmt.Sprintf("source: the document has a field of type %s at %s, which cannot be decoded", v.Type(), path))
	}
}

// plainNumber tells whether n is a number that everybody reads alike; 010 is 8
// to some and 10 to others.
func plainNumber(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style == 0 && decimal.MatchString(n.Value)
}

// fields decodes a mapping into the struct v.
func (d *decoder) fields(n *yaml.Node, v reflect.Value, path string) {
	var known []string
	index := map[string]int{}
	required := map[string]bool{}
	for i := range v.NumField() {
		key, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		known = append(known, key)
		index[key] = i
		required[key] = options == ""
	}
	d.pairs(n, path, func(key, value *yaml.Node) {
		at := dotted(path, key.Value)
		i, ok := index[key.Value]
		if !ok {
			d.add(key.Line, dotted(path, short(key.Value)), "unknown key%s", suggestion(key.Value, known))
			return
		}
		d.lines[at] = key.Line
		delete(required, key.Value)
		d.value(value, v.Field(i), at)
		if v.Field(i).Kind() == reflect.String && value.Tag == "!!str" && value.Value == "" {
			d.add(value.Line, at, "is empty; give it a value, or leave the key out")
		}
	})
	for _, key := range known {
		if required[key] {
			d.add(n.Line, dotted(path, key), "is missing")
		}
	}
}

// entries decodes a mapping into the map v, whose keys are the user's.
func (d *decoder) entries(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, path, func(key, value *yaml.Node) {
		at := fmt.Sprintf("%s[%s]", path, short(key.Value))
		d.lines[at] = key.Line
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(value, item, at)
		v.SetMapIndex(reflect.ValueOf(key.Value), item)
	})
}

// pairs calls f for each key of a mapping, and refuses what is not a key or is
// set twice.
func (d *decoder) pairs(n *yaml.Node, path string, f func(key, value *yaml.Node)) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.AliasNode || key.Anchor != "" || key.Tag == "!!merge":
			d.add(key.Line, path, "anchors, aliases and merge keys are not accepted; write it out")
			continue
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str":
			d.add(key.Line, path, "a key is %s; expected text", describe(key))
			continue
		}
		if line, ok := first[key.Value]; ok {
			d.add(key.Line, dotted(path, short(key.Value)), "is set twice, first in line %d", line)
			continue
		}
		first[key.Value] = key.Line
		f(key, value)
	}
}

func dotted(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// maxShown is how much of a text from a document is repeated in an error.
const maxShown = 60

func short(text string) string {
	if len(text) > maxShown {
		return strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return text
}

// describe says what a node is, for an error about its type.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.Tag == "!!int" || n.Tag == "!!float" {
		return "the number " + short(n.Value)
	}
	if n.Tag == "!!bool" {
		return n.Value
	}
	return fmt.Sprintf("%q", short(n.Value))
}

// suggestion names the known key that is nearest to what was written, if one is
// near enough to be what was meant.
func suggestion(key string, known []string) string {
	if len(key) > maxShown || len(known) == 0 {
		return ""
	}
	nearest := slices.MinFunc(known, func(a, b string) int { return distance(key, a) - distance(key, b) })
	if distance(key, nearest) > max(2, len(nearest)/3) {
		return fmt.Sprintf("; known here: %s", strings.Join(known, ", "))
	}
	return fmt.Sprintf("; did you mean %s?", nearest)
}

// distance is how many letters must be changed, added or left out to make b of
// a (Levenshtein's distance), upper and lower case being the same.
func distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
