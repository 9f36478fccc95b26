package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"ferryman"
)

// MaxDocument is the size of the largest document that is read, in bytes. An
// accepted document travels through Raft twice, decoded and in its envelope, in
// one entry of at most 256 KiB.
const MaxDocument = 64 << 10

// maxDecoded bounds a document as the cluster keeps it: few bytes of YAML can be
// many of JSON.
const maxDecoded = 128 << 10

// Parse reads a desired-state document in YAML or JSON, and refuses whatever
// Validate refuses or the text shows to be a mistake: unknown keys, a key that
// is set twice, a zero that would silently become the default. All problems
// come at once (up to ten, each a Problem); name is what they call the document.
// Choices that the text does not make are zero; see Document.WithDefaults.
func Parse(raw []byte, name string) (ferryman.Document, error) {
	root, problem := load(raw)
	if problem != nil {
		problem.Name = name
		return ferryman.Document{}, *problem
	}
	d := decoder{lines: map[string]int{}}
	doc := d.document(root)
	if len(d.problems) == 0 {
		// Only values that could be read are worth a judgement.
		for _, p := range append(check(doc), d.zeros(doc)...) {
			if d.minimal {
				p.Path = minimalKey
			}
			d.add(d.line(p.Path), p.Path, "%s", p.Reason)
		}
	}
	if len(d.problems) == 0 {
		size := len(canonical(doc))
		if size <= maxDecoded {
			return doc, nil
		}
		d.add(0, "", "takes %d bytes where the cluster keeps it; at most %d are kept", size, maxDecoded)
	}
	for i := range d.problems {
		d.problems[i].Name = name
	}
	return ferryman.Document{}, join(d.problems)
}

// load returns the mapping at the root of the only document in raw.
func load(raw []byte) (*yaml.Node, *Problem) {
	fail := func(format string, args ...any) (*yaml.Node, *Problem) {
		return nil, &Problem{Reason: fmt.Sprintf(format, args...)}
	}
	if len(raw) > MaxDocument {
		return fail("is %d bytes long; at most %d are read", len(raw), MaxDocument)
	}
	if !utf8.Valid(raw) {
		return fail("is not UTF-8 text")
	}
	if json.Valid(raw) {
		raw = plainEscapes(raw)
	}
	decode := yaml.NewDecoder(bytes.NewReader(raw))
	var doc, second yaml.Node
	switch err := decode.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return fail("is empty")
	case err != nil:
		return nil, syntax(err)
	}
	switch err := decode.Decode(&second); {
	case err == nil:
		return nil, &Problem{Line: second.Line, Reason: "a second document begins here; one file holds one document"}
	case !errors.Is(err, io.EOF):
		return nil, syntax(err)
	}
	if len(doc.Content) != 1 {
		return fail("is empty")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return fail("is empty")
	}
	return root, nil
}

var yamlError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// syntax takes the line out of an error of the YAML parser.
func syntax(err error) *Problem {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return &Problem{Reason: "is neither YAML nor JSON: " + err.Error()}
	}
	line, _ := strconv.Atoi(m[1])
	return &Problem{Line: line, Reason: "is neither YAML nor JSON: " + m[2]}
}

var jsonEscape = regexp.MustCompile(`\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|.)`)

// plainEscapes replaces the two escapes of JSON that the YAML parser does not
// know, \/ and a pair of surrogates, by what they mean.
func plainEscapes(raw []byte) []byte {
	return jsonEscape.ReplaceAllFunc(raw, func(escape []byte) []byte {
		switch {
		case string(escape) == `\/`:
			return []byte("/")
		case len(escape) == 12:
			var text string
			if json.Unmarshal([]byte(`"`+string(escape)+`"`), &text) == nil {
				return []byte(text)
			}
		}
		return escape
	})
}

// minimalKey is the only key of the smallest document, {"NumberReplicas": 3}:
// an existing convention, without a generation.
const minimalKey = "NumberReplicas"

// document decodes the root mapping.
func (d *decoder) document(root *yaml.Node) (doc ferryman.Document) {
	if root.Kind != yaml.MappingNode || !hasKey(root, minimalKey) {
		d.value(root, valueOf(&doc), "")
		return doc
	}
	if len(root.Content) > 2 {
		d.add(root.Content[0].Line, minimalKey, "stands alone; in a document with other keys, write nodes")
		return doc
	}
	var minimal struct {
		Nodes int `json:"NumberReplicas"`
	}
	d.value(root, valueOf(&minimal), "")
	d.minimal = true
	doc.Nodes = minimal.Nodes
	return doc
}

func hasKey(mapping *yaml.Node, key string) bool {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return true
		}
	}
	return false
}

// line is where path stands in the text, or the nearest part of it that does.
func (d *decoder) line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}
