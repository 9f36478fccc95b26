package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/agent/rpc"
	"ferryman/cmd/agent/internal/render"
	"ferryman/upgrade"
)

func switchoverCommand() *cobra.Command {
	var k console
	r := ferryman.Request{Kind: ferryman.RequestSwitchover}
	c := &cobra.Command{Use: "switchover [NODE]", Short: "Make NODE the database's primary, or the node that a rollout would choose", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return k.call(c, func(ctx context.Context, client *rpc.ControlClient) error {
				report, err := client.Report(ctx)
				if err != nil {
					return err
				}
				if r.Node, err = successor(report, args); err != nil {
					return err
				}
				if err := ask(ctx, client, r); err != nil {
					return err
				}
				say(c, "switchover from %s to %s; `ferryman status --watch` follows it", report.State.Members[report.State.Primary.Node].Name, r.Node)
				return nil
			})
		}}
	k.flags(c)
	return c
}

// successor is the node that is to be the primary: the one that was named, if
// it could be now, or the one that the plan itself would choose.
func successor(r ferryman.Report, named []string) (string, error) {
	s := r.State
	primary := s.Members[s.Primary.Node]
	if s.Primary.Epoch == 0 {
		return "", fmt.Errorf("%w: there is no primary yet; `ferryman status` says why", ferryman.ErrRefused)
	}
	running, _ := r.View.Nodes[primary.ID].Status.Service(s.Primary.Slot)
	var nodes []upgrade.Node
	for _, m := range render.Members(r) {
		nodes = append(nodes, nodeOf(r, m))
	}
	if len(named) == 0 {
		to, why, ok := upgrade.Successor(nodes, s.Primary, running, s.Desired(ferryman.PartDatabase).Target)
		if !ok {
			return "", fmt.Errorf("%w: nobody can take over from %s now: %s", ferryman.ErrRefused, primary.Name, why)
		}
		return to.Name(), nil
	}
	m, ok := s.Member(named[0])
	switch {
	case !ok:
		return "", fmt.Errorf("%w: there is no node %q; `ferryman nodes` lists them", ferryman.ErrRefused, named[0])
	case m.ID == primary.ID:
		return "", fmt.Errorf("%w: %s is the primary already", ferryman.ErrRefused, m.Name)
	}
	if why := upgrade.CannotSucceed(nodeOf(r, m), s.Primary, running); why != "" {
		return "", fmt.Errorf("%w: %s cannot become the primary now: %s", ferryman.ErrRefused, m.Name, why)
	}
	return m.Name, nil
}

func nodeOf(r ferryman.Report, m ferryman.Member) upgrade.Node {
	n := upgrade.Node{Member: m, View: r.View.Nodes[m.ID], Suffrage: r.View.Raft[m.ID], Leader: m.ID == r.View.Self, Primary: m.ID == r.State.Primary.Node}
	if r.State.Rollout.Open() {
		_, n.Carried = r.State.Rollout.Passages[m.ID]
	}
	if ok, why := n.View.Status.Healthy(); !ok {
		n.Down = why
	}
	if !n.View.Reachable {
		n.Down = "it does not answer"
	}
	return n
}
