// Package source is the agent's side of the control API. Its pure half reads
// and checks desired-state documents, and verifies their signatures; its other
// half fetches them, from a file or over HTTP, and speaks with the api-server:
// host requests, the list of hosts, and reports. Whatever the other side does
// costs a bounded amount of memory and time, and comes back as an error.
package source
