// Package dbhooks is the contract between Ferryman and a database: what an engine observes, and what it does when it is told to.
//
// An engine is told one operation at a time and carries it out to its observed effect; it decides nothing. It neither starts nor stops processes: that is
// for the unit (systemd, or the process supervisor). What it knows reaches the plan as data: Traits, Instance, and the Result of an operation, above all
// the blockers of a preflight. The same data as JSON are the contract of a program of the user's own (package exec).
//
// # Engines with one primary
//
// They share these rules; package conformance tries every one of them.
//
//   - A process comes up without accepting writes, whatever it was before: only promote gives them.
//   - promote{epoch} makes the instance writable. It is refused (ErrEpoch) below the newest epoch that was heard of here, and at that epoch unless it
//     was this instance that had it; and (ErrFenced) at the epoch at which it was fenced. Where a promotion begins a new history, it may begin one
//     each time. The Result names history and position.
//   - fence{epoch} is given the epoch of the primary that is to stop. When it returns, no write is accepted any more, and Result.Position of
//     Result.History covers every write that was or will ever be acknowledged. It stays so over restarts, until unfence or a promotion with a newer epoch.
//     A fenced instance still sends its log to its replicas.
//   - unfence{epoch} takes the fence back: an instance that was writable when it was fenced, and has not restarted since, is writable again; any
//     other stays without writes.
//   - follow{from, epoch} makes it a replica; a primary steps down. It returns once the stream stands and has caught up, and fails at once
//     (ErrDiverged) when this instance's data are not a part of the source's history, and when it has none: then clone. It never replaces data. A
//     process that restarts may have to be told again.
//   - verify{history, position, version} returns when the instance holds at least that position of that history and runs that version; what is not
//     given is not checked. It waits as long as ctx lets it; a version that differs fails at once.
//   - initialise makes the first, empty database, once per cluster, and is refused where data exist. It makes nothing writable.
//   - clone{from} makes the data a full copy of the source's. Data that are a part of the source's history are kept; others are set aside under
//     another name, which Result.SetAside tells, and never deleted.
//   - configure{parameters} stores them, applies what can be applied while running, and says whether the rest needs a restart.
//   - preflight changes nothing. Given a version or parameters it says whether the instance can take them; given an epoch, whether it could be promoted;
//     Result.Blockers say why not. With Args.Alone the primary is lost, and that the instance does not stream is no blocker; no data, data that still
//     load, an epoch that is refused are. Result.Position of Result.History then covers every write that the primary acknowledged because this
//     instance has it, and promote keeps them.
//
// Every operation may be repeated and then does no harm, and concerns the one process that it found. Do ends when ctx does; its effect may then come later, which is for Status to see.
//
// # Engines in groups
//
// NDB maps onto the same contract. Each process of a node (management, data, SQL) is a Service with its own slot and its own Engine value, and Tiers
// is [mgmd ndbd sql], the order of a rollout. Primaries is 0: there is no promote, fence or follow among its Ops, so no rule of the primary applies.
// Status asks the management server: Instance.Group is the node group, and MaxDownPerGroup is 1; Blockers carry what the cluster knows and a node
// cannot, such as "data node 3 is not STARTED", "no arbitrator is connected", "a backup is running"; an agent reads them anew just before each stop, as
// the management server does not serialise stops. Since one data node at a time is safe at most, a data node also blocks while any other, of whatever
// group, is not STARTED. What stops a data node is `stop v2` of the protocol, in the unit's ExecStop or in drain, never a signal. checkpoint, drain,
// verify{version} and preflight are the Ops.
package dbhooks
