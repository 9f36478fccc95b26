// Package upgrade holds the rules of a rollout: the order of nodes, what a
// passage consists of, and the gates before it. All of it is pure: it reads
// facts and answers with the next operation or with the reason for waiting.
package upgrade
