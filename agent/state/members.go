package state

import (
	"slices"

	"ferryman"
)

// join makes a member, or renews what one said of itself. A name belongs to
// one member: who takes over the name of one that is gone comes after it left.
func (a *applier) join(m ferryman.Member) error {
	if m.ID == "" || m.Name == "" || m.Address == "" {
		return refuse("a member needs an id, a name and an address")
	}
	for _, o := range a.s.Members {
		if o.ID == m.ID || o.Lost {
			continue
		}
		if o.Name == m.Name {
			return refuse("the name %s belongs to node %s at %s; choose another name, or run `ferryman leave %s` if that node is gone for good", m.Name, o.ID, o.Address, o.ID)
		}
		if o.Address == m.Address {
			return refuse("the address %s belongs to %s", m.Address, o.Name)
		}
	}
	if old, ok := a.s.Members[m.ID]; ok {
		if old.Want == ferryman.WantLeaving {
			return refuse("%s is leaving (%s)", old.Name, old.Why)
		}
		m.Want, m.Maintenance, m.Joined = old.Want, old.Maintenance, old.Joined
		a.s.Members[m.ID] = m
		return nil
	}
	if slices.Contains(a.s.Departed, m.ID) {
		return refuse("node %s left this cluster; its host joins as a new node when its data directory was moved away", m.ID)
	}
	m.Want, m.Maintenance, m.Lost, m.Why, m.Joined = ferryman.WantActive, nil, false, "", a.at
	a.s.Members[m.ID] = m
	a.event("member", m.ID, 0, false, "%s joined from %s", m.Name, m.Address)
	return nil
}

// want changes what the cluster wants of a member.
func (a *applier) want(t ferryman.Transition) error {
	m, ok := a.s.Members[t.Node]
	if !ok {
		return refuse("%s is no member", t.Node)
	}
	if m.Want == ferryman.WantLeaving && t.Want != ferryman.WantLeaving {
		return refuse("%s is leaving (%s)", m.Name, m.Why)
	}
	switch t.Want {
	case ferryman.WantActive:
		m.Maintenance = nil
	case ferryman.WantMaintenance:
		if t.Maintenance == nil {
			return refuse("maintenance needs an owner and an end")
		}
		m.Maintenance = t.Maintenance
	case ferryman.WantLeaving:
		m.Maintenance, m.Why, m.Lost = nil, t.Reason, m.Lost || t.Lost
		if a.s.Rollout.Open() {
			delete(a.s.Rollout.Passages, t.Node)
		}
		if t.Lost {
			a.abandon(t.Node, "the node is lost")
		}
	default:
		return refuse("%q is nothing to want", t.Want)
	}
	m.Want = t.Want
	a.s.Members[t.Node] = m
	a.event("member", t.Node, 0, t.Lost, "%s is now wanted %s: %s", m.Name, t.Want, t.Reason)
	return nil
}

// abandon closes what is open on a node that will not answer. Steps that the
// leader carries out itself go on.
func (a *applier) abandon(id ferryman.NodeID, reason string) {
	for i, st := range a.s.Ledger {
		if st.Open() && st.Node == id && !st.Op.ByLeader() {
			st.Outcome = &ferryman.Outcome{Step: st.ID, Status: ferryman.StatusCancelled, Reason: reason, Ended: a.at}
			a.s.Ledger[i] = st
		}
	}
}

// forget ends a membership.
func (a *applier) forget(id ferryman.NodeID) error {
	m, ok := a.s.Members[id]
	if !ok {
		return refuse("%s is no member", id)
	}
	if m.Want != ferryman.WantLeaving {
		return refuse("%s does not leave", m.Name)
	}
	if id == a.s.Primary.Node {
		return refuse("%s is the primary", m.Name)
	}
	a.abandon(id, "the node left")
	delete(a.s.Members, id)
	a.s.Departed = append(slices.Clip(a.s.Departed[max(0, len(a.s.Departed)-keepDeparted):]), id)
	a.event("member", id, 0, false, "%s left: %s", m.Name, m.Why)
	return nil
}
