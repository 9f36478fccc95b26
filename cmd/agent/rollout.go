package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/cmd/agent/internal/render"
)

func rolloutCommand() *cobra.Command {
	return family("rollout", "Follow and steer the rollout of the desired state",
		rolloutStatusCommand(),
		wish{kind: ferryman.RequestPause, use: "pause", short: "Begin no more nodes until resumed; repairs go on", lasts: true,
			said: "the rollout is paused; `ferryman rollout resume` ends it"}.command(),
		wish{kind: ferryman.RequestResume, use: "resume", short: "End a pause",
			said: "the rollout goes on"}.command(),
		wish{kind: ferryman.RequestContinue, use: "continue", short: "Go on past the canary, finalize, or try again after a halt",
			said: "the rollout goes on; `ferryman rollout status --watch` follows it"}.command(),
		wish{kind: ferryman.RequestAbort, use: "abort", short: "Carry what is open back to the last complete version",
			said: "the rollout is being carried back; `ferryman rollout status --watch` follows it"}.command(),
		wish{kind: ferryman.RequestUndo, use: "undo", short: "Go back from the last complete version to the one before; it is quarantined",
			said: "the last rollout is being undone; `ferryman rollout status --watch` follows it"}.command(),
		historyCommand(),
		wish{kind: ferryman.RequestLift, use: "lift RELEASE", short: "Take a release, such as redis/7.0.15, out of quarantine", args: cobra.ExactArgs(1),
			about: func(r *ferryman.Request, args []string) { r.Release = args[0] },
			said:  "the release may be used again"}.command(),
	)
}

func rolloutStatusCommand() *cobra.Command {
	var v viewer
	c := &cobra.Command{Use: "status", Short: "Show how far the rollout is; with --watch until it ended", Args: cobra.NoArgs,
		Long: "Show how far the rollout is, what it does now, and why it waits.\n\n" +
			"With --watch it ends with the rollout: with success when it is complete, with exit code 1\nwhen it was reverted or superseded, or stands still.",
		RunE: func(c *cobra.Command, _ []string) error {
			var w watched
			return v.show(c, page{table: render.Rollout, data: rolloutData, done: w.done})
		}}
	v.flags(c, true)
	return c
}

func historyCommand() *cobra.Command {
	var v viewer
	c := &cobra.Command{Use: "history", Short: "Show the rollouts that ended, newest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return v.show(c, page{table: render.History, data: func(r ferryman.Report) any {
				all := append([]ferryman.Rollout{}, r.State.History...)
				slices.Reverse(all)
				return all
			}})
		}}
	v.flags(c, false)
	return c
}

// rolloutData is what `rollout status -o json` says.
func rolloutData(r ferryman.Report) any {
	return struct {
		Rollout     *ferryman.Rollout              `json:"rollout"`
		Stale       bool                           `json:"stale,omitempty"` // another is about to begin
		Paused      *ferryman.Hold                 `json:"paused,omitempty"`
		Frozen      *ferryman.Hold                 `json:"frozen,omitempty"`
		Quarantined map[string]ferryman.Quarantine `json:"quarantined,omitempty"`
		Steps       []ferryman.Step                `json:"steps"`
		Waits       []ferryman.Wait                `json:"waits"`
	}{r.State.Rollout, r.State.Stale(), r.State.Paused, r.State.Frozen, r.State.Quarantined,
		slices.DeleteFunc(append([]ferryman.Step{}, r.State.Ledger...), func(s ferryman.Step) bool { return !s.Open() }),
		append([]ferryman.Wait{}, r.Decision.Waits...)}
}

// watched is the rollout that a watch is about: the first that it saw open.
type watched struct{ opened time.Time }

// done tells whether the watched rollout is over, and the error is how badly.
func (w *watched) done(r ferryman.Report) (bool, error) {
	now := r.State.Rollout
	if !w.opened.IsZero() && (now == nil || !now.Opened.Equal(w.opened)) {
		for _, old := range r.State.History {
			if old.Opened.Equal(w.opened) {
				return true, verdict(old)
			}
		}
		return true, exitStatus{exitFailed, fmt.Errorf("the rollout was superseded; `ferryman rollout history` has the older ones")}
	}
	switch {
	case now == nil:
		return false, nil
	case !now.Open():
		if w.opened.IsZero() && r.State.Stale() {
			return false, nil // the next one is about to begin
		}
		return true, verdict(*now)
	}
	w.opened = now.Opened
	for _, p := range ferryman.Parts {
		part := now.Parts[p]
		if part.Status != ferryman.PartHalted {
			continue
		}
		text := ferryman.Brief(part.Reason)
		if !strings.Contains(text, "`ferryman ") { // most reasons say what to do
			text += "; `ferryman rollout continue` tries again, `ferryman rollout abort` goes back"
		}
		return true, exitStatus{exitFailed, fmt.Errorf("the rollout of generation %d stands still: %s: %s", now.Generation, p, text)}
	}
	return false, nil
}

// verdict is nil when all parts of an ended rollout are complete.
func verdict(r ferryman.Rollout) error {
	var bad []string
	for _, p := range ferryman.Parts {
		part := r.Parts[p]
		if part.Status == ferryman.PartComplete || part.Status == "" {
			continue
		}
		text := fmt.Sprintf("%s %s", p, part.Status)
		if part.Reason != "" {
			text += ": " + ferryman.Brief(part.Reason)
		}
		bad = append(bad, text)
	}
	if len(bad) == 0 {
		return nil
	}
	return exitStatus{exitFailed, fmt.Errorf("the rollout of generation %d is not complete: %s", r.Generation, strings.Join(bad, "; "))}
}
