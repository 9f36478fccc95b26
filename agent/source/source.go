package source

import (
	"context"
	"sync/atomic"
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

// answered is when a source last answered, whether or not there was anything new.
type answered struct{ at atomic.Pointer[time.Time] }

func (a *answered) now() {
	now := time.Now()
	a.at.Store(&now)
}

// Answered is when the source last gave an answer, also one that there is no
// other document; zero while it has not. Anybody may ask, at any time.
func (a *answered) Answered() time.Time {
	if at := a.at.Load(); at != nil {
		return *at
	}
	return time.Time{}
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
