package main

import (
	"context"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/rpc"
)

func leaveCommand() *cobra.Command {
	var k console
	r := ferryman.Request{Kind: ferryman.RequestLeave}
	c := &cobra.Command{Use: "leave NODE", Short: "Take a node out of the cluster for good", Args: cobra.MaximumNArgs(1),
		Long: "Take a node out of the cluster for good: its database is drained and stopped, its agent ends.\nIts data stay on its disk. A node that is only to be away for a while is stopped, not told to leave.",
		RunE: func(c *cobra.Command, args []string) error {
			return k.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
				if len(args) == 0 { // too much hangs on it for a default
					local, err := client.Local(ctx)
					if err != nil {
						return err
					}
					return usage("to leave is for good, so the node must be named; this one is `ferryman leave %s`", local.Status.Name)
				}
				r.Node = args[0]
				if err := ask(ctx, client, r); err != nil {
					return err
				}
				say(c, "%s leaves the cluster; `ferryman status --watch` follows it", r.Node)
				return nil
			})
		}}
	k.flags(c)
	c.Flags().StringVar(&r.Reason, "reason", "", "why, for the others who read it")
	return c
}
