// Package redis drives Redis (7.0 or newer) and Valkey servers as a database with one primary.
//
// History is master_replid and position is master_repl_offset. An acknowledged write is one that WAIT saw on a replica; that is the client's side,
// so that Instance.SyncReplicas is 0: the server acknowledges by itself.
//
// Redis by itself promises less than the contract asks for, so the engine adds:
//
//   - No writes at start. The generated configuration makes every process a replica of an address where nothing listens. So a crash, a restart policy
//     or a person never brings up a second primary; and replicas of a primary that lost its data are refused (NOMASTERLINK) instead of emptied.
//   - Epochs. A marker beside the data holds them; it is synced before the server is told anything, and never saved over what somebody else saved
//     there since it was read.
//   - One process. An operation talks over one connection, which is never made anew, so that it cannot promote a process which came up meanwhile.
//   - The fence. CLIENT PAUSE WRITE stops writes, expiry and WAIT's own traffic at one instant; then min-replicas-to-write is set beyond reach, which
//     refuses writes for as long as the process lives, also after the pause ended; and a restart comes up without writes anyway. Only then is the
//     position read: every write that was acknowledged is before it. REPLICAOF would be shorter but cuts replicas off before they have the end.
//   - No ping moves the offset between fence and promotion (repl-ping-replica-period), so that the old primary's last position is exactly the
//     successor's first, and it follows by partial resynchronisation.
//   - Divergence. Redis replaces diverged data without asking. Follow therefore compares histories first and refuses; clone saves what is there, sets
//     the snapshot aside, and only then lets Redis copy.
//   - Lost data. A promotion renames dump.rdb away, so that a primary that crashes comes up empty instead of with an old snapshot; an instance that
//     came up empty is not initialised, and is neither promoted nor followed, but cloned.
//
// FAILOVER, Redis's own switchover, is not used: it promotes by itself, before the new epoch is committed anywhere.
//
// The data are as durable as snapshots at a clean stop make them: an acknowledged write survives every planned action, and the loss of a node by
// its replicas. When all nodes crash at once, what was written since their last stop is lost. With appendonly (a parameter) it is not, but then a
// restarted instance has a new history each time and is cloned instead of following.
package redis
