package plan_test

import (
	"testing"
	"time"

	"ferryman"
)

func TestResume(t *testing.T) {
	t.Parallel()
	newLeader := func(x *sit) *sit { x.v.Since = t0.Add(-time.Second); return x }
	frozen := func(x *sit) *sit { x.s.Frozen = &ferryman.Hold{By: "a person"}; return x }
	try(t, []row{
		{"a step has its time", calm(3).open(ferryman.OpStage, "n2", nil), "", ""},
		{"then it is timed out", calm(3).open(ferryman.OpStage, "n2", ago(time.Minute)), "close 101 timed out", ""},
		{"its time is measured by each leader anew", newLeader(calm(3).open(ferryman.OpStage, "n2", ago(time.Hour))), "", ""},
		{"also while the cluster is frozen", frozen(calm(3).open(ferryman.OpStage, "n2", ago(time.Minute))), "close 101 timed out", "frozen"},
		{"a freeze stops everything else", frozen(calm(3).stopped("n2")), "", "frozen"},
		{"a node that does not answer is named", calm(3).silent("n2", time.Second).open(ferryman.OpStage, "n2", nil), "", "unreachable"},
		{"what the leader does itself needs no answer", calm(3).silent("n2", time.Second).open(ferryman.OpDemote, "n2", nil), "", ""},
		{"a lane is busy until its step ended", calm(3).stopped("n2").open(ferryman.OpCheckpoint, "n2", nil), "", "busy"},
	})
}
