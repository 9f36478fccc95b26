package telemetry_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"ferryman/agent/telemetry"
)

// state prints itself; its field would betray that it was printed otherwise.
type state struct{ name string }

func (s *state) String() string { return "node " + s.name }

func TestHCLog(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		level slog.Level
		say   func(hclog.Logger)
		want  string
	}{
		{"info", slog.LevelInfo, func(l hclog.Logger) { l.Info("elected", "term", uint64(3)) },
			"level=INFO msg=elected component=raft term=3"},
		{"below the level", slog.LevelInfo, func(l hclog.Logger) { l.Debug("quiet") }, ""},
		{"trace", slog.LevelDebug - 4, func(l hclog.Logger) { l.Trace("deep") },
			"level=DEBUG-4 msg=deep component=raft"},
		{"stringer", slog.LevelInfo, func(l hclog.Logger) { l.Warn("w", "who", &state{"n1"}) },
			`level=WARN msg=w component=raft who="node n1"`},
		{"format", slog.LevelInfo, func(l hclog.Logger) { l.Info("f", "servers", hclog.Fmt("%d of %d", 1, 2)) },
			`level=INFO msg=f component=raft servers="1 of 2"`},
		{"error", slog.LevelInfo, func(l hclog.Logger) { l.Error("e", "error", errors.New("no route")) },
			`level=ERROR msg=e component=raft error="no route"`},
		{"with and named", slog.LevelInfo, func(l hclog.Logger) { l.With("id", "7").Named("snapshot").Info("s") },
			"level=INFO msg=s component=raft.snapshot id=7"},
		{"odd arguments", slog.LevelInfo, func(l hclog.Logger) { l.Log(hclog.Info, "o", "alone") },
			"level=INFO msg=o component=raft"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			drop := func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}
			h := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: test.level, ReplaceAttr: drop})
			test.say(telemetry.HCLog(slog.New(h), "raft"))
			got := strings.TrimSpace(out.String())
			if !strings.HasPrefix(got, test.want) || (test.want == "" && got != "") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
