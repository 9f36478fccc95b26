package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// schema is every key that there is, by its path ("node.name"), with the type
// of its value; sections have their paths in it too, with a struct type.
type schema map[string]reflect.Type

func schemaOf(t reflect.Type) schema {
	s := schema{}
	s.add("", t)
	return s
}

func (s schema) add(prefix string, t reflect.Type) {
	for f := range t.Fields() {
		key := prefix + f.Tag.Get("yaml")
		s[key] = f.Type
		if f.Type.Kind() == reflect.Struct {
			s.add(key+".", f.Type)
		}
	}
}

// settings are the keys that take a value, sorted.
func (s schema) settings() []string {
	var keys []string
	for k, t := range s {
		if t.Kind() != reflect.Struct {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// check reads one file against the schema, and notes where each key stands.
func (s schema) check(file string, raw []byte, origin map[string]place) Problems {
	d := yaml.NewDecoder(bytes.NewReader(raw))
	var root yaml.Node
	switch err := d.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil // an empty file sets nothing
	case err != nil:
		return Problems{{place: place{File: file}, Text: strings.TrimPrefix(err.Error(), "yaml: ")}}
	case d.Decode(new(yaml.Node)) != io.EOF:
		return Problems{{place: place{File: file}, Text: "holds more than one document; only one is read"}}
	case null(root.Content[0]):
		return nil
	}
	return s.walk(file, "", root.Content[0], origin)
}

func (s schema) walk(file, prefix string, n *yaml.Node, origin map[string]place) (problems Problems) {
	at := place{File: file, Line: n.Line}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return Problems{{place: at, Key: strings.TrimSuffix(prefix, "."), Text: "must be a section of keys"}}
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		at := place{File: file, Line: name.Line}
		if first, twice := seen[key]; twice {
			problems = append(problems, Problem{place: at, Key: key, Text: fmt.Sprintf("is set twice, first in line %d", first)})
			continue
		}
		seen[key] = name.Line
		t, known := s[key]
		switch {
		case !known:
			problems = append(problems, Problem{place: at, Key: key, Text: "unknown key" + s.hint(key)})
		case null(value):
		case t.Kind() == reflect.Struct:
			problems = append(problems, s.walk(file, key+".", value, origin)...)
		default:
			if err := fits(t, value); err != nil {
				problems = append(problems, Problem{place: at, Key: key, Text: err.Error()})
			}
			origin[key] = at
		}
	}
	return problems
}

// null tells whether a key was left without a value, which sets nothing.
func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// fits tells why a value is not of the type that its key takes.
func fits(t reflect.Type, n *yaml.Node) error {
	into := reflect.New(t)
	if u, ok := into.Interface().(encoding.TextUnmarshaler); ok && n.Kind == yaml.ScalarNode {
		return u.UnmarshalText([]byte(n.Value)) // its own words are better than yaml's
	}
	if err := n.Decode(into.Interface()); err != nil {
		return fmt.Errorf("%s, expected %s", got(n), expected(t))
	}
	return nil
}

func got(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "is a section"
	case yaml.SequenceNode:
		return "is a list"
	}
	return fmt.Sprintf("is %q", n.Value)
}

func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Slice:
		return "a list of texts"
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return "a text such as 30s"
	}
	return "a text"
}

// checkEnv reads the variables that override settings and hands on the good
// ones. A variable with our prefix that means nothing is a mistake, as an
// unknown key is.
func (s schema) checkEnv(environ []string, set func(key, value string, at place)) (problems Problems) {
	byName := map[string]string{}
	for _, key := range s.settings() {
		byName[EnvName(key)] = key
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		at := place{File: "environment " + name}
		key, known := byName[name]
		if !known {
			text := "unknown variable"
			if near := nearest(name, byName); near != "" {
				text += "; did you mean " + near + "?"
			}
			problems = append(problems, Problem{place: at, Text: text})
			continue
		}
		if t := s[key]; t.Kind() != reflect.Slice {
			if err := fits(t, &yaml.Node{Kind: yaml.ScalarNode, Value: value}); err != nil {
				problems = append(problems, Problem{place: at, Key: key, Text: err.Error()})
				continue
			}
		}
		set(key, value, at)
	}
	return problems
}

// EnvName is the variable that overrides a key.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
