// Package runner carries committed steps out on this node, and observes its services. Each attempt runs once: a journal that outlives the agent holds
// what was begun and how it ended. Nothing in here waits for a step; whoever asks again is told how it stands.
package runner
