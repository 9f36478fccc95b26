package runner

import (
	"maps"
	"slices"

	"ferryman"
)

// book is all that the runner must not forget. It is small, and one file holds it, so that a step's end and what the step changed are one write: no
// crash comes between them.
type book struct {
	Format int `json:"format"`
	// Agent is the restart generation that the agent is to come up under.
	Agent uint64 `json:"agentRestartGeneration,omitempty"`
	// Departed says why this node left for good; empty while it is a member.
	Departed string               `json:"departed,omitempty"`
	Services map[string]selection `json:"services,omitempty"`
	// Doubt names the services for which an entry may have been lost. One step a service is open at a time, so only the next one that is asked for can
	// have been begun before the loss; with it the doubt ends.
	Doubt []string `json:"doubt,omitempty"`
	// Entries are in the order in which the attempts began.
	Entries []entry `json:"entries,omitempty"`
}

const bookFormat = 1

// keepEntries is how many ended entries are kept, and of those that have no end as many again: their steps were closed by the leader long ago.
const keepEntries = 256

// selection is what a service is to run, and what it was started under.
type selection struct {
	Selected ferryman.Target `json:"selected,omitzero"`
	// Digest binds the version that is selected.
	Digest   string          `json:"digest,omitempty"`
	Launched ferryman.Target `json:"launched,omitzero"`
	// StartID is the start that Launched was noted for.
	StartID string `json:"startID,omitempty"`
}

// entry is the record of one attempt. Its outcome is StatusRunning from before it begins until after it ended, also across a crash.
type entry struct {
	Step    uint64           `json:"step"`
	Op      ferryman.Op      `json:"op"`
	Service string           `json:"service,omitempty"`
	Attempt int              `json:"attempt"`
	Outcome ferryman.Outcome `json:"outcome"`
}

func (e entry) ended() bool { return e.Outcome.Status != ferryman.StatusRunning }

func (b book) clone() book {
	b.Services = maps.Clone(b.Services)
	if b.Services == nil {
		b.Services = map[string]selection{}
	}
	b.Doubt = slices.Clone(b.Doubt)
	b.Entries = slices.Clone(b.Entries)
	return b
}

func (b *book) find(step uint64) (*entry, bool) {
	i := slices.IndexFunc(b.Entries, func(e entry) bool { return e.Step == step })
	if i < 0 {
		return nil, false
	}
	return &b.Entries[i], true
}

// begin notes that the attempt is about to run, and forgets the oldest entries.
func (b *book) begin(e entry) {
	b.Doubt = slices.DeleteFunc(b.Doubt, func(slot string) bool { return slot == e.Service })
	if _, ok := b.find(e.Step); !ok {
		b.Entries = append(b.Entries, e)
	}
	ended, open := 0, 0
	for i := len(b.Entries) - 1; i >= 0; i-- {
		n := &open
		if b.Entries[i].ended() {
			n = &ended
		}
		if *n++; *n > keepEntries {
			b.Entries = slices.Delete(b.Entries, i, i+1)
		}
	}
}

func (b *book) end(o ferryman.Outcome) {
	if e, ok := b.find(o.Step); ok {
		e.Outcome = o
	}
}

// service changes what is noted of one service.
func (b *book) service(slot string, f func(*selection)) {
	s := b.Services[slot]
	f(&s)
	b.Services[slot] = s
}

// outcomes returns the newest n outcomes of attempts that ended, oldest first.
func (b *book) outcomes(n int) []ferryman.Outcome {
	var out []ferryman.Outcome
	for _, e := range b.Entries {
		if e.ended() {
			out = append(out, e.Outcome)
		}
	}
	slices.SortStableFunc(out, func(x, y ferryman.Outcome) int { return x.Ended.Compare(y.Ended) })
	return out[max(0, len(out)-n):]
}
