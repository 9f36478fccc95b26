package state_test

import (
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// An agent of the release before reads what is written until all understand
// more, and stops at the entry that says so.
func TestEntriesHaveTheFormatOfTheState(t *testing.T) {
	t.Parallel()
	raise := moves(change{Kind: ferryman.MoveRaiseFormat, Format: state.Format + 1})
	for name, tt := range map[string]struct {
		s    ferryman.State
		c    command
		want uint32
	}{
		"the first one has the founder's": {ferryman.State{}, command{Bootstrap: &state.Bootstrap{Cluster: "c-1", Format: 3}}, 3},
		"that of the state":               {ferryman.State{Format: 7}, ask(ferryman.RequestPause, nil), 7},
		"or what it makes it":             {ferryman.State{Format: state.Format}, raise, state.Format + 1},
	} {
		data, err := state.Encode(tt.s, tt.c)
		if err != nil || uint32(data[0]) != tt.want {
			t.Errorf("%s: format %d, %v; want %d", name, data[0], err, tt.want)
		}
	}
	s, failed := newStore(t)
	data, err := state.Encode(ferryman.State{Format: state.Format}, raise)
	if a := s.Apply(9, data).(state.Applied); err != nil || a.Err == nil || *failed == nil {
		t.Errorf("an agent that knows %d applied the rise to %d: %v, %v, %v", state.Format, state.Format+1, err, a.Err, *failed)
	}
	snap, err := s.Snapshot()
	if err != nil || !strings.HasPrefix(string(snap), `{"format":0,`) {
		t.Errorf("a snapshot of a state without a format: %s, %v", snap, err)
	}
}

// What is in a format is in a file. Once an agent was released that knows it,
// the file stays as it is: a field more is a format more.
func TestTheFormatIsWhatItWas(t *testing.T) {
	t.Parallel()
	file := fmt.Sprintf("testdata/format-%d.txt", state.Format)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := "command\n" + fields(reflect.TypeFor[state.Command](), 1) + "state\n" + fields(reflect.TypeFor[ferryman.State](), 1) + "words\n" + words(t)
	if got != string(want) {
		t.Errorf("commands or the state have other fields or words than %s says. Agents of the release before cannot read them: raise state.Format, write the file of the new format, "+
			"use what is new only where State.Format has it, and leave a new field out where it is empty (omitempty, omitzero), as older agents stop at it. They are now:\n%s", file, got)
	}
}

// fields are those of a type as JSON has them, a line each, what is in them
// below.
func fields(of reflect.Type, depth int) (out string) {
	for _, f := range reflect.VisibleFields(of) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name = cmp.Or(name, f.Name); name == "-" || !f.IsExported() || f.Anonymous && name == f.Name {
			continue
		}
		kind, inner := shape(f.Type)
		if options == "" {
			kind += ", always"
		}
		out += strings.Repeat("  ", depth) + name + " " + kind + "\n"
		if inner != nil {
			out += fields(inner, depth+1)
		}
	}
	return out
}

// words are what values of the types in package ferryman are called: of an
// operation, a transition, a request, a status.
func words(t *testing.T) (out string) {
	t.Helper()
	files, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			of, named := spec.Type.(*ast.Ident)
			if text, ok := spec.Values[0].(*ast.BasicLit); ok && named && text.Kind == token.STRING && ast.IsExported(of.Name) {
				out += "  " + of.Name + " " + text.Value + "\n"
			}
			return true
		})
	}
	return out
}

// shape is what a type is in JSON, and the struct that it holds.
func shape(of reflect.Type) (string, reflect.Type) {
	switch of.Kind() {
	case reflect.Pointer:
		return shape(of.Elem())
	case reflect.Slice, reflect.Array:
		if of.Elem().Kind() == reflect.Uint8 {
			return "bytes", nil
		}
		kind, inner := shape(of.Elem())
		return "list of " + kind, inner
	case reflect.Map:
		kind, inner := shape(of.Elem())
		return "map to " + kind, inner
	}
	for _, own := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()} {
		if of.Implements(own) {
			return strings.ToLower(of.Name()), nil
		}
	}
	if of.Kind() == reflect.Struct && of != reflect.TypeFor[time.Time]() {
		return "object", of
	}
	return of.Kind().String(), nil
}
