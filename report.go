package ferryman

import (
	"strings"
	"time"
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
