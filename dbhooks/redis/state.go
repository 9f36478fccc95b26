package redis

import (
	"ferryman/dbhooks"
)

// state is what the engine remembers beside the data, as Redis cannot.
type state struct {
	dbhooks.Marker
	Initialised bool   `json:"initialised"` // there was made, copied or adopted a database here
	RunID       string `json:"runID"`       // of the process that this was last true of
}

func (e *Engine) load() (state, error) {
	var s state
	return s, dbhooks.LoadMarker(e.cfg.Dir, &s)
}

// with is the state of an instance that holds data. Those that were here before this engine ever was are a database too: nothing may be made in its place,
// and it may be promoted. Not so the beginning of a copy, which the engine has taken note of.
func (s state) with(data bool) state {
	if s.RunID == "" && data {
		s.Initialised = true
	}
	return s
}

// save refuses when the state is no longer the one that this operation knows: an agent that was stopped in its middle takes no fence away.
func (e *server) save(s state) error {
	if err := dbhooks.ReplaceMarker(e.cfg.Dir, e.known, s); err != nil {
		return err
	}
	e.known = s
	return nil
}

// cameUpEmpty says that the process started without the data that were here: it crashed, and there was no snapshot.
func (e *Engine) cameUpEmpty(s state, in info) bool {
	return s.Initialised && s.RunID != in["run_id"] && !in.hasKeys() && in.upstream() == "" && !in.master() && !e.hasFiles()
}
