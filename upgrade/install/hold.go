package install

import (
	"slices"
	"strings"

	"ferryman"
)

// holding is dnf's configuration with packages among those that it leaves alone. dnf 4 has no directory for that beside its file, and versionlock is a
// plugin that most hosts lack; PackageKit and dnf-automatic heed this too.
func holding(conf string, own []ferryman.Package) string {
	lines := strings.Split(conf, "\n")
	main, at := -1, -1 // [main], and the last line in it that excludes packages
	section := ""
	for i, line := range lines {
		if strings.HasPrefix(line, "[") {
			if section = strings.TrimSpace(line); section == "[main]" {
				main = i
			}
		}
		if key, _, ok := strings.Cut(line, "="); ok && section == "[main]" && slices.Contains([]string{"exclude", "excludepkgs"}, strings.TrimSpace(key)) {
			at = i
		}
	}
	if main < 0 {
		lines, main = append([]string{"[main]"}, lines...), 0
	}
	if at < 0 {
		at = main + 1
		lines = slices.Insert(lines, at, "excludepkgs=")
	}
	end := at + 1 // of what goes on in lines that are indented
	for end < len(lines) && strings.TrimSpace(lines[end]) != "" && strings.ContainsAny(lines[end][:1], " \t") {
		end++
	}
	_, value, _ := strings.Cut(strings.Join(lines[at:end], " "), "=")
	there := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t,", r) })
	for _, p := range own {
		if !slices.Contains(there, p.Name) {
			sep := " "
			if strings.HasSuffix(lines[at], "=") {
				sep = ""
			}
			lines[at] += sep + p.Name
		}
	}
	return strings.Join(lines, "\n")
}
