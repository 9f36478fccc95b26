package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/rpc"
)

func failoverCommand() *cobra.Command {
	var k console
	r := ferryman.Request{Kind: ferryman.RequestFailover}
	c := &cobra.Command{Use: "failover [NODE]", Short: "Replace a primary that is lost, by NODE or by the one that holds most", Args: cobra.MaximumNArgs(1),
		Long: `Replace a primary that is lost.

With failover.mode automatic the cluster does that by itself. It stops and waits for a person after several
failovers within minutes, and when nobody that answers holds all that was promised to be kept. This verb is that
person's word: alone it clears the first condition, and nothing is lost by it; with NODE or --primary-is-dead you
take the loss of the second.

With failover.mode manual nothing in the cluster knows whether a primary that does not answer still accepts
writes. Make sure that it does not (switch its host off, or its network), and say so with --primary-is-dead.

A primary that is well is moved with ` + "`ferryman switchover`" + `, which loses nothing.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				r.Node = args[0]
			}
			return k.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
				report, err := client.Report(ctx)
				if err != nil {
					return err
				}
				if err := mayFailOver(report, r); err != nil {
					return err
				}
				if err := ask(ctx, client, r); err != nil {
					return err
				}
				say(c, "taken; `ferryman status --watch` follows it")
				return nil
			})
		}}
	k.flags(c)
	c.Flags().StringVar(&r.Reason, "reason", "", "why, for the others who read it")
	c.Flags().BoolVar(&r.Dead, "primary-is-dead", false, "you made sure that the old primary accepts no writes, and will not")
	return c
}

// mayFailOver refuses what a person cannot mean: to take the writes from a
// primary that has them.
func mayFailOver(r ferryman.Report, req ferryman.Request) error {
	s := r.State
	primary := s.Members[s.Primary.Node]
	if s.Primary.Epoch == 0 {
		return fmt.Errorf("%w: there is no primary yet; `ferryman status` says why", ferryman.ErrRefused)
	}
	svc, _ := r.View.Nodes[primary.ID].Status.Service(s.Primary.Slot)
	asked := slices.ContainsFunc(r.Decision.Waits, func(w ferryman.Wait) bool { return w.Rule == ferryman.RulePrimary && w.Code == "flapping" })
	if r.View.Nodes[primary.ID].Reachable && svc.Instance.Writable && (req.Dead || req.Node != "" || !asked) {
		return fmt.Errorf("%w: the primary %s answers and accepts writes; `ferryman switchover` moves it without a loss", ferryman.ErrRefused, primary.Name)
	}
	if req.Node == "" {
		return nil
	}
	if _, ok := s.Member(req.Node); !ok {
		return fmt.Errorf("%w: there is no node %q; `ferryman nodes` lists them", ferryman.ErrRefused, req.Node)
	}
	return nil
}
