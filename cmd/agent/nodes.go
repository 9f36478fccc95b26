package main

import (
	"github.com/spf13/cobra"

	"ferryman"
	"ferryman/cmd/agent/internal/render"
)

func nodesCommand() *cobra.Command {
	var v viewer
	c := &cobra.Command{Use: "nodes", Short: "Show every node: agent, database, role, lag", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return v.show(c, page{table: render.Nodes, data: nodesData})
		}}
	v.flags(c, true)
	return c
}

// nodeData is a node as `nodes -o json` says it.
type nodeData struct {
	Member  ferryman.Member   `json:"member"`
	Raft    ferryman.Suffrage `json:"raft,omitempty"`
	Leader  bool              `json:"leader,omitempty"`
	Primary bool              `json:"primary,omitempty"`
	View    ferryman.NodeView `json:"view"`
}

func nodesData(r ferryman.Report) any {
	all := []nodeData{}
	for _, m := range render.Members(r) {
		all = append(all, nodeData{Member: m, Raft: r.View.Raft[m.ID], Leader: r.View.Self == m.ID,
			Primary: r.State.Primary.Epoch > 0 && r.State.Primary.Node == m.ID, View: r.View.Nodes[m.ID]})
	}
	return all
}
