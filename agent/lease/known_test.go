package lease_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"ferryman"
	"ferryman/agent/lease"
)

type willing struct{}

func (willing) Check(context.Context) error                      { return nil }
func (willing) Arm(context.Context, uint64, time.Duration) error { return nil }
func (willing) Disarm(context.Context) error                     { return nil }

// After a restart it is found without any change of the state that the state is
// as new as before, and the lease goes on running out meanwhile.
func TestALeaseIsRenewedSoonAfterTheStateIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := lease.NewHolder(lease.Config{
			Clock: func() time.Duration { return time.Since(began) },
			Wanted: func() (lease.Wanted, <-chan struct{}) {
				return lease.Wanted{Known: time.Since(began) > time.Second, Epoch: 3, Serial: 7, Length: ferryman.Duration(5 * time.Second)}, nil
			},
			Renew: func(context.Context, uint64) (ferryman.Duration, error) {
				return ferryman.Duration(5 * time.Second), nil
			},
			Guard:   willing{},
			Changed: func() {},
			Log:     slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		h.Run(ctx)
		if got := h.Status(); got == nil || got.Epoch != 3 || got.Serial != 7 {
			t.Errorf("the lease that is held 200ms later = %+v, want that of epoch 3 and serial 7", got)
		}
	})
}
