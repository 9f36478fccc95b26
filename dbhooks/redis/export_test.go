package redis

import (
	"context"

	"ferryman/dbhooks"
)

// WaitForReplica is how the writer waits, for the suite's own client.
var WaitForReplica = waitForReplica

// AcceptWritesAfterFence is the end of a promotion whose instance was fenced, by somebody else, since the operation read the marker.
func AcceptWritesAfterFence(ctx context.Context, e *Engine) error {
	db, err := e.dial(ctx)
	if err != nil {
		return err
	}
	defer db.client.Close()
	if db.known, err = e.load(); err != nil {
		return err
	}
	fenced := db.known
	if fenced.Marker, err = fenced.Fence(fenced.Epoch); err != nil {
		return err
	}
	if err := dbhooks.SaveMarker(e.cfg.Dir, fenced); err != nil {
		return err
	}
	return db.acceptWrites(ctx)
}
