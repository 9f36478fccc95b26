package main

import (
	"github.com/spf13/cobra"

	"ferryman"
)

func adoptCommand() *cobra.Command {
	return wish{kind: ferryman.RequestAdopt, use: "adopt NODE", short: "Make the database that a node holds already the cluster's",
		long: "Make the database that a node holds already the cluster's: it becomes the primary, and the other nodes follow it.\nData on them that are not a part of its history are set aside, never deleted. Only a cluster without a database can adopt one.",
		args: cobra.ExactArgs(1), about: func(r *ferryman.Request, args []string) { r.Node = args[0] },
		said: "the database is the cluster's; `ferryman status --watch` follows what comes of it"}.command()
}
