package ferryman

// RequestKind is something that a person asks of the cluster locally.
type RequestKind string

// The local requests; they are replicated beside the document.
const (
	RequestPause      RequestKind = "pause"
	RequestResume     RequestKind = "resume"
	RequestFreeze     RequestKind = "freeze"
	RequestUnfreeze   RequestKind = "unfreeze"
	RequestContinue   RequestKind = "continue" // past the canary, to finalize, or after a halt
	RequestAbort      RequestKind = "abort"    // carry what is open back
	RequestUndo       RequestKind = "undo"     // quarantine what the last rollout brought and go back
	RequestLift       RequestKind = "lift"     // take Release out of quarantine
	RequestSwitchover RequestKind = "switchover"
	RequestFailover   RequestKind = "failover" // replace the primary, which is lost; also clears the condition of flapping
	RequestRestart    RequestKind = "restart"  // one rolling restart of the database
	RequestAdopt      RequestKind = "adopt"    // Node's existing database is the cluster's
	RequestLeave      RequestKind = "leave"
	RequestMaintain   RequestKind = "maintain" // Node is absent on purpose For that long
	RequestToken      RequestKind = "token"    // admit one new node by Token
	RequestUseToken   RequestKind = "use-token"
)

// Request is a person's (or a stopping node's) wish, with who and why.
type Request struct {
	Kind RequestKind `json:"kind"`
	// Node is a member's name or id, where the request is about one.
	Node   string   `json:"node,omitempty"`
	By     string   `json:"by"`
	Reason string   `json:"reason,omitempty"`
	For    Duration `json:"for,omitempty"`
	// Dead is a person's word, for failover, that the old primary accepts no
	// writes and will not, wherever it is.
	Dead bool `json:"dead,omitempty"`
	// Release is a key such as "redis/7.0.15", for lift.
	Release string `json:"release,omitempty"`
	// TokenID and Token accompany RequestToken.
	TokenID string `json:"tokenID,omitempty"`
	Token   *Token `json:"token,omitempty"`
	BootID  string `json:"bootID,omitempty"`
}
