package demodb

import (
	"fmt"
	"strconv"

	"ferryman"
)

// Faults are the ways in which a release of demodb can be bad, on request: what an upgrade must notice.
type Faults struct {
	NoStart     bool              `json:"noStart,omitempty"`     // prints a reason and exits 1
	CrashAfter  ferryman.Duration `json:"crashAfter,omitempty"`  // exits 3 this long after it came up
	Hang        bool              `json:"hang,omitempty"`        // accepts connections and never answers
	SlowCatchUp ferryman.Duration `json:"slowCatchUp,omitempty"` // a replica receives nothing for this long after its start
	LieHealthy  bool              `json:"lieHealthy,omitempty"`  // a replica that receives nothing, and reports that it is healthy and without lag
}

// set takes one fault as text, as in the flag --fault crashAfter=2s; a bare name means true.
func (f *Faults) set(name, value string) error {
	var err error
	switch name {
	case "noStart":
		f.NoStart, err = parseBool(value)
	case "hang":
		f.Hang, err = parseBool(value)
	case "lieHealthy":
		f.LieHealthy, err = parseBool(value)
	case "crashAfter":
		err = f.CrashAfter.UnmarshalText([]byte(value))
	case "slowCatchUp":
		err = f.SlowCatchUp.UnmarshalText([]byte(value))
	default:
		return fmt.Errorf("unknown fault %q: known are noStart, crashAfter, hang, slowCatchUp, lieHealthy", name)
	}
	if err != nil {
		return fmt.Errorf("fault %s: %w", name, err)
	}
	return nil
}

func parseBool(s string) (bool, error) {
	if s == "" {
		return true, nil
	}
	return strconv.ParseBool(s)
}
