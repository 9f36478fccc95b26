package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/rpc"
)

func stopCommand() *cobra.Command {
	var k console
	var r rpc.StopRequest
	var away time.Duration
	c := &cobra.Command{Use: "stop", Short: "Stop the agent of this host for a while", Args: cobra.NoArgs,
		Long: "Stop the agent of this host, as SIGTERM does, with a time of your own: the node stays a member, and is not replaced\nbefore it is over. The database keeps running. Without --for the time is `maintenance` of the configuration,\nand a node with leave_on_terminate leaves for good.",
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("for") && away <= 0 {
				return usage("--for %s: must be more than 0", away)
			}
			r.For = ferryman.Duration(away)
			if err := k.call(c, func(ctx context.Context, client *rpc.ControlClient) error { return client.Stop(ctx, r) }); err != nil {
				return err
			}
			say(c, "the agent of this host stops; `ferryman status` on another node says until when it may be away")
			return nil
		}}
	k.flags(c)
	c.Flags().StringVar(&r.Reason, "reason", "", "why, for the others who read it")
	c.Flags().DurationVar(&away, "for", 0, "how long the node may be away before it counts as dead")
	return c
}
