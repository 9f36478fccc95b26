package ferryman

// The exit statuses of an agent that are meant for whoever started it: its
// unit, or the api-server's process provisioner. After any other, also 0, an
// agent is wanted: the next start finds out what is to run.
const (
	// ExitRestart asks for the agent to be started again. It is EX_TEMPFAIL of
	// sysexits(3).
	ExitRestart = 75
	// ExitStay asks for it to stay down: its node left the cluster, or a person
	// said `ferryman stop`. It is none of sysexits(3), so that nothing means it
	// by chance.
	ExitStay = 79
)
