// Package cluster makes a group of agents one: it runs hashicorp/raft below a
// state machine that it is given, lends leadership to one function at a time,
// and allows only those changes of the configuration that are safe. It is the
// only package that knows raft, its store and its transport.
package cluster
