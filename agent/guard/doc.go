// Package guard is the process apart from the agent that fences a database whose lease ran out, whatever became of the agent.
//
// The agent arms it with a deadline and moves the deadline on as it renews its lease. At the deadline the guard kills the database, writes into the
// database's marker that it is fenced, and kills once more. Deadlines are instants of CLOCK_BOOTTIME, which neither a change of the wall clock nor a
// suspended host moves. They are kept in a file, so that whoever comes after a guard that was killed goes on with them; a boot ends them, as it ended the
// database.
//
// Where no service manager restarts it, it is a pair: the active one holds a file lock and the deadline, and starts a standby. The standby waits for the
// lock in the kernel, kills the active one when it hangs, and holds the same deadline meanwhile.
package guard
