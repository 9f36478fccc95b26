package main

import (
	"github.com/spf13/cobra"

	"ferryman"
)

func freezeCommand() *cobra.Command {
	return wish{kind: ferryman.RequestFreeze, use: "freeze", short: "Let nothing be changed: no rollout, no switchover, no repair", lasts: true,
		said: "the cluster is frozen: nothing is repaired either; `ferryman unfreeze` ends it"}.command()
}

func unfreezeCommand() *cobra.Command {
	return wish{kind: ferryman.RequestUnfreeze, use: "unfreeze", short: "End a freeze", said: "the cluster may be changed again"}.command()
}
