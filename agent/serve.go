package agent

import (
	"context"
	"fmt"

	"ferryman/agent/rpc"
)

// serve answers the other agents.
func (n *node) serve(ctx context.Context) {
	if err := n.network.Serve(ctx, backend{n}); err != nil && ctx.Err() == nil {
		n.end(ending{err: fmt.Errorf("the peer port: %w", err)})
	}
}

// control answers the person on this host, by the control socket.
func (n *node) control(ctx context.Context) {
	if n.cfg.ControlSocket == "" {
		return
	}
	ln, err := rpc.ListenControl(n.cfg.ControlSocket)
	if err == nil {
		err = rpc.NewControlServer(control{n}, n.log).Run(ctx, ln)
	}
	if err != nil && ctx.Err() == nil {
		n.end(ending{err: fmt.Errorf("the control socket: %w", err)})
	}
}
