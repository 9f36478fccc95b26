package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// lan is a network with a host at every port: a bridge, and for each host a
// namespace of its own. The bridge is in the namespace of the test, where the
// clients and the api-server are, each at an address of theirs, so that all
// packets between any two of them pass one table: what it holds is cut.
type lan int

// The parties beside the hosts, as a cut names them.
const (
	clients   = "clients"
	apiServer = "api-server"
)

var lans atomic.Int64

// newLAN makes a network, which is gone after the test.
func newLAN(t *testing.T) lan {
	t.Helper()
	if os.Getenv("FERRYMAN_OWN_NETWORK") == "" {
		t.Skip("cuts networks, as root in a network of its own: scripts/lab/test runs it")
	}
	l := lan(lans.Add(1))
	t.Cleanup(func() {
		entries, err := os.ReadDir("/run/netns")
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), l.space("")) {
				err = errors.Join(err, run("ip", "netns", "delete", e.Name()))
			}
		}
		if err := errors.Join(err, run("ip", "link", "delete", l.bridge()), run("nft", "delete", "table", "bridge", l.bridge())); err != nil {
			t.Error(err)
		}
	})
	rules := fmt.Sprintf("table bridge %s { set cut { type ipv4_addr . ipv4_addr; counter; }\n", l.bridge())
	for _, hook := range []string{"forward", "input", "output"} { // between hosts, to us, from us
		rules += fmt.Sprintf("chain %s { type filter hook %s priority 0; ip saddr . ip daddr @cut drop; }\n", hook, hook)
	}
	if err := errors.Join(
		run("ip", "link", "add", l.bridge(), "type", "bridge"),
		run("ip", "address", "add", l.address(clients)+"/24", "dev", l.bridge()), // the first is where clients are seen
		run("ip", "address", "add", l.address(apiServer)+"/24", "dev", l.bridge()),
		run("ip", "link", "set", l.bridge(), "up"),
		run("nft", rules+"}"),
	); err != nil {
		t.Fatal(err)
	}
	return l
}

// lanOf is the network in which the api-server has an address, if it is one.
func lanOf(address string) (l lan, ok bool) {
	n, err := fmt.Sscanf(address, "10.77.%d.2:", &l)
	return l, n == 1 && err == nil
}

func (l lan) bridge() string           { return fmt.Sprintf("lan%d", l) }
func (l lan) port(host string) string  { return l.bridge() + "-" + host }
func (l lan) space(host string) string { return l.bridge() + "-" + host }

// address is where a party is.
func (l lan) address(party string) string {
	last := 0
	switch party {
	case clients:
		last = 1
	case apiServer:
		last = 2
	default:
		n, _ := strconv.Atoi(strings.TrimPrefix(party, "n"))
		last = 10 + n
	}
	return fmt.Sprintf("10.77.%d.%d", l, last)
}

func (l lan) add(name string) (agent, database string, err error) {
	at := l.address(name)
	return at + ":7000", at + ":7001", errors.Join(
		run("ip", "netns", "add", l.space(name)),
		run("ip", "link", "add", l.port(name), "type", "veth", "peer", "name", "eth0", "netns", l.space(name)),
		run("ip", "link", "set", l.port(name), "master", l.bridge(), "up"),
		run("ip", "-n", l.space(name), "address", "add", at+"/24", "dev", "eth0"),
		run("ip", "-n", l.space(name), "link", "set", "eth0", "up"),
		run("ip", "-n", l.space(name), "link", "set", "lo", "up"),
	)
}

func (l lan) enter(name string) []string { return []string{"nsenter", "--net=" + l.path(name), "--"} }

func (l lan) path(name string) string { return filepath.Join("/run/netns", l.space(name)) }

// plug puts a host's cable in, or pulls it out.
func (l lan) plug(t *testing.T, name string, in bool) {
	t.Helper()
	state := "down"
	if in {
		state = "up"
	}
	if err := run("ip", "link", "set", l.port(name), state); err != nil {
		t.Fatal(err)
	}
}

// way is one direction between two parties.
type way struct{ from, to string }

// between are both ways between a party and each of some others.
func between(a string, others ...string) []way {
	return append(from(a, others...), to(a, others...)...)
}

func from(a string, others ...string) (ways []way) {
	for _, o := range others {
		ways = append(ways, way{a, o})
	}
	return ways
}

func to(a string, others ...string) (ways []way) {
	for _, o := range others {
		ways = append(ways, way{o, a})
	}
	return ways
}

// cut loses whatever is sent these ways from now on, without a word to anyone.
func (l lan) cut(t *testing.T, ways []way) {
	t.Helper()
	var pairs []string
	for _, w := range ways {
		pairs = append(pairs, l.address(w.from)+" . "+l.address(w.to))
	}
	if err := run("nft", "add", "element", "bridge", l.bridge(), "cut", "{ "+strings.Join(pairs, ", ")+" }"); err != nil {
		t.Fatal(err)
	}
}

// heal ends every cut, and tells how many packets were lost.
func (l lan) heal(t *testing.T) (lost int) {
	t.Helper()
	out, err := exec.Command("nft", "-j", "list", "set", "bridge", l.bridge(), "cut").Output()
	var list struct {
		Nftables []struct {
			Set struct {
				Elem []struct {
					Elem struct {
						Counter struct {
							Packets int `json:"packets"`
						} `json:"counter"`
					} `json:"elem"`
				} `json:"elem"`
			} `json:"set"`
		} `json:"nftables"`
	}
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err = errors.Join(err, run("nft", "flush", "set", "bridge", l.bridge(), "cut")); err != nil {
		t.Fatal(err)
	}
	for _, n := range list.Nftables {
		for _, e := range n.Set.Elem {
			lost += e.Elem.Counter.Packets
		}
	}
	return lost
}

func run(program string, args ...string) error {
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return nil
}
