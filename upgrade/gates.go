package upgrade

import (
	"fmt"
	"time"

	"ferryman"
)

// Gate lets a new passage begin, or says why not. Codes are short and stable.
type Gate struct {
	Code, Reason string
}

// Open tells whether the gate lets the passage through.
func (g Gate) Open() bool { return g.Code == "" }

func shut(code, format string, args ...any) Gate { return Gate{code, fmt.Sprintf(format, args...)} }

// Gates says whether a passage may begin now. When a part goes back only a
// person's hold keeps it waiting: a way back is not delayed.
func Gates(s ferryman.State, part ferryman.Part, pp ferryman.PartProgress, nodes []Node, now time.Time) Gate {
	if hold, held := s.RolloutHold(); held {
		return shut("paused", "the rollout is %s; `ferryman rollout resume` lets it go on", hold)
	}
	if pp.Status == ferryman.PartReverting {
		return Gate{}
	}
	policy := s.Policy()
	if g := window(policy.Windows, now); !g.Open() {
		return g
	}
	return bake(policy, part, pp, nodes, now)
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func window(windows []ferryman.Window, now time.Time) Gate {
	if len(windows) == 0 {
		return Gate{}
	}
	text := ""
	for _, w := range windows {
		if w.Contains(now) {
			return Gate{}
		}
		text += ", " + w.String()
	}
	return shut("window", "no node is carried outside of the window %s", text[2:])
}

// bake holds the rollout after its canaries until they have been healthy for
// the bake time, or a person says continue.
func bake(policy ferryman.Policy, part ferryman.Part, pp ferryman.PartProgress, nodes []Node, now time.Time) Gate {
	canaries := 0
	if policy.Canary != nil {
		canaries = *policy.Canary
	}
	if canaries == 0 || policy.Bake == 0 || pp.Continue || len(pp.Carried) < canaries {
		return Gate{}
	}
	for _, c := range pp.Carried[:canaries] {
		if rest := policy.Bake.Std() - now.Sub(c.Ended); rest > 0 {
			return shut("bake", "the canary bakes for another %s; `ferryman rollout continue` goes on at once", rest.Round(time.Second))
		}
		for _, n := range nodes {
			if n.ID() == c.Node && !n.HealthyFor(part, policy.Bake, now) {
				return shut("bake", "the canary %s has not been healthy for %s yet%s", n.Name(), policy.Bake, colon(n.Down))
			}
		}
	}
	return Gate{}
}

// Budget says whether id may be taken out of service beside what is down
// already, whatever the cause. A node that is down itself costs nothing more,
// but nodes are carried no more at a time than the budget has room for. For
// agents only agents count: an agent that restarts leaves its database alone,
// and a broken database must not keep its agent from being mended.
func Budget(max int, part ferryman.Part, nodes []Node, passages map[ferryman.NodeID]ferryman.Passage, id ferryman.NodeID) Gate {
	down, self, first := 0, false, ""
	for _, n := range nodes {
		why := n.Down
		if part == ferryman.PartAgents && n.View.Reachable && n.Member.Want == ferryman.WantActive {
			why = ""
		}
		if _, carried := passages[n.ID()]; carried {
			why = "is being carried"
		}
		switch {
		case n.ID() == id:
			self = why != ""
		case why != "":
			down++
			if first == "" {
				first = n.Name() + ": " + why
			}
		}
	}
	if self && len(passages) < max || down+1 <= max {
		return Gate{}
	}
	return shut("budget", "maxUnavailable is %d and %d nodes are unavailable already (%s)", max, down, first)
}

// Quorum says whether the node's agent may be taken down as far as Raft is
// concerned: the voters that answer without it must still be a majority. A
// single voter has nobody to lose.
func Quorum(nodes []Node, id ferryman.NodeID) Gate {
	total, alive := votersBeside(nodes, id)
	for _, n := range nodes {
		if n.ID() == id && n.Suffrage == ferryman.Voter {
			total++
		}
	}
	return majority(total, alive)
}

// WithoutVote says whether the voter id may lose its vote: those that are left
// and answer must be a majority of those that are left.
func WithoutVote(nodes []Node, id ferryman.NodeID) Gate {
	total, alive := votersBeside(nodes, id)
	return majority(total, alive)
}

func votersBeside(nodes []Node, id ferryman.NodeID) (total, alive int) {
	for _, n := range nodes {
		if n.Suffrage != ferryman.Voter || n.ID() == id {
			continue
		}
		total++
		if n.View.Reachable {
			alive++
		}
	}
	return total, alive
}

func majority(total, alive int) Gate {
	if total > 1 && alive < total/2+1 {
		return shut("quorum", "only %d of %d voters would answer, fewer than a majority", alive, total)
	}
	return Gate{}
}

// Versions says whether a node may be carried to goal without making three
// versions of one thing, now or on the way back to from, which counts although
// nobody may run it any more; if not, the nodes that are on neither side go back
// first. A goal without a version brings none.
func Versions(nodes []Node, part ferryman.Part, from, goal ferryman.Target, id ferryman.NodeID) bool {
	if goal.Version == "" {
		return true
	}
	seen := map[string]bool{goal.Version: true}
	if from.Version != "" {
		seen[from.Version] = true // also what a newcomer is about to install
	}
	for _, n := range nodes {
		if n.ID() == id {
			continue
		}
		if part == ferryman.PartAgents {
			if n.View.Known && n.View.Status.Agent.Version == goal.Version {
				return true // newcomers bring what their hosts have installed, and each that is carried makes it fewer
			}
			if v := n.View.Status.Agent.Version; n.View.Known && (from.Version != "" || n.View.Status.Release != "") {
				seen[v] = true
			} else if n.View.Known {
				seen[""] = true // what hosts have installed is one side, whatever that is
			}
			continue
		}
		for _, s := range n.View.Status.Services {
			if s.Selected.Version != "" {
				seen[s.Selected.Version] = true
			}
		}
	}
	return len(seen) <= 2
}
