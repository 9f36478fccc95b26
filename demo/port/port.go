// Package port gives out addresses for servers that start later, in processes of
// their own.
package port

import (
	"fmt"
	"os"
	"sync/atomic"
)

var given atomic.Uint32

// Free returns an address of loopback that nobody else is given: its host is
// made of this process's id, as all of 127.0.0.0/8 is this machine. A port of
// 127.0.0.1 that is free now may be another's by the time its server starts.
func Free() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:%d", 64|pid>>16&63, pid>>8&255, pid&255, 10000+given.Add(1)%20000)
}
