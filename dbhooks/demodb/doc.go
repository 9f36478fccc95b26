// Package demodb is a small replicated key-value database, for the demo and for tests, and the engine that drives it.
//
// It is small but it means what it says: a write is in an append-only log with checksums, synced, before it is acknowledged; replicas receive that log
// as a stream; and a write is acknowledged only when SyncReplicas of them (0 or 1, 1 unless told otherwise) have it on disk too. With 1 and no replica
// connected, writes wait; with 0 the primary acknowledges alone, and what its replicas lack is lost with it.
//
// A position is the number of entries in the log. Every promotion begins a new history with an entry of its own; history and position together name
// one entry, as an index and a term do in Raft: a replica whose last entry the primary does not have has diverged, says so and stands still until it
// is cloned. A process always comes up without writes; only a promotion gives them.
package demodb
