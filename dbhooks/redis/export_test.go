package redis

// WaitForReplica is how the writer waits, for the suite's own client.
var WaitForReplica = waitForReplica
