// Package reconcile is the leader's loop: it observes the nodes, asks the plan
// what to do, commits that, and has the open steps carried out. It holds
// nothing that a new leader would miss; what must not be lost is in the
// replicated state.
package reconcile
