// Package rpc is how agents and the command line speak to an agent. It has two
// services and declares the backends that it serves:
//
//   - Peer, on the peer port, over mutual TLS and nothing else. Raft's
//     transport shares the port. Every call is authorised by the identity in
//     the caller's certificate before its handler sees it.
//   - Control, on a unix socket, for the person on this host: allowed by file
//     mode and by the credentials that the kernel tells of the caller.
//
// Messages are the project's own structs as JSON. An error keeps its meaning
// across the wire: the caller tells errors apart with errors.Is.
package rpc
