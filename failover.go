package ferryman

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Failover replaces a primary that is lost. Until the next epoch is committed
// it can go back.
type Failover struct {
	From NodeID `json:"from"`
	Slot string `json:"slot"`
	// Why says what was seen of the old primary.
	Why   string    `json:"why"`
	Began time.Time `json:"began"`
	// FirstStep is the first step id that can belong to it.
	FirstStep uint64 `json:"firstStep"`
	// By is the person who asked for it; empty when the cluster decided by itself.
	By string `json:"by,omitempty"`
	// To is the node that a person chose; empty leaves the choice to the plan.
	To NodeID `json:"to,omitempty"`
	// Dead tells that the person vouches for the old primary's end.
	Dead bool `json:"dead,omitempty"`
	// Fenced says how it is known that the old primary accepts no writes; empty
	// while it is not. Survey is the first step id of the questions that were
	// asked after that.
	Fenced string `json:"fenced,omitempty"`
	Survey uint64 `json:"survey,omitempty"`
}

// Held is what an instance holds, as it said after the old primary was fenced.
type Held struct {
	Node NodeID
	Result
	// Rank orders histories: 2 is the old primary's, 1 the one before it, which
	// is all that there is when nobody followed it yet, 0 any other.
	Rank int
}

// Survey returns the answers of a failover that there are, the one that holds
// most first. Positions compare within one history only.
func (s State) Survey() []Held {
	f := s.Failover
	if f == nil || f.Fenced == "" {
		return nil
	}
	var all []Held
	for _, st := range s.Ledger {
		if st.ID < f.Survey || st.Op != OpPreflight || !st.Args.Alone || !st.Outcome.Done() {
			continue
		}
		h := Held{Node: st.Node, Result: st.Outcome.Result}
		switch {
		case h.History == "":
		case h.History == s.Primary.History:
			h.Rank = 2
		case h.History == s.Primary.Before:
			h.Rank = 1
		}
		all = append(slices.DeleteFunc(all, func(o Held) bool { return o.Node == h.Node }), h)
	}
	slices.SortStableFunc(all, func(a, b Held) int {
		return cmp.Or(cmp.Compare(b.Rank, a.Rank), cmp.Compare(b.Position, a.Position), cmp.Compare(a.Node, b.Node))
	})
	return all
}

// Holders are the members that may hold a write which the primary has
// acknowledged: all with services but itself.
func (s State) Holders() (ids []NodeID) {
	for id, m := range s.Members {
		if id != s.Primary.Node && !m.Witness && !m.Lost && len(m.Services) > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Required is how many of the Holders must answer so that at least one of
// them holds every write that was acknowledged; zero while replication is
// asynchronous, when none need.
func (s State) Required() int {
	n := s.Primary.SyncReplicas
	if n == 0 {
		return 0
	}
	return max(1, len(s.Holders())-n+1)
}

// CannotReplace says why a member cannot become the primary in the place of the
// one that is lost; empty when it can. The cluster by itself takes only one
// that holds all that the mode of replication promises; a person may take less.
func (s State) CannotReplace(id NodeID) string {
	f, name := s.Failover, s.Members[id].Name
	if f == nil {
		return "no failover is under way"
	}
	if f.Fenced == "" {
		return s.Members[f.From].Name + " is not fenced, and its lease may still run"
	}
	survey := s.Survey()
	i := slices.IndexFunc(survey, func(h Held) bool { return h.Node == id })
	switch {
	case i < 0:
		return name + " has not said what it holds since " + s.Members[f.From].Name + " was fenced"
	case len(survey[i].Blockers) > 0:
		return name + ": " + survey[i].Blockers[0]
	case f.By != "":
		return ""
	}
	return s.holdsLess(survey, i)
}

// promoting tells that the newest promotion of the primary has not told how it
// went: it may have begun a history that is not recorded, and taken writes in it.
func (s State) promoting() bool {
	unknown := false
	for _, st := range s.Ledger {
		if st.Op == OpPromote && st.Node == s.Primary.Node && st.Args.Epoch == s.Primary.Epoch {
			unknown = !st.Outcome.Done()
		}
	}
	return unknown
}

// holdsLess says why the i-th of the survey may lack a write that was
// acknowledged.
func (s State) holdsLess(survey []Held, i int) string {
	best, sync := survey[i], s.Primary.SyncReplicas > 0
	name := func(h Held) string { return s.Members[h.Node].Name }
	for _, h := range survey[:i] {
		if more := h.Rank != best.Rank || h.Position != best.Position; more && (sync || len(h.Blockers) == 0) {
			return name(h) + " holds more than " + name(best)
		}
	}
	switch {
	case best.Rank == 0:
		return fmt.Sprintf("%s holds history %q, and the primary's is %q", name(best), best.History, s.Primary.History)
	case best.Rank == 1 && s.Primary.History != "":
		return fmt.Sprintf("%s holds nothing of history %s, which the primary began", name(best), s.Primary.History)
	}
	if best.Rank == 1 || s.promoting() { // it is not known which history was begun, if any
		for _, h := range survey {
			if h.Rank == 0 && h.History != "" && !slices.Contains(s.Histories, h.History) {
				return fmt.Sprintf("%s holds history %s, which may be what the primary began", name(h), h.History)
			}
		}
	}
	if best.Node == s.Failover.From {
		return "" // it holds all that it acknowledged itself
	}
	holders, answers := s.Holders(), 0
	for _, h := range survey {
		if slices.Contains(holders, h.Node) {
			answers++
		}
	}
	if need := s.Required(); answers < need {
		return fmt.Sprintf("%d of the %d members that may hold an acknowledged write have answered, and %d must", answers, len(holders), need)
	}
	return ""
}
