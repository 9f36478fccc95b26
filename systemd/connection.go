package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	bus "github.com/godbus/dbus/v5"
)

const (
	// dialLimit is how long the bus may take to let us in. Its socket is systemd's and accepts although nobody answers.
	dialLimit = 5 * time.Second
	// patience is how long the bus and systemd may be away from it: a restart of either takes a second, and more on a busy host.
	patience = 30 * time.Second
	// retry is how soon they are asked again meanwhile.
	retry = 100 * time.Millisecond
)

// manager is systemd as one connection shows it: what Bus uses of dbus.Conn.
type manager interface {
	Connected() bool
	Close()
	StartUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	StopUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	RestartUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	KillUnitWithTarget(ctx context.Context, name string, target dbus.Who, signal int32) error
	GetUnitPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
	GetUnitTypePropertiesContext(ctx context.Context, unit, unitType string) (map[string]any, error)
}

// dial connects to the system bus. The connection ends with ctx.
func (b *Bus) dial(ctx context.Context) (manager, error) {
	conn, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("system bus: %w; is dbus running, and may this user connect to it?", err)
	}
	conn.SetPropertiesSubscriber(b.updates, b.lost)
	if err := conn.Subscribe(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("system bus: subscribe to systemd: %w", err)
	}
	return conn, nil
}

// connection returns a live connection: a bus that was restarted is dialled again.
func (b *Bus) connection(ctx context.Context) (manager, error) {
	var conn manager
	select {
	case conn = <-b.conn:
	case <-ctx.Done():
		return nil, fmt.Errorf("system bus: %w", context.Cause(ctx))
	}
	defer func() { b.conn <- conn }()
	if b.ctx.Err() != nil {
		return nil, fmt.Errorf("system bus: %w", os.ErrClosed)
	}
	if conn != nil {
		if conn.Connected() {
			return conn, nil
		}
		conn.Close()
		conn = nil
		b.log.Warn("system bus: connection lost; connecting again")
	}
	// The connection lives in this context, so that it ends by hand while nobody answers.
	life, end := context.WithCancel(b.ctx)
	limit := time.AfterFunc(dialLimit, end)
	abandoned := context.AfterFunc(ctx, end)
	fresh, err := b.connect(life)
	inTime, wanted := limit.Stop(), abandoned()
	switch {
	case err == nil && inTime && wanted:
		conn = fresh
		return conn, nil
	case err == nil:
		fresh.Close()
	}
	end()
	switch {
	case !wanted:
		return nil, fmt.Errorf("system bus: connect: %w", context.Cause(ctx))
	case !inTime:
		return nil, fmt.Errorf("system bus: %w within %s: is dbus running?", errNoAnswer, dialLimit)
	}
	return nil, err
}

var errNoAnswer = errors.New("no answer")

// away tells that the bus, or systemd on it, was not there to answer, as while either is restarted. Whether what was asked for is done, nobody said.
func away(err error) bool {
	for _, gone := range []error{
		errNoAnswer, bus.ErrClosed, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ENOENT,
	} {
		if errors.Is(err, gone) {
			return true
		}
	}
	var said bus.Error
	if !errors.As(err, &said) {
		return false
	}
	switch said.Name {
	case "org.freedesktop.DBus.Error.NoReply", // it left the bus while it was asked
		"org.freedesktop.DBus.Error.Disconnected",
		"org.freedesktop.DBus.Error.ServiceUnknown", // it has not come back to the bus yet
		"org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.DBus.Error.Spawn.ChildExited":
		return true
	}
	return false
}

// patient calls f again while bus or systemd are away, for as long as a restart may take.
func patient(ctx context.Context, f func() error) error {
	for end := time.Now().Add(patience); ; {
		err := f()
		if err == nil || !away(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return fmt.Errorf("%w, when %w", err, context.Cause(ctx))
		}
	}
}
