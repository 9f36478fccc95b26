package source

import (
	"context"
	"time"
)

// Source is where the desired state comes from.
type Source interface {
	// Fetch blocks until there is a document other than the one that etag
	// stands for, and returns it with its own etag; any document differs from
	// the empty etag. An etag means something only to the source that gave it.
	//
	// An error is returned when it happens, with etag unchanged. The caller
	// tells it and calls again: Fetch itself waits before it bothers the other
	// side anew. One caller at a time.
	Fetch(ctx context.Context, etag string) (raw []byte, next string, err error)
}

// sleep waits for d, or returns why ctx ended before.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
