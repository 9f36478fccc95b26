package ferryman

// ExitRestart is the exit status by which an agent asks whoever started it to
// start it again: a unit by RestartForceExitStatus=75, the api-server's process
// provisioner by itself. It is EX_TEMPFAIL of sysexits(3).
const ExitRestart = 75
