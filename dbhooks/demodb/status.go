package demodb

// Status is what a demodb says about itself.
type Status struct {
	Version     string   `json:"version"`
	Initialised bool     `json:"initialised"`
	Role        string   `json:"role"`     // primary, or replica
	Writable    bool     `json:"writable"` // accepts writes now
	Epoch       uint64   `json:"epoch"`
	Promoted    bool     `json:"promoted"` // the epoch is its own: it may be promoted at it again after a restart
	Fenced      bool     `json:"fenced"`
	History     string   `json:"history"`  // of the last entry in the log
	Position    uint64   `json:"position"` // entries in the log, all of them synced
	Following   string   `json:"following,omitempty"`
	Streaming   bool     `json:"streaming"`          // a replica: the stream from its primary stands, and it has caught up with it once
	Lag         uint64   `json:"lag"`                // a replica: bytes of log that its primary has and it has not, as far as it knows
	Replicas    []string `json:"replicas,omitempty"` // who streams from here, by the address that each gave
	Settings    Settings `json:"settings"`           // in force; those in the data directory may be newer
	Healthy     bool     `json:"healthy"`
	Reason      string   `json:"reason,omitempty"` // why it is not healthy
	Diverged    bool     `json:"diverged"`
	PID         int      `json:"pid"`
}

func (s *server) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.journal.current()
	st := Status{
		Version: s.release.Version, Initialised: s.journal.last() > 0, Role: "replica", Writable: s.writable, Epoch: s.marker.Epoch, Fenced: s.marker.Fenced,
		Promoted: s.marker.Primary, History: h.id, Position: s.journal.last(), Following: s.marker.From, Replicas: s.replicas(), Settings: s.settings, PID: s.pid,
	}
	switch {
	case s.primary:
		st.Role, st.Healthy = "primary", s.writable
		if !s.writable {
			st.Reason = "fenced: accepts no writes"
		}
	case !st.Initialised:
		st.Reason = "has no data: initialise or clone it"
	case s.marker.From == "":
		st.Reason = "follows nobody and is not promoted"
	default:
		st.Streaming, st.Healthy, st.Reason, st.Diverged = s.follow.streaming, s.follow.streaming, s.follow.reason, s.follow.diverged
		st.Lag = s.follow.primarySize - min(s.follow.primarySize, uint64(s.journal.size))
		if s.release.Faults.LieHealthy {
			st.Streaming, st.Healthy, st.Reason, st.Lag = true, true, "", 0
		}
	}
	return st
}
