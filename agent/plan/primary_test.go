package plan_test

import (
	"testing"
	"time"

	"ferryman"
)

type (
	switchover = ferryman.Switchover
	instance   = ferryman.Instance
	step       = ferryman.Step
)

// unborn is a cluster whose database has no primary yet.
func unborn() *sit {
	x := calm(3)
	x.s.Primary, x.s.Founder = ferryman.Primary{}, "n2"
	for _, n := range []string{"n1", "n2", "n3"} {
		x.instance(n, func(in *instance) {
			*in = instance{Running: true, Initialised: x.s.Initialised && n == "n2", Version: "1", Healthy: true}
		})
	}
	return x
}

func TestPrimary(t *testing.T) {
	t.Parallel()
	notWritable := func(in *instance) { in.Writable = false }
	another := func(in *instance) { in.History = "g" }
	unrecorded := func(x *sit) *sit { x.s.Primary.History = ""; return x }
	try(t, []row{
		{"nothing is to be done", calm(3), "", "complete"},
		{"the initialised node is the first primary", unborn(), "primary n2 1 epoch 1", ""},
		{"also when it leaves", unborn().document(nodes(2)).member("n2", leaving), "primary n2 1 epoch 1", "no-primary"},
		{"the initialised node does not answer", unborn().silent("n2", time.Second), "", "no-primary"},
		{"a stray primary is fenced at its own epoch",
			calm(3).instance("n3", func(in *instance) { in.Writable, in.Epoch = true, 2 }), "fence n3 epoch 2", "stray-primary"},
		{"a stray primary that does not answer cannot be",
			calm(3).instance("n3", func(in *instance) { in.Writable = true }).silent("n3", time.Second), "", ""},
		{"the primary is promoted again in place", calm(3).instance("n1", notWritable), "promote n1 epoch 3", ""},
		{"the primary is freed of a fence", calm(3).instance("n1", func(in *instance) { in.Writable, in.Fenced = false, true }), "unfence n1 epoch 3", ""},
		{"the primary began another history by itself", calm(3).instance("n1", another), "history n1 epoch 3", ""},
		{"or nobody recorded the one that it has", unrecorded(calm(3)), "history n1 epoch 3", ""},
		{"a primary that does not answer may have", calm(3).instance("n1", another).silent("n1", time.Second), "", "primary-lost"},
		{"what does not accept writes is not the primary's", calm(3).instance("n1", another).instance("n1", notWritable), "promote n1 epoch 3", ""},
		{"nor that of another epoch", calm(3).instance("n1", another).instance("n1", func(in *instance) { in.Epoch = 2 }), "", "complete"},
		{"a promotion that runs will tell", unrecorded(calm(3)).open(ferryman.OpPromote, "n1", nil), "", "complete"},
		{"the primary lost its data", calm(3).instance("n1", func(in *instance) { in.Writable, in.Initialised = false, false }), "", "primary-empty"},
		{"the primary is started like any other", calm(3).stopped("n1"), "start n1", ""},
		{"nobody takes the place of a primary that does not answer",
			func() *sit { x := calm(3).silent("n1", time.Hour); x.v.Self = "n2"; return x }(), "", "primary-lost"},
	})
}

// TestSwitchover goes through the one way to a new primary, and every way back.
func TestSwitchover(t *testing.T) {
	t.Parallel()
	position := func(st *step) { st.Outcome.Result = ferryman.Result{Position: 71, History: "h"} }
	proof := func(st *step) { st.Args = ferryman.Args{Position: 71, History: "h"} }
	fenced := func(x *sit) *sit {
		return x.did(ferryman.OpFence, "n1", position).instance("n1", func(in *instance) { in.Writable, in.Fenced = false, true })
	}
	verified := func(x *sit) *sit { return fenced(x).did(ferryman.OpVerify, "n2", proof) }
	committed := func(x *sit) *sit {
		verified(x)
		x.s.Switchover.Committed, x.s.Primary.Node, x.s.Primary.Epoch = true, "n2", 4
		return x
	}
	promoted := func(x *sit) *sit {
		return committed(x).did(ferryman.OpPromote, "n2", nil).instance("n2", func(in *instance) {
			in.Writable, in.Role, in.Following, in.Streaming, in.Epoch = true, ferryman.RolePrimary, "", false, 4
		})
	}
	begun := func() *sit { return calm(3).switching(nil) }
	long := func() *sit { return calm(3).switching(func(sw *switchover) { sw.Began = t0.Add(-10 * time.Minute) }) }
	back := func() *sit { return calm(3).switching(func(sw *switchover) { sw.Back = "it was too slow" }) }
	newLeader := func(x *sit) *sit { x.v.Since = t0.Add(-time.Second); return x }
	frozen := func(x *sit) *sit { x.s.Frozen = &ferryman.Hold{By: "a person"}; return x }
	paused := func(x *sit) *sit { x.s.Paused = &ferryman.Hold{By: "a person"}; return x }
	past := func(x *sit) *sit {
		for i := range x.s.Ledger {
			x.s.Ledger[i].Since = t0.Add(-time.Minute)
		}
		return x
	}

	t.Run("forward", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"first the old primary is fenced", begun(), "fence n1 epoch 3", ""},
			{"the fence runs", begun().open(ferryman.OpFence, "n1", nil), "", "step"},
			{"then the successor proves that it has everything", fenced(begun()), "verify n2 h:71", ""},
			{"the proof runs", fenced(begun()).open(ferryman.OpVerify, "n2", proof), "", "step"},
			{"then the epoch is committed", verified(begun()), "primary n2 epoch 4", ""},
			{"a proof of another position is none", fenced(begun()).did(ferryman.OpVerify, "n2", func(st *step) { st.Args = ferryman.Args{Position: 70, History: "h"} }),
				"back-switchover", ""},
			{"then the successor is promoted", committed(begun()), "promote n2 epoch 4", "no-primary"},
			{"others follow when it accepts writes", promoted(begun()), "end-switchover; follow n1 epoch 4 from n2:5000; follow n3 epoch 4 from n2:5000", ""},
			{"after the commit it only goes forward, whatever it takes", past(committed(long())), "promote n2 epoch 4", ""},
			{"a successor whose lease ran out meanwhile is freed of the fence", committed(begun()).instance("n2", func(in *instance) { in.Fenced, in.Epoch = true, 4 }), "unfence n2 epoch 4", ""},
			{"a successor that came up without its data is a person's to replace", committed(begun()).instance("n2", func(in *instance) { in.Initialised = false }), "", "primary-empty"},
			{"after the commit a lost successor is waited for", committed(begun()).silent("n2", time.Hour), "promote n2 epoch 4", "primary-lost"},
			{"after the commit a failed promotion is tried again",
				committed(begun()).failed(ferryman.OpPromote, "n2", ago(2*time.Second)), "promote n2 epoch 4", ""},
			{"not at once", committed(begun()).failed(ferryman.OpPromote, "n2", nil), "", "backoff"},
			{"a freeze does not stop it", frozen(fenced(begun())), "verify n2 h:71", ""},
			{"but everything else", frozen(calm(3).upgrade().preflighted(ferryman.Result{}).switching(nil).open(ferryman.OpFence, "n1", nil).document(nodes(5))), "", "frozen"},
			{"it brings up the database that it needs", frozen(committed(begun()).stopped("n2")), "start n2", "frozen primary-down"},
			{"a pause does not stop it", paused(fenced(begun())), "verify n2 h:71", ""},
			{"the old primary is not fenced once more for an old report",
				committed(begun()).instance("n1", func(in *instance) { in.Writable = true }), "promote n2 epoch 4", ""},
		})
	})
	t.Run("back", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"it waits for a successor that does not stream", begun().instance("n2", func(in *instance) { in.Streaming = false }), "", "switchover-candidate"},
			{"or streams from another", begun().instance("n2", func(in *instance) { in.Following = "n3:5000" }), "follow n2 epoch 3 from n1:5000", "switchover-candidate"},
			{"the successor leaves", begun().member("n2", leaving).document(nodes(2)), "back-switchover; stop n2", ""},
			{"the successor is gone", func() *sit { x := begun(); x.s.Switchover.To = "n9"; return x }(), "back-switchover", ""},
			{"the old primary does not answer", begun().silent("n1", time.Second), "back-switchover", ""},
			{"the fence failed", begun().failed(ferryman.OpFence, "n1", nil), "back-switchover", ""},
			{"the proof failed", fenced(begun()).failed(ferryman.OpVerify, "n2", proof), "back-switchover", ""},
			{"switchoverTimeout", long(), "back-switchover", ""},
			{"switchoverTimeout is the leader's own", newLeader(long()), "fence n1 epoch 3", ""},
			{"writeBudget before the fence ended", begun().open(ferryman.OpFence, "n1", ago(5*time.Second)), "back-switchover", ""},
			{"writeBudget before the proof", past(fenced(begun())), "back-switchover", ""},
			{"writeBudget is the leader's own", newLeader(past(fenced(begun()))), "verify n2 h:71", ""},
			{"back before anything happened", back(), "end-switchover", ""},
			{"back while the fence runs", back().open(ferryman.OpFence, "n1", nil), "", "step"},
			{"back takes the fence away", fenced(back()), "unfence n1 epoch 3", ""},
			{"back after a fence that may have worked", back().failed(ferryman.OpFence, "n1", nil), "unfence n1 epoch 3", ""},
			{"back waits for a primary that does not answer", fenced(back()).silent("n1", time.Second), "", "unreachable"},
			{"back ends when the fence is away", fenced(back()).did(ferryman.OpUnfence, "n1", nil), "end-switchover", ""},
			{"back never promotes the successor", verified(back()), "unfence n1 epoch 3", ""},
		})
	})
	t.Run("one at a time", func(t *testing.T) {
		t.Parallel()
		try(t, []row{
			{"a primary that leaves asks for one", calm(3).member("n1", leaving).document(nodes(2)), "begin-switchover n2", ""},
			{"a primary that leaves waits for the one that runs", fenced(begun()).member("n1", leaving).document(nodes(2)), "verify n2 h:71", ""},
			{"so does a primary that is carried",
				fenced(calm(3).upgrade().preflighted(ferryman.Result{}).carrying(ferryman.PartDatabase, "n1").switching(nil)), "verify n2 h:71", "switchover"},
		})
	})
}
