// Package systemd starts, stops and watches the programs that a node runs: as systemd units over D-Bus (Bus), or as child processes where there is
// no systemd to ask (Supervisor). Both are Units. It also speaks the other direction, from the agent to systemd: readiness.
package systemd
