// Package apiserver is the reference api-server: it serves the desired state
// from a watched file, makes and removes hosts when the agents' leader asks for
// a number of them, keeps the leader's reports, and offers artefacts. It never
// connects to an agent, and an agent does without it for as long as nothing
// about the cluster is to change.
package apiserver
