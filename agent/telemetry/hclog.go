// Package telemetry carries what the agent says about itself to where people
// and machines read it.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// HCLog returns a logger for libraries of HashiCorp that writes to l, each
// message with the library's name as the attribute "component". The level is
// l's own to judge; hclog's Trace is four below slog's Debug.
func HCLog(l *slog.Logger, name string) hclog.Logger {
	// The logger itself is off: only its sink writes.
	h := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: name, Level: hclog.Off})
	h.RegisterSink(sink{l})
	return h
}

type sink struct{ log *slog.Logger }

// Accept is called by hclog with every message, whatever its level.
func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	ctx := context.Background()
	at := levelOf(level)
	if !s.log.Enabled(ctx, at) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	if name != "" {
		attrs = append(attrs, slog.String("component", name))
	}
	for i := 0; i < len(args); i += 2 {
		if i+1 == len(args) {
			attrs = append(attrs, slog.Any("extra", printable(args[i])))
			break
		}
		attrs = append(attrs, slog.Any(fmt.Sprint(args[i]), printable(args[i+1])))
	}
	s.log.Log(ctx, at, msg, attrs...)
}

// printable turns a value that would be read later, by reflection, into the
// text that it is now: raft logs pointers to itself while it changes.
func printable(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		if len(v) == 0 {
			return ""
		}
		if layout, ok := v[0].(string); ok {
			return fmt.Sprintf(layout, v[1:]...)
		}
		return fmt.Sprint(v...)
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	case string, bool, int, int32, int64, uint, uint32, uint64, float32, float64:
		return v
	default:
		return fmt.Sprintf("%+v", v)
	}
}

func levelOf(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}
