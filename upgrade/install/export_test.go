package install

import (
	"context"
	"io"
	"math"
	"time"
)

// Hasten makes the waits of downloads short.
func (s *Store) Hasten(backOff, stallAfter time.Duration) {
	s.backOff, s.stallAfter = backOff, stallAfter
}

// Unpack is unpack with as much room as it likes.
func Unpack(ctx context.Context, r io.Reader, dir string, l Limits) error {
	return unpack(ctx, r, dir, l.orDefault(), math.MaxInt64)
}

// UnpackInto is unpack with little room.
func UnpackInto(ctx context.Context, r io.Reader, dir string, room int64) error {
	return unpack(ctx, r, dir, Limits{}.orDefault(), room)
}

// Untar is Unpack without the compression.
func Untar(ctx context.Context, r io.Reader, dir string, l Limits) error {
	return untar(ctx, r, dir, l.orDefault(), math.MaxInt64)
}

// Holding is holding.
var Holding = holding
