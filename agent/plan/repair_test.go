package plan_test

import (
	"testing"
	"time"

	"ferryman"
)

func TestRepair(t *testing.T) {
	t.Parallel()
	empty := func(x *sit) *sit { x.s.Initialised = false; return x }
	newcomer := func(x *sit) *sit {
		return x.service("n3", func(s *ferryman.ServiceStatus) {
			s.Selected, s.Launched, s.Unit.Active, s.Instance = ferryman.Target{}, ferryman.Target{}, false, instance{}
		})
	}
	release := ferryman.Release{Archive: &ferryman.Archive{URL: "file:///1", SHA256: "s1", Size: 1}}
	released := func(x *sit) *sit {
		k := x.s.Complete[ferryman.PartDatabase]
		k.Release = release
		x.s.Complete[ferryman.PartDatabase] = k
		return x
	}
	rewinds := func(s *ferryman.ServiceStatus) {
		s.Traits.Ops = append(s.Traits.Ops[:len(s.Traits.Ops):len(s.Traits.Ops)], ferryman.OpRewind)
	}
	diverged := func(in *instance) { in.Diverged, in.Streaming = true, false }
	fresh := func() *sit { // all run and none has data
		x := empty(unborn())
		for _, n := range []string{"n1", "n2", "n3"} {
			x.instance(n, func(in *instance) { in.Initialised = false })
		}
		return x
	}
	noDocument := func(x *sit) *sit { x.s.Accepted, x.s.Rollout, x.s.Complete = nil, nil, nil; return x }
	start := func(x *sit, at time.Duration) *sit { return x.did(ferryman.OpStart, "n2", ago(at)) }
	try(t, []row{
		{"the database is made once, on one node", fresh(), "initialise n1", ""},
		{"and not again while that runs", fresh().open(ferryman.OpInitialise, "n1", nil), "", ""},
		{"and not over data that are there", fresh().instance("n1", func(in *instance) { in.Initialised = true }), "", "foreign-data"},
		{"without a document nothing is started", noDocument(newcomer(calm(3))), "", "no-document"},

		{"what ended is started", calm(3).stopped("n2"), "start n2", ""},
		{"what ended a second time waits a little", start(start(calm(3), 2*time.Minute), 100*time.Millisecond).stopped("n2"), "", "flapping"},
		{"and is started then", start(start(calm(3), 2*time.Minute), 2*time.Second).stopped("n2"), "start n2", ""},
		{"what ended long ago does not count", start(start(calm(3), 11*time.Minute), time.Millisecond).stopped("n2"), "start n2", ""},
		{"what does not answer is waited for", calm(3).instance("n2", func(in *instance) { *in = instance{} }), "", "no-answer"},
		{"a node that does not answer is left alone", calm(3).stopped("n2").silent("n2", time.Second), "", ""},
		{"so is one in maintenance", calm(3).stopped("n2").member("n2", maintenance(time.Minute)), "", "maintenance"},
		{"and one that leaves", calm(3).stopped("n2").member("n2", leaving).document(nodes(2)), "demote n2", ""},
		{"but not one that holds the only database", unborn().stopped("n2").member("n2", leaving).document(nodes(2)), "start n2", "no-primary"},
		{"and one that is not admitted yet", func() *sit { x := calm(3).stopped("n3"); delete(x.v.Raft, "n3"); return x }(), "admit n3; demote n2", ""},
		{"a service that is not reported is asked for", calm(3).view("n2", func(v *ferryman.NodeView) { v.Status.Services = nil }), "", "no-service"},

		{"a newcomer is switched to the complete version", newcomer(calm(3)), "switch n3 1", ""},
		{"a release is staged first", released(newcomer(calm(3))), "stage n3 1", ""},
		{"what is staged already is not", released(newcomer(calm(3))).view("n3", func(v *ferryman.NodeView) { v.Status.Staged = []string{"sha256:s1"} }), "switch n3 1", ""},
		{"a newcomer during an upgrade gets the complete version", newcomer(calm(3).upgrade().preflighted(ferryman.Result{}).runs("n1", "2")), "switch n3 1", ""},
		{"unless nobody runs that any more", newcomer(calm(3).upgrade().preflighted(ferryman.Result{}).runs("n1", "2").runs("n2", "2").carried("n2")), "switch n3 2", ""},
		{"a node that was away while others were carried is brought along", calm(3).runs("n2", "0"), "stop n2", ""},
		{"but not in the middle of a rollout", calm(3).upgrade().runs("n2", "0").did(ferryman.OpPreflight, "n1", nil), "preflight n2 2; preflight n3 2", ""},

		{"what has no data clones", calm(3).instance("n2", func(in *instance) { in.Initialised, in.Streaming = false, false }), "clone n2 epoch 3 from n1:5000", ""},
		{"what follows another is told", calm(3).instance("n2", func(in *instance) { in.Following = "n9:5000" }), "follow n2 epoch 3 from n1:5000", ""},
		{"what heard of an older epoch is told", calm(3).instance("n2", func(in *instance) { in.Epoch = 2 }), "follow n2 epoch 3 from n1:5000", ""},
		{"what diverged clones", calm(3).instance("n2", diverged), "clone n2 epoch 3 from n1:5000", ""},
		{"or is rewound where the engine can", calm(3).instance("n2", diverged).service("n2", rewinds), "rewind n2", ""},
		{"and clones when that failed", calm(3).instance("n2", diverged).service("n2", rewinds).failed(ferryman.OpRewind, "n2", nil), "clone n2 epoch 3 from n1:5000", ""},
		{"nobody follows a primary that accepts no writes", calm(3).instance("n1", func(in *instance) { in.Running, in.Writable = false, false }).instance("n2", func(in *instance) { in.Epoch = 2 }), "", "no-primary"},
		{"a failed attempt is repeated after a while", calm(3).stopped("n2").failed(ferryman.OpStart, "n2", nil), "", "backoff"},
		{"one that a passage carries is the passage's", calm(3).upgrade().preflighted(ferryman.Result{}).carrying(ferryman.PartDatabase, "n2").stopped("n2"), "switch n2 2", ""},
		{"one whose agent is carried is mended", calm(3).rollout(func(d *ferryman.Document) { d.Agent.RestartGeneration = 1 }).carrying(ferryman.PartAgents, "n2").stopped("n2"), "start n2; exit n2", ""},
	})
}

func leaving(m *ferryman.Member) { m.Want = ferryman.WantLeaving }

func maintenance(rest time.Duration) func(*ferryman.Member) {
	return func(m *ferryman.Member) {
		m.Want, m.Maintenance = ferryman.WantMaintenance, &ferryman.Maintenance{Owner: "a person", Reason: "disks", Until: t0.Add(rest), BootID: "b1"}
	}
}

func nodes(n int) func(*ferryman.Document) { return func(d *ferryman.Document) { d.Nodes = n } }
