package cluster

import (
	"github.com/hashicorp/raft"
)

// Suffrage says whether a server has a vote.
type Suffrage string

const (
	// Voter elects, can be elected, and counts for every majority.
	Voter Suffrage = "voter"
	// Nonvoter receives everything and decides nothing.
	Nonvoter Suffrage = "nonvoter"
)

// Server is one node of the group as raft's configuration holds it.
type Server struct {
	ID       string
	Address  string
	Suffrage Suffrage
}

func serversOf(c raft.Configuration) []Server {
	list := make([]Server, 0, len(c.Servers))
	for _, s := range c.Servers {
		suffrage := Nonvoter
		if s.Suffrage == raft.Voter {
			suffrage = Voter
		}
		list = append(list, Server{ID: string(s.ID), Address: string(s.Address), Suffrage: suffrage})
	}
	return list
}

func byID(servers []Server, id string) (Server, bool) {
	for _, s := range servers {
		if s.ID == id {
			return s, true
		}
	}
	return Server{}, false
}

func byAddress(servers []Server, address string) (Server, bool) {
	for _, s := range servers {
		if s.Address == address {
			return s, true
		}
	}
	return Server{}, false
}
