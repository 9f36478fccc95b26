package demodb

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The protocol: a request is a line of JSON, and so is its response; a connection carries any number of them, one after the other. After a request
// `stream` or `copy` that was accepted, the connection carries frames to the replica and the replica's positions back, eight bytes each, little endian.

// maxLine is the longest line, in bytes; values are bounded so that a put fits.
const maxLine = 64 << 10

type request struct {
	Op       string `json:"op"`
	Key      string `json:"key,omitempty"`
	Value    string `json:"value,omitempty"`
	Epoch    uint64 `json:"epoch,omitempty"`
	From     string `json:"from,omitempty"`    // follow, clone: host:port of the source
	Name     string `json:"name,omitempty"`    // stream: who asks
	History  string `json:"history,omitempty"` // stream, wait
	Position uint64 `json:"position,omitempty"`
	Primary  bool   `json:"primary,omitempty"` // get: only as the primary that accepts writes
	Timeout  int64  `json:"timeout,omitempty"` // milliseconds that the server may take over it
}

type response struct {
	Error    string  `json:"error,omitempty"`
	Code     string  `json:"code,omitempty"` // the kind of error, below
	Value    string  `json:"value,omitempty"`
	Found    bool    `json:"found,omitempty"`
	Primary  string  `json:"primary,omitempty"` // with code notPrimary: who is, if known
	History  string  `json:"history,omitempty"`
	Position uint64  `json:"position,omitempty"`
	SetAside string  `json:"setAside,omitempty"` // clone: where the old data are
	Status   *Status `json:"status,omitempty"`
}

const (
	codeNotPrimary = "notPrimary" // nothing was written: ask the primary
	codeUnknown    = "unknown"    // it may have been written, or not: write it again
	codeDiverged   = "diverged"   // this log has entries that the other does not have
	codeEpoch      = "epoch"
	codeFenced     = "fenced"
	codeTimeout    = "timeout"
	codeRefused    = "refused" // it makes no sense here, and will not later
)

// ErrUnknown says that a write may have happened or not: whoever must know writes it again.
var ErrUnknown = errors.New("outcome unknown")

// NotPrimaryError says that nothing was written because this instance does not accept writes.
type NotPrimaryError struct {
	Primary string // host:port of the primary, if it is known
	Reason  string
}

func (e *NotPrimaryError) Error() string {
	if e.Primary == "" {
		return "not the primary: " + e.Reason
	}
	return fmt.Sprintf("not the primary (that is %s): %s", e.Primary, e.Reason)
}

// codedError is an error with its code on the wire.
type codedError struct {
	code string
	err  error
}

func (e codedError) Error() string { return e.err.Error() }
func (e codedError) Unwrap() error { return e.err }

func refused(format string, args ...any) error {
	return codedError{codeRefused, fmt.Errorf(format, args...)}
}

// readLine reads one line of JSON into v. A line that is too long ends the connection: what follows could not be told apart from it.
func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("a line of more than %d bytes", maxLine)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(line) >= maxLine {
		return fmt.Errorf("a line of %d bytes: at most %d", len(line), maxLine)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
