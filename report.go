package ferryman

import "time"

// Report is what the leader knows of the cluster: `ferryman status` prints it,
// metrics are made from it, and it is pushed to the api-server.
type Report struct {
	Time  time.Time `json:"time"`
	State State     `json:"state"`
	View  View      `json:"view"`
	// Decision is what the plan wants now; its waits say why nothing happens.
	Decision Decision `json:"decision"`
}
