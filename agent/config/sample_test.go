package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// settingComment is a setting that the samples show commented out; prose has a
// space after its #.
var settingComment = regexp.MustCompile(`(?m)^( *)#(\w+:)`)

func TestSamplesShowEveryKeyAndItsDefault(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file    string
		into    any
		want    any
		choices []string // of settings that exclude others, those to leave out
	}{
		{"agent.yaml", new(Config), Default(), []string{"file:", "unit:", "exec:"}},
		{"api-server.yaml", new(APIServer), DefaultAPIServer(), []string{"exec:"}},
	} {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("..", "..", "configs", test.file)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			// As it stands, it changes nothing.
			got := reflect.New(reflect.TypeOf(test.want))
			got.Elem().Set(reflect.ValueOf(test.want))
			if _, err := load(got.Interface(), path, nil); err != nil {
				t.Fatal(err)
			}
			if a, b := text(t, got.Elem().Interface()), text(t, test.want); a != b {
				t.Errorf("the sample is\n%s\nthe defaults are\n%s", a, b)
			}

			// Uncommented, every key is there and means what it shall.
			all := settingComment.ReplaceAllString(string(raw), "$1$2")
			s, origin := schemaOf(reflect.TypeOf(test.want)), map[string]place{}
			if problems := s.check(test.file, []byte(all), origin); len(problems) > 0 {
				t.Fatal(problems)
			}
			lines := strings.Split(string(raw), "\n")
			for _, key := range s.settings() {
				at, ok := origin[key]
				if !ok {
					t.Errorf("%s does not show %s", test.file, key)
					continue
				}
				before := strings.TrimSpace(lines[at.Line-2])
				if test.file == "agent.yaml" && !strings.HasPrefix(before, "# ") {
					t.Errorf("%s:%d: %s has no comment", test.file, at.Line, key)
				}
			}

			// Uncommented and with choices made, it is a configuration that runs.
			for _, c := range test.choices {
				all = regexp.MustCompile(`(?m)^ *`+c+`.*$`).ReplaceAllString(all, "")
			}
			full := filepath.Join(t.TempDir(), test.file)
			if err := os.WriteFile(full, []byte(all), 0o600); err != nil {
				t.Fatal(err)
			}
			if test.file == "agent.yaml" {
				_, err = Load(full, nil)
			} else {
				_, err = LoadAPIServer(full, nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func text(t *testing.T, c any) string {
	t.Helper()
	b, err := Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
