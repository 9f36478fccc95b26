package telemetry_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	rulesFile     = "../../configs/ferryman-alerts.yaml"
	ruleTestsFile = "../../configs/ferryman-alerts.test.yaml"
	operations    = "../../docs/OPERATIONS.md"
)

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	raw, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// A rule about a metric that nobody exports never fires, and nobody notices.
func TestAlertsAreAboutMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	guarded := facts()
	exported := scrape(t, guarded)
	name := regexp.MustCompile(`ferryman_[a-z_]+`)
	for _, r := range rules(t) {
		found := name.FindAllString(r.Expr, -1)
		if len(found) == 0 {
			t.Errorf("%s is about no metric of ours", r.Alert)
		}
		for _, n := range found {
			if !strings.Contains(exported, "\n"+n+"{") {
				t.Errorf("%s is about %s, which no agent tells", r.Alert, n)
			}
		}
	}
}

// Whoever is woken reads what it is about, and where to go on.
func TestAlertsSayWhatToDo(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(raw), -1) {
		anchors = append(anchors, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))
	}
	all := rules(t)
	if len(all) < 10 {
		t.Errorf("got %d rules", len(all))
	}
	for _, r := range all {
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity is %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", r.Alert)
		}
		anchor, ok := strings.CutPrefix(r.Annotations["runbook"], "docs/OPERATIONS.md#")
		if !ok || !slices.Contains(anchors, anchor) {
			t.Errorf("%s: %q is no section of %s", r.Alert, r.Annotations["runbook"], operations)
		}
		if !strings.Contains(string(raw), "`"+r.Alert+"`") {
			t.Errorf("%s does not speak of %s", operations, r.Alert)
		}
	}
}

// The rules fire when they should, and only then, by Prometheus' own word.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool, which scripts/lab/test installs with Debian's prometheus")
	}
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", ruleTestsFile}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tested, err := os.ReadFile(ruleTestsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		if !strings.Contains(string(tested), "alertname: "+r.Alert+"\n") {
			t.Errorf("no test in %s is about %s", ruleTestsFile, r.Alert)
		}
	}
}
