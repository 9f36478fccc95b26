package telemetry

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// JournalSocket is where systemd's journal takes what has fields of its own.
const JournalSocket = "/run/systemd/journal/socket"

// OnJournal tells whether w is the journal's stream, as systemd says in
// JOURNAL_STREAM: a process whose output goes elsewhere may have inherited that.
func OnJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// NewJournal returns a handler that writes to the journal's socket in its native
// protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): the text as MESSAGE,
// and each attribute also as a field, so that `journalctl FERRYMAN_STEP=7` finds
// what was said of step 7. What the journal does not take goes to fallback, a
// line each, with its priority.
func NewJournal(socket string, fallback io.Writer, level slog.Leveler) (slog.Handler, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // not connected: the journal may be restarted
	if err != nil {
		return nil, fmt.Errorf("write to the journal: %w", err)
	}
	out := &journalOut{conn: conn, to: &net.UnixAddr{Name: socket, Net: "unixgram"}, fallback: fallback}
	text := slog.NewTextHandler(&out.attrs, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && slices.Contains([]string{slog.TimeKey, slog.LevelKey, slog.MessageKey}, a.Key) {
			return slog.Attr{} // the journal has them as fields of its own
		}
		return a
	}})
	return journal{out: out, text: text, prefix: "FERRYMAN"}, nil
}

// journal is a handler with what was said once for all that comes.
type journal struct {
	out    *journalOut
	text   slog.Handler // writes the attributes to out.attrs
	fields []byte       // the attributes as fields
	prefix string       // of the names of fields
}

// journalOut is shared by all loggers that were made of one.
type journalOut struct {
	conn     *net.UnixConn
	to       *net.UnixAddr
	fallback io.Writer

	mu    sync.Mutex
	attrs bytes.Buffer
}

func (j journal) Enabled(ctx context.Context, level slog.Level) bool {
	return j.text.Enabled(ctx, level)
}

func (j journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	j.text = j.text.WithAttrs(attrs)
	j.fields = slices.Clip(j.fields)
	for _, a := range attrs {
		j.fields = appendAttr(j.fields, j.prefix, a)
	}
	return j
}

func (j journal) WithGroup(name string) slog.Handler {
	if name != "" {
		j.text, j.prefix = j.text.WithGroup(name), j.prefix+"_"+name
	}
	return j
}

func (j journal) Handle(ctx context.Context, r slog.Record) error {
	fields := slices.Clip(j.fields)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, j.prefix, a)
		return true
	})
	j.out.mu.Lock()
	defer j.out.mu.Unlock()
	j.out.attrs.Reset()
	if err := j.text.Handle(ctx, r); err != nil {
		return err
	}
	message := strings.TrimSpace(r.Message + " " + strings.TrimSpace(j.out.attrs.String()))
	priority := priorityOf(r.Level)
	fields = appendField(fields, "PRIORITY", priority)
	fields = appendField(fields, "SYSLOG_IDENTIFIER", "ferryman")
	fields = appendField(fields, "MESSAGE", message)
	if _, err := j.out.conn.WriteToUnix(fields, j.out.to); err != nil {
		_, err = fmt.Fprintf(j.out.fallback, "<%s>%s\n", priority, strings.ReplaceAll(message, "\n", " "))
		return err
	}
	return nil
}

// priorityOf is syslog's.
func priorityOf(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "3"
	case level >= slog.LevelWarn:
		return "4"
	case level >= slog.LevelInfo:
		return "6"
	}
	return "7"
}

// appendAttr appends an attribute as a field; those of a group each.
func appendAttr(to []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	name := prefix
	if a.Key != "" {
		name += "_" + a.Key
	}
	if v.Kind() == slog.KindGroup {
		for _, inner := range v.Group() {
			to = appendAttr(to, name, inner)
		}
		return to
	}
	if a.Equal(slog.Attr{}) {
		return to
	}
	return appendField(to, fieldName(name), v.String())
}

// fieldName is what the journal takes for a name: at most 64 of A to Z, digits
// and _.
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), 64)]
}

// appendField writes a value of one line after =, and any other after its length.
func appendField(to []byte, name, value string) []byte {
	to = append(to, name...)
	if strings.Contains(value, "\n") {
		to = append(to, '\n')
		to = binary.LittleEndian.AppendUint64(to, uint64(len(value)))
	} else {
		to = append(to, '=')
	}
	return append(append(to, value...), '\n')
}
