package demodb

import (
	"context"
	"fmt"
)

// get reads a key. As the primary it answers while it accepts writes, once all that it has read from is acknowledged: a value that only this log holds may
// be lost with it, and must not have been seen.
func (s *server) get(ctx context.Context, key string, asPrimary bool) (response, error) {
	s.mu.Lock()
	value, found := s.data[key]
	at, writable := s.journal.last(), s.writable
	s.mu.Unlock()
	res := response{Value: value, Found: found}
	if !asPrimary {
		return res, nil
	}
	var refusal error
	err := s.until(ctx, func() bool {
		if !writable || !s.writable {
			refusal = s.notPrimary()
		}
		return refusal != nil || s.safe() >= at
	})
	if err != nil {
		err = codedError{codeTimeout, fmt.Errorf("what was read is not acknowledged yet: %w", err)}
	} else {
		err = refusal
	}
	if err != nil {
		return response{}, err
	}
	return res, nil
}
