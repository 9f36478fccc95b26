// Package identity says who is who among the nodes of one cluster: the
// cluster's own certificate authority, the certificates it issues, mutual TLS
// between nodes, and the join tokens with which a newcomer gets a certificate.
//
// A node is known by a URI in its certificate,
// ferryman://<cluster id>/node/<node name>, never by a host name or address:
// addresses change, and a certificate must not have to change with them.
package identity
