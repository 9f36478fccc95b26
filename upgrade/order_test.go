package upgrade_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"ferryman"
	"ferryman/upgrade"
)

func names(nodes []upgrade.Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name())
	}
	return strings.Join(out, " ")
}

func TestOrder(t *testing.T) {
	t.Parallel()
	tier := func(name string) func(*upgrade.Node) {
		return func(n *upgrade.Node) { n.Member.Services[0].Tier = name }
	}
	tiers := []string{"management", "data", "sql"}
	for _, tt := range []struct {
		name  string
		part  ferryman.Part
		tiers []string
		nodes []upgrade.Node
		want  string
	}{
		{"replicas before the primary, then by name", database, nil, []upgrade.Node{replica("n1", primary), replica("n2"), replica("n3")}, "n2 n3 n1"},
		{"what is down before all", database, nil, []upgrade.Node{replica("n1", primary), replica("n2"), replica("n3", stopped)}, "n3 n2 n1"},
		{"also the primary", database, nil, []upgrade.Node{replica("n1", primary, stopped), replica("n2"), replica("n3")}, "n1 n2 n3"},
		{"tiers in their order", database, tiers, []upgrade.Node{replica("a", tier("sql")), replica("b", tier("data")), replica("c", tier("management"))}, "c b a"},
		{"a primary of an early tier before a later tier", database, tiers, []upgrade.Node{replica("a", tier("sql")), replica("b", tier("data"), primary), replica("c", tier("data"))}, "c b a"},
		{"agents: nonvoters, voters, the leader", agents, nil, []upgrade.Node{replica("n1", leader), replica("n2"), replica("n3", nonvoter)}, "n3 n2 n1"},
		{"agents: a primary is like any other", agents, nil, []upgrade.Node{replica("n1", primary), replica("n2"), replica("n3", leader)}, "n1 n2 n3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 1))
			for range 10 { // whatever order a map gave them
				rng.Shuffle(len(tt.nodes), func(i, j int) { tt.nodes[i], tt.nodes[j] = tt.nodes[j], tt.nodes[i] })
				upgrade.Order(tt.part, tt.tiers, tt.nodes)
				if got := names(tt.nodes); got != tt.want {
					t.Fatalf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}

func TestSuccessor(t *testing.T) {
	t.Parallel()
	position := func(p uint64) func(*upgrade.Node) {
		return on(func(s *ferryman.ServiceStatus) { s.Instance.Position = p })
	}
	still := on(func(s *ferryman.ServiceStatus) { s.Instance.Streaming = false })
	cascades := on(func(s *ferryman.ServiceStatus) { s.Instance.Following = "n3:5000" })
	earlier := on(func(s *ferryman.ServiceStatus) { s.Instance.Epoch = 2 })
	diverged := on(func(s *ferryman.ServiceStatus) { s.Instance.Diverged = true })
	unfit := on(func(s *ferryman.ServiceStatus) { s.Unit.Unfit = "its unit does as it likes" })
	old := replica("n1", primary)
	for _, tt := range []struct {
		name  string
		nodes []upgrade.Node
		want  string // a name, or the reason why nobody
	}{
		{"the only other", []upgrade.Node{old, replica("n2")}, "n2"},
		{"nobody else is there", []upgrade.Node{old}, "no other node"},
		{"a witness is nobody", []upgrade.Node{old, replica("w", witness)}, "no other node"},
		{"one that was carried already", []upgrade.Node{old, replica("n2", position(1<<20)), replica("n3", runs("2"))}, "n3"},
		{"then the one that has most", []upgrade.Node{old, replica("n2"), replica("n3", position(1<<20))}, "n3"},
		{"a few bytes make no difference to who leads Raft", []upgrade.Node{old, replica("n2", leader, position(71)), replica("n3")}, "n3"},
		{"the first of equals", []upgrade.Node{old, replica("n2"), replica("n3")}, "n2"},
		{"not one that does not stream", []upgrade.Node{old, replica("n2", still)}, "does not stream"},
		{"not one that streams from another", []upgrade.Node{old, replica("n2", cascades)}, "does not stream"},
		{"nor from the one before it", []upgrade.Node{old, replica("n2", earlier)}, "does not stream"},
		{"not one that diverged", []upgrade.Node{old, replica("n2", diverged)}, "data that the primary does not have"},
		{"not one whose unit makes a lease worthless", []upgrade.Node{old, replica("n2", unfit)}, "n2: its unit does as it likes"},
		{"not one that is carried", []upgrade.Node{old, replica("n2", carried)}, "is being carried"},
		{"not one that leaves", []upgrade.Node{old, replica("n2", leaving)}, "is wanted leaving"},
		{"not one that is down", []upgrade.Node{old, replica("n2", silent)}, "does not answer"},
		{"not one without the service", []upgrade.Node{old, replica("n2", func(n *upgrade.Node) { n.View.Status.Services = nil })}, "has no service db"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, why, ok := upgrade.Successor(tt.nodes, ferryman.Primary{Node: "n1", Slot: "db", Epoch: 3, Lease: &ferryman.Lease{}}, old.View.Status.Services[0], ferryman.Target{Version: "2"})
			if ok && got.Name() != tt.want || !ok && !strings.Contains(why, tt.want) {
				t.Errorf("got %q (%s), want %q", got.Name(), why, tt.want)
			}
		})
	}
	if why := upgrade.CannotSucceed(replica("n2", unfit), ferryman.Primary{Node: "n1", Slot: "db", Epoch: 3}, old.View.Status.Services[0]); why != "" {
		t.Errorf("where no lease is needed: got %q, want that its unit does not matter", why)
	}
}
