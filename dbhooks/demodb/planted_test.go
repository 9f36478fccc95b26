package demodb_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ferryman"
	"ferryman/dbhooks"
	"ferryman/dbhooks/demodb"
)

const plantedVariable = "DEMODB_PLANTED_BUG"

// planted is an engine with a bug, to show that the suite finds it.
type planted struct {
	*demodb.Engine
	bug string
}

func (p planted) Do(ctx context.Context, op ferryman.Op, args ferryman.Args) (ferryman.Result, error) {
	switch {
	case p.bug == "fence does not stop writes" && op == ferryman.OpFence, p.bug == "verify does not wait" && op == ferryman.OpVerify:
		in, err := p.Status(ctx)
		return ferryman.Result{Position: in.Position, History: in.History}, err
	case p.bug == "follow clones by itself" && op == ferryman.OpFollow:
		if _, err := p.Engine.Do(ctx, ferryman.OpClone, args); err != nil {
			return ferryman.Result{}, err
		}
	}
	if p.bug == "a preflight without a primary wants one" {
		args.Alone = false
	}
	result, err := p.Engine.Do(ctx, op, args)
	if p.bug == "an operation goes on with another process" && err != nil {
		result, err = p.Engine.Do(ctx, op, args)
	}
	if p.bug == "old epochs are taken" && errors.Is(err, dbhooks.ErrEpoch) {
		err = nil
	}
	if p.bug == "old data are not named" {
		result.SetAside = ""
	}
	return result, err
}

func (p planted) Status(ctx context.Context) (ferryman.Instance, error) {
	in, err := p.Engine.Status(ctx)
	if p.bug == "a hung process is healthy" {
		in.Healthy = true
	}
	return in, err
}

func newEngine(cfg dbhooks.Config) dbhooks.Engine {
	if bug := os.Getenv(plantedVariable); bug != "" {
		return planted{demodb.New(cfg), bug}
	}
	return demodb.New(cfg)
}

func TestSuiteFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	if os.Getenv(plantedVariable) != "" {
		t.Skip("this is the run with a planted bug")
	}
	for bug, finder := range map[string]string{
		"fence does not stop writes": "FenceIsFinalAndDurable",
		"verify does not wait":       "VerifyWaits",
		"follow clones by itself":    "DivergedDataAreSetAside",
		"old epochs are taken":       "PromotesByEpoch",
		"old data are not named":     "DivergedDataAreSetAside",
		"a hung process is healthy":  "HungProcessIsBounded",

		"an operation goes on with another process": "OperationKeepsToItsProcess",
		"a preflight without a primary wants one":   "LostPrimaryIsReplaced",
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConformance$/^"+finder+"$")
			cmd.Env = append(os.Environ(), plantedVariable+"="+bug)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), "--- FAIL: TestConformance/"+finder) {
				t.Errorf("%s did not find it: %v\n%s", finder, err, out)
			}
		})
	}
}
