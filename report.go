package ferryman

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Report is what the leader knows of the cluster: `ferryman status` prints it,
// metrics are made from it, and it is pushed to the api-server.
type Report struct {
	Time  time.Time `json:"time"`
	State State     `json:"state"`
	View  View      `json:"view"`
	// Decision is what the plan wants now; its waits say why nothing happens.
	Decision Decision `json:"decision"`
}

// Brief is a reason in one line: how it begins, and the last line of the log
// that it quotes. `ferryman events` has the whole.
func Brief(reason string) string {
	first, rest, many := strings.Cut(strings.TrimSpace(reason), "\n")
	if !many {
		return first
	}
	return first + " " + strings.TrimSpace(rest[strings.LastIndexByte(rest, '\n')+1:])
}

// LastLines cuts text to its last whole lines of at most size bytes: what goes
// into a reason is committed in Raft.
func LastLines(text string, size int) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	if len(text) <= size {
		return text
	}
	cut := text[len(text)-size-1:] // one byte more tells whether the first line is whole
	if _, rest, ok := strings.Cut(cut, "\n"); ok {
		return rest
	}
	// One long line: its end, from the beginning of a character.
	cut = cut[1:]
	for len(cut) > 0 && !utf8.RuneStart(cut[0]) {
		cut = cut[1:]
	}
	return cut
}
