package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/rpc"
	"ferryman/cmd/agent/internal/render"
)

func statusCommand() *cobra.Command {
	var v viewer
	var o outside
	c := &cobra.Command{Use: "status", Short: "Show who is who, what happens, and why it waits", Args: cobra.NoArgs,
		Long: "Show who is who, what happens, and why it waits: as the leader says it by way of the agent of this host, or,\nwith --api-server, as it last reported it there. That works from anywhere, and reaches no host of the cluster.",
		RunE: func(c *cobra.Command, _ []string) error {
			if o.asked(c) {
				return o.show(c, &v)
			}
			err := v.show(c, page{table: render.Status, data: func(r ferryman.Report) any { return r }})
			var status exitStatus
			if errors.As(err, &status) && status.code == exitUnreachable && !v.watch {
				return v.alone(c, err)
			}
			return err
		}}
	v.flags(c, true)
	o.flags(c)
	return c
}

// localStatus is what `status -o json` says where no leader answers.
type localStatus struct {
	Missing string          `json:"missing"`
	Local   rpc.LocalReport `json:"local"`
}

// alone shows what this node knows by itself; why is what the leader's answer
// failed with.
func (v *viewer) alone(c *cobra.Command, why error) error {
	var local rpc.LocalReport
	err := v.call(c, func(ctx context.Context, client *rpc.ControlClient) (err error) {
		local, err = client.Local(ctx)
		return err
	})
	switch {
	case absent(err):
		return why
	case err != nil:
		return exitStatus{exitUnreachable, fmt.Errorf("the agent of this host runs and does not answer; look at its log and at `systemctl status ferryman`: %w", err)}
	}
	view := render.LocalView{Time: time.Now(), Status: local.Status, State: local.State, Leader: local.Leader.Name}
	out := c.OutOrStdout()
	if v.form == formTable {
		err = render.Local(out, view, look(out))
	} else {
		err = v.write(out, localStatus{Missing: view.Missing(), Local: local})
	}
	if err != nil {
		return err
	}
	return exitStatus{exitUnreachable, fmt.Errorf("no leader answers; shown is what %s knows by itself", local.Status.Name)}
}
