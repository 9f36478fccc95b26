package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"ferryman"
	"ferryman/agent/state"
)

// document is what the source gave, read as far as it can be.
type document struct {
	accepted ferryman.Accepted
	err      error // why it cannot be read
}

// fetch brings documents for as long as this node leads. A source that fails
// changes nothing but a line in the status.
func (t *term) fetch() {
	etag, retry := "", retryFirst
	for t.ctx.Err() == nil {
		raw, next, err := t.Source.Fetch(t.ctx, etag)
		if t.ctx.Err() != nil {
			return
		}
		if err != nil {
			text := err.Error()
			if !t.tell(func(t *term) { t.sourceFailed(text) }) {
				return
			}
			select {
			case <-time.After(retry):
			case <-t.ctx.Done():
				return
			}
			retry = min(2*retry, retryLast)
			etag = "" // an answer is news now, also when the document is the same
			continue
		}
		etag, retry = next, retryFirst
		d := t.read(raw)
		if !t.tell(func(t *term) {
			t.sourceFailed("")
			t.view.Source.Generation, t.view.Source.Answered = d.accepted.Document.Generation, time.Now()
			t.pending, t.changed = d, true
		}) {
			return
		}
	}
}

func (t *term) read(raw []byte) *document {
	a, err := t.Parse(raw)
	if a.Digest == "" {
		sum := sha256.Sum256(raw)
		a.Digest = hex.EncodeToString(sum[:])
	}
	return &document{accepted: a, err: err}
}

// seenSource is the source as a report has it.
func (t *term) seenSource() ferryman.SourceView {
	v := t.view.Source
	v.Error = t.sourceErr
	if s, ok := t.Source.(answering); ok {
		v.Answered = s.Answered()
	}
	return v
}

func (t *term) sourceFailed(text string) {
	if text == t.sourceErr {
		return
	}
	if text != "" && t.sourceErr == "" {
		t.log.Warn("the desired state cannot be fetched; the accepted one stays in force", "error", text)
	} else if text == "" {
		t.log.Info("the desired state can be fetched again")
	}
	t.sourceErr, t.changed = text, true
}

// judge accepts or refuses what was fetched last. It reports whether a command
// was proposed: then the state is another one. A refusal is committed only when
// it says something new, and not more often than every refuseEvery, so that no
// source can make the log grow.
func (t *term) judge(s ferryman.State, now time.Time) bool {
	d := t.pending
	if d == nil {
		return false
	}
	if d.err == nil && s.Accepted != nil && s.Accepted.Digest == d.accepted.Digest && !t.renews(*s.Accepted, d.accepted) {
		t.pending = nil
		return false
	}
	cmd := state.Command{At: now, Accept: &d.accepted}
	err := d.err
	if err == nil {
		_, _, err = state.Apply(s, cmd)
	}
	if err != nil {
		r := ferryman.Refusal{Digest: d.accepted.Digest, Reason: reason(err)}
		if old := s.Refused; old != nil && old.Digest == r.Digest && old.Reason == r.Reason {
			t.pending = nil
			return false
		}
		if next := t.refusedAt.Add(refuseEvery); now.Before(next) {
			t.by(next)
			return false
		}
		cmd = state.Command{At: now, Refuse: &r}
	}
	if err := t.propose(cmd); err != nil {
		if errors.Is(err, ferryman.ErrRefused) {
			t.by(now) // the state moved in between: judge it again
		} else {
			t.log.Warn("a document was not committed; it is tried again", "error", err)
			t.by(now.Add(retryFirst))
		}
		return true
	}
	t.pending = nil
	if cmd.Refuse != nil {
		t.refusedAt = now
	}
	return true
}

func (t *term) renews(old, now ferryman.Accepted) bool { return t.Renews != nil && t.Renews(old, now) }
