package demo

import (
	"context"
	"errors"

	"ferryman"
	"ferryman/agent/rpc"
)

// request asks the cluster for something, through any agent.
func (s *stage) request(ctx context.Context, r ferryman.Request) error {
	hosts, err := s.hosts()
	if err != nil {
		return err
	}
	last := errors.New("no host runs")
	for _, h := range hosts {
		c, err := rpc.DialControl(s.socket(h))
		if err != nil {
			last = err
			continue
		}
		err = c.Request(ctx, r)
		c.Close()
		if err == nil || errors.Is(err, ferryman.ErrRefused) {
			return err
		}
		last = err
	}
	return last
}
