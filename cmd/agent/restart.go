package main

import (
	"github.com/spf13/cobra"

	"ferryman"
)

func restartCommand() *cobra.Command {
	return wish{kind: ferryman.RequestRestart, use: "restart", short: "Restart the database of every node, one after the other",
		said: "a rolling restart was asked for; `ferryman rollout status --watch` follows it"}.command()
}
