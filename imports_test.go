package ferryman_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "ferryman"

// folders is the table of docs/DESIGN.md, section 3: which folders of the module each one may import, besides the standard library. A row names only
// rows above it, so that imports point downwards. "." is the root. Fakes and the conformance suite are for tests: no row names them.
var folders = []struct {
	folder string
	may    []string
}{
	{".", nil},
	{"demo/port", nil},

	{"dbhooks", []string{"."}},
	{"dbhooks/conformance", []string{".", "dbhooks", "demo/port"}},
	{"dbhooks/demodb", []string{".", "dbhooks"}},
	{"dbhooks/exec", []string{".", "dbhooks"}},
	{"dbhooks/fake", []string{".", "dbhooks"}},
	{"dbhooks/redis", []string{".", "dbhooks"}},

	{"systemd", nil},
	{"systemd/fake", []string{"systemd"}},

	{"upgrade", []string{"."}},
	{"upgrade/install", []string{"."}},
	{"upgrade/install/fake", []string{".", "upgrade/install"}},

	{"agent/config", []string{"."}},
	{"agent/setup", []string{"agent/config"}},
	{"agent/telemetry", []string{"."}},
	{"agent/state", []string{"."}},
	{"agent/plan", []string{".", "upgrade"}},
	{"agent/cluster", []string{".", "agent/state", "agent/telemetry"}},
	{"agent/identity", []string{"."}},
	{"agent/rpc", []string{".", "agent/identity"}},
	{"agent/source", []string{"."}},
	{"agent/installer", []string{".", "agent/config", "agent/source", "upgrade/install"}},
	{"agent/guard", []string{".", "dbhooks", "systemd"}},
	{"agent/lease", []string{"."}},
	{"agent/lease/fake", nil},
	{"agent/runner", []string{".", "dbhooks", "systemd", "upgrade/install"}},
	{"agent/runner/fake", nil},
	{"agent/reconcile", []string{".", "agent/state", "agent/plan"}},
	{"agent", []string{
		".", "agent/config", "agent/telemetry", "agent/state", "agent/plan", "agent/cluster", "agent/identity", "agent/rpc", "agent/source", "agent/guard", "agent/lease",
		"agent/installer", "agent/runner", "agent/reconcile", "dbhooks", "dbhooks/demodb", "dbhooks/exec", "dbhooks/redis", "systemd", "upgrade", "upgrade/install",
	}},

	{"apiserver", []string{".", "agent/source"}},
	{"apiserver/minimal", nil},

	{"demo", []string{ // plays the person too: a CA, the marker of the first host, questions to an agent
		".", "agent/cluster", "agent/config", "agent/identity", "agent/rpc", "agent/source", "apiserver", "dbhooks", "dbhooks/demodb", "dbhooks/redis",
		"demo/port",
	}},
	{"cmd/agent/internal/render", []string{"."}},
	{"cmd/agent", []string{
		".", "agent", "agent/cluster", "agent/config", "agent/identity", "agent/installer", "agent/rpc", "agent/setup", "agent/source", "agent/telemetry", "apiserver", "cmd/agent/internal/render",
		"dbhooks/demodb", "demo", "systemd", "upgrade", "upgrade/install",
	}},

	{"scripts/lab/delay", nil},
	{"scripts/tally", nil},
}

// modules says which folders may import each module of others. Tests may import any that is listed. docs/decisions/0001-dependencies.md has the same
// modules, and why each is there.
var modules = map[string][]string{
	"github.com/Jille/raft-grpc-transport":      {"agent/cluster"},
	"github.com/anishathalye/porcupine":         nil, // tests of the demo
	"github.com/coreos/go-systemd/v22":          {"systemd"},
	"github.com/go-viper/mapstructure/v2":       {"agent/config"},
	"github.com/godbus/dbus/v5":                 {"systemd"},
	"github.com/hashicorp/go-hclog":             {"agent/telemetry"},
	"github.com/hashicorp/raft":                 {"agent/cluster"},
	"github.com/hashicorp/raft-boltdb/v2":       {"agent/cluster"},
	"github.com/klauspost/compress":             {"upgrade/install"},
	"github.com/prometheus/client_golang":       {"agent/telemetry"},
	"github.com/redis/go-redis/v9":              {"dbhooks/redis"},
	"github.com/rogpeppe/go-internal":           nil, // tests of the command line
	"github.com/spf13/cobra":                    {"cmd/agent"},
	"github.com/spf13/viper":                    {"agent/config"},
	"go.etcd.io/bbolt":                          {"agent/cluster"},
	"go.yaml.in/yaml/v3":                        {"agent/config", "agent/source", "cmd/agent"},
	"golang.org/x/sys":                          {"agent/guard", "agent/rpc", "systemd", "upgrade/install"},
	"golang.org/x/term":                         {"cmd/agent", "demo"},
	"google.golang.org/genproto/googleapis/rpc": {"agent/rpc"},
	"google.golang.org/grpc":                    {"agent", "agent/cluster", "agent/rpc"},
	"google.golang.org/protobuf":                {"agent/rpc"},
}

// source is one Go file of the module.
type source struct {
	file    string
	folder  string
	test    bool
	doc     string // of the package clause
	name    string // of the package
	imports []string
}

// sources parses every Go file of the module as far as its imports, whatever system it is for.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if file != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{file: filepath.ToSlash(file), test: strings.HasSuffix(name, "_test.go"), doc: docOf(parsed), name: parsed.Name.Name}
		s.folder = path.Dir(s.file)
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("found %d Go files: the module is not here", len(all))
	}
	return all
}

func docOf(f *ast.File) string {
	if f.Doc == nil {
		return ""
	}
	return f.Doc.Text()
}

// folderOf returns the module's folder that an import path names.
func folderOf(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// moduleOf returns the longest of the known modules that offers an import path, or "".
func moduleOf(imported string) string {
	found := ""
	for m := range modules {
		if (imported == m || strings.HasPrefix(imported, m+"/")) && len(m) > len(found) {
			found = m
		}
	}
	return found
}

// external says whether an import path is neither the module's nor the standard library's, whose first element never has a dot.
func external(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".")
}

func TestFoldersImportDownwards(t *testing.T) {
	t.Parallel()
	may := map[string][]string{}
	for _, row := range folders {
		for _, below := range row.may {
			if _, ok := may[below]; !ok {
				t.Errorf("the row of %s names %s, which is not above it in the table", row.folder, below)
			}
			if base := path.Base(below); base == "fake" || base == "conformance" || base == "minimal" {
				t.Errorf("the row of %s names %s, which is for tests", row.folder, below)
			}
		}
		may[row.folder] = row.may
	}
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		seen[s.folder] = true
		allowed, ok := may[s.folder]
		if !ok {
			t.Errorf("%s: %s is not in the table of imports: add it to imports_test.go and to docs/DESIGN.md, section 3", s.file, s.folder)
			continue
		}
		for _, imported := range s.imports {
			if folder, ok := folderOf(imported); ok && !slices.Contains(allowed, folder) {
				t.Errorf("%s imports %s, which %s may not: see docs/DESIGN.md, section 3", s.file, imported, s.folder)
			}
		}
	}
	for folder := range may {
		if !seen[folder] {
			t.Errorf("the table of imports names %s, which has no Go files", folder)
		}
	}
}

func TestModulesStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if !external(imported) {
				continue
			}
			m := moduleOf(imported)
			used[m] = true
			switch {
			case m == "":
				t.Errorf("%s imports %s, a new dependency: add its module to imports_test.go and to %s", s.file, imported, dependencies)
			case !s.test && !slices.Contains(modules[m], s.folder):
				t.Errorf("%s imports %s; only %s may", s.file, imported, strings.Join(modules[m], ", "))
			}
		}
	}
	for m := range modules {
		if !used[m] {
			t.Errorf("nothing imports %s any more: remove it from imports_test.go and from %s", m, dependencies)
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	said := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			said[s.folder] = said[s.folder] || s.name == "main" && s.doc != "" || strings.HasPrefix(s.doc, "Package "+s.name+" ")
		}
	}
	for folder, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment", folder)
		}
	}
}

const dependencies = "docs/decisions/0001-dependencies.md"

// TestDependenciesAreDecided holds the decision on dependencies against what is imported and against go.mod.
func TestDependenciesAreDecided(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(dependencies)
	if err != nil {
		t.Fatal(err)
	}
	decided := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| \\S").FindAllStringSubmatch(string(text), -1) {
		decided[row[1]] = true
	}
	for m := range modules {
		if !decided[m] {
			t.Errorf("%s does not say why %s is there", dependencies, m)
		}
	}
	for m := range decided {
		if _, ok := modules[m]; !ok {
			t.Errorf("%s speaks of %s, which imports_test.go does not know", dependencies, m)
		}
	}

	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := map[string]bool{} // true for a direct one
	for _, row := range regexp.MustCompile(`(?m)^(?:require )?\s*([\w.-]+\.[\w-]+/\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(string(gomod), -1) {
		required[row[1]] = row[2] == ""
	}
	for m, direct := range required {
		if direct && !decided[m] {
			t.Errorf("go.mod requires %s, and %s does not say why", m, dependencies)
		}
	}
	for m := range decided {
		if _, ok := required[m]; !ok {
			t.Errorf("%s speaks of %s, which go.mod does not require", dependencies, m)
		}
	}
}
