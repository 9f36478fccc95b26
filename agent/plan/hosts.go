package plan

import (
	"slices"
	"time"

	"ferryman"
	"ferryman/upgrade"
)

// grow asks for as many hosts as are wanted beside those of nodes that leave,
// which the api-server counts until they are gone: one that leaves may have to
// stay until a newcomer is there. It names those that are lost.
func (x *situation) grow(p *proposal, want int, live, dead, replaceable []upgrade.Node) {
	var lost []string
	for _, n := range replaceable {
		lost = append(lost, n.Name())
	}
	leaving := 0
	for _, n := range x.nodes {
		if n.Member.Want == ferryman.WantLeaving && !n.Member.Lost && x.silent(n) < x.v.Limits.DeadAfter.Std() {
			leaving++
		}
	}
	missing := want - (len(live) + len(dead) - len(replaceable))
	if nobody := x.nobodyMakesHosts(); nobody != "" {
		if len(lost) > 0 {
			p.wait("dead", replaceable[0].ID(), "%s does not answer for %s and %s: start a new agent, or `ferryman leave %s`",
				lost[0], x.silent(replaceable[0]).Round(time.Second), nobody, lost[0])
		} else {
			p.wait("hosts", "", "%d more nodes are wanted and %s: start agents that join", missing, nobody)
		}
		return
	}
	p.wait("hosts", "", "%d more nodes are wanted", missing)
	total := want + leaving
	if r := x.s.HostRequest; r != nil && x.v.Hosts.Minimal && r.Total > total && x.now.Sub(r.At) < x.v.Limits.ProvisionTimeout.Std() {
		p.wait("hosts", "", "%d hosts were asked for %s ago; fewer are not asked for while those may still boot: the api-server would make more", r.Total, x.now.Sub(r.At).Round(time.Second))
		return
	}
	x.ask(p, total, nil, lost)
}

// unmadeFor is how long an api-server is believed that said it makes no hosts;
// one that gets a provisioner is asked within that, and with the next leader.
const unmadeFor = time.Hour

// nobodyMakesHosts says why people make the hosts; empty where the api-server
// does.
func (x *situation) nobodyMakesHosts() string {
	switch h := x.v.Hosts; {
	case h.None:
		return "no api-server is configured to ask for hosts"
	case !h.Unmade.IsZero() && x.now.Sub(h.Unmade) < unmadeFor:
		return "the api-server makes no hosts (it has no provisioner)"
	}
	return ""
}

// shrink takes one node out. A server that chooses itself which host it stops
// is asked only when any one may go; its choice then leaves by itself.
func (x *situation) shrink(p *proposal, want int, live []upgrade.Node) {
	for _, n := range x.nodes {
		if n.Member.Want == ferryman.WantLeaving {
			p.wait("shrink", n.ID(), "one node leaves at a time; %s is leaving", n.Name())
			return
		}
	}
	if len(x.passages()) > 0 || x.changing() != "" {
		p.wait("shrink", "", "no node leaves while another is being carried or a switchover runs")
		return
	}
	for _, n := range live {
		if n.Down != "" {
			p.wait("shrink", n.ID(), "no node leaves while %s is unavailable: %s", n.Name(), n.Down)
			return
		}
	}
	if x.v.Hosts.Minimal && x.nobodyMakesHosts() == "" {
		for _, n := range live {
			if !n.Member.LeaveOnTerminate {
				p.wait("shrink", n.ID(), "the api-server chooses which host it stops, but %s does not leave when it is stopped; set leave_on_terminate there, or run `ferryman leave` on one node", n.Name())
				return
			}
		}
		x.ask(p, len(live)-1, nil, nil)
		return
	}
	victim := live[0]
	for _, n := range live[1:] {
		if x.dispensable(n, victim) {
			victim = n
		}
	}
	p.move(ferryman.Transition{Kind: ferryman.MoveWant, Node: victim.ID(), Want: ferryman.WantLeaving, Reason: "fewer nodes are wanted"})
}

// dispensable tells whether a goes before b: neither primary nor leader, and
// then the one that joined last.
func (x *situation) dispensable(a, b upgrade.Node) bool {
	weight := func(n upgrade.Node) int {
		w := 0
		if n.Primary {
			w += 2
		}
		if n.Leader {
			w++
		}
		return w
	}
	if wa, wb := weight(a), weight(b); wa != wb {
		return wa < wb
	}
	if !a.Member.Joined.Equal(b.Member.Joined) {
		return a.Member.Joined.After(b.Member.Joined)
	}
	return a.Name() > b.Name()
}

// settle tells the api-server of hosts that are no members any more, and
// forgets a request that was met.
func (x *situation) settle(p *proposal, want int) {
	if x.v.Hosts.Known && !x.v.Hosts.Minimal && len(x.v.Hosts.Names) > want {
		var surplus []string
		for _, name := range x.v.Hosts.Names {
			if m, ok := x.s.Member(name); !ok || m.Lost {
				surplus = append(surplus, name)
			}
		}
		if len(surplus) > 0 && x.nobodyMakesHosts() == "" {
			x.ask(p, want, surplus, nil)
			return
		}
	}
	if x.s.HostRequest != nil && !x.asking() {
		p.move(ferryman.Transition{Kind: ferryman.MoveForgetRequest})
	}
}

func (x *situation) asking() bool {
	for _, st := range x.s.Ledger {
		if st.Open() && st.Op == ferryman.OpRequestHosts {
			return true
		}
	}
	return false
}

// ask makes one host request and repeats it only after the api-server's hosts
// have stood still for provisionTimeout: a server that creates the difference
// anew at every call would otherwise make too many, also when only its answer
// was lost. While agents are restarted
// on purpose nothing is asked for, as such a server counts what runs.
func (x *situation) ask(p *proposal, total int, remove, lost []string) {
	if x.asking() {
		return
	}
	if x.agentsCarried() {
		p.wait("hosts", "", "no hosts are asked for while an agent is restarted")
		return
	}
	for _, n := range x.nodes {
		if n.Member.Want == ferryman.WantMaintenance {
			p.wait("hosts", n.ID(), "no hosts are asked for while %s is in maintenance", n.Name())
			return
		}
	}
	if r := x.s.HostRequest; r != nil && r.Total == total && (x.v.Hosts.Minimal || r.Answered && slices.Equal(r.Remove, remove) && slices.Equal(r.Lost, lost)) {
		still := x.now.Sub(r.At)
		if x.v.Hosts.Known {
			still = min(still, x.now.Sub(x.v.Hosts.Stable))
		} else {
			still = 0
		}
		if rest := x.v.Limits.ProvisionTimeout.Std() - still; rest > 0 {
			p.wait("hosts", "", "%d hosts were asked for %s ago; the request is repeated when nothing has changed for %s", total, x.now.Sub(r.At).Round(time.Second), x.v.Limits.ProvisionTimeout)
			return
		}
	}
	x.again(p, ferryman.Step{Op: ferryman.OpRequestHosts, Node: x.v.Self, Deadline: ferryman.Duration(30 * time.Second),
		Args: ferryman.Args{Total: total, Remove: remove, Lost: lost}}, 0)
}
