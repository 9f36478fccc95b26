// Package ferryman holds the nouns that every part of the agent shares: the
// desired-state document, the replicated state, what a leader has observed,
// and the steps between them. It does no I/O, holds no locks and imports the
// standard library only, so that the plan, its simulation and every tool
// speak of the same things.
package ferryman
