// Package setup makes a host fit for its agent, which takes root once: the user that the agent runs as, the drop-in that keeps the database from coming up
// with writes, and what the agent may do to units.
//
// What it writes follows from the agent's configuration alone, under names that are always the same, so that it can be written again, and removed without a
// configuration.
package setup
