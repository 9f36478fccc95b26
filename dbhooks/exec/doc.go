// Package exec makes an engine of any program: the contract of package dbhooks over a command line.
//
// The program is called with the operation as its only argument: traits, status, command, or one of the operations that it lists in its traits. It gets
// the JSON of ferryman.Args on its standard input and answers with JSON on its standard output: of ferryman.Traits, ferryman.Instance,
// dbhooks.Command or ferryman.Result; nothing at all is an empty Result. Fields that the contract does not have are refused. What it prints on its
// standard error is the reason of a failure, in a person's words: the last 4 KiB count.
//
// The exit code:
//
//	0   done: the effect was observed
//	1   failed; so do all codes that are not named here
//	2   this operation is not supported
//	4   the epoch was refused, or the instance is fenced: final for this epoch
//	5   diverged: only a clone helps
//	75  not now; the same may succeed later (EX_TEMPFAIL of sysexits.h)
//
// Its environment is PATH, LANG, and these, so that a shell needs no JSON to read its input:
//
//	FERRYMAN_ADDRESS, FERRYMAN_LISTEN, FERRYMAN_DIR, FERRYMAN_PROGRAM, FERRYMAN_USERNAME, FERRYMAN_PASSWORD   from the agent's configuration
//	FERRYMAN_EXTRA_<NAME>                                                                                     likewise, the name in capitals
//	FERRYMAN_HOME                                                                                             command: the release directory, or empty
//	FERRYMAN_EPOCH, FERRYMAN_FROM, FERRYMAN_HISTORY, FERRYMAN_POSITION, FERRYMAN_VERSION, FERRYMAN_ALONE      from the arguments, if given
//
// It runs in a process group of its own, which is killed when the time is up; nothing that it starts outlives it. It may print 64 KiB.
//
// An operation concerns the process of the database that it found: a promote talks to it over one connection, reads what is known of epochs and fences
// only once that stands, and fails when it breaks. A program of several calls of a client, each with a connection of its own, may promote a process
// that came up in between; the one call that gives writes must then check epoch and fence within the database, as the example's does.
//
// configs/exec holds a worked example, and a program of one's own can be tried with package conformance as that example is.
package exec
