package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each key has its reason on record.
func TestEveryKeyHasAReason(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/decisions/0003-configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| \\S.* \\|$")
	for file, of := range map[string]reflect.Type{
		"agent.yaml":      reflect.TypeFor[Config](),
		"api-server.yaml": reflect.TypeFor[APIServer](),
	} {
		_, section, _ := strings.Cut(string(raw), "\n### "+file+"\n")
		section, _, _ = strings.Cut(section, "\n##")
		var got []string
		for _, m := range line.FindAllStringSubmatch(section, -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		if want := schemaOf(of).settings(); !slices.Equal(got, want) {
			t.Errorf("%s: the decision gives reasons for\n%q\nthe keys are\n%q", file, got, want)
		}
	}
}
