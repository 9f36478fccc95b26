package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"ferryman"
)

// One cluster with the reference api-server lives through what can happen to
// hosts and to the server.
func TestHostsComeAndGo(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "cluster: {dead_after: 3s}\n")
	c.open(t)
	for _, s := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"three become five", func(t *testing.T) { c.scaleTo(t, 5) }},
		{"the leader's host is lost in the middle of an upgrade", c.leaderLostInUpgrade},
		{"five become three", func(t *testing.T) { c.scaleTo(t, 3) }},
		{"the first node's host is lost", c.firstLost},
		{"the api-server is gone in the middle of a rollout", c.serverGone},
		{"a generation comes again with other content", c.sameGeneration},
		{"a release that does not start is taken back", c.badRelease},
	} {
		if !t.Run(s.name, s.do) {
			return
		}
	}
	c.checkWrites(t)
}

// scaleTo changes the number of nodes; as many hosts run in the end.
func (c *company) scaleTo(t *testing.T, n int) {
	c.doc.Nodes = n
	c.change(t)
	r := c.settle(t)
	eventually(t, "as many hosts as nodes", func() error {
		hosts, err := c.stage.hosts()
		if err == nil && !slices.Equal(hosts, names(r)) {
			err = fmt.Errorf("the hosts are %v, the nodes %v", hosts, names(r))
		}
		return err
	})
	c.write(t)
}

// apart waits until Raft's leader is not beside the primary,
// which it asks for.
func (c *company) apart(t *testing.T) ferryman.Report {
	t.Helper()
	return c.wait(t, "the leader is not beside the primary", func(r ferryman.Report) error {
		if err := c.quiet()(r); err != nil {
			return err
		}
		if r.View.Self != r.State.Primary.Node {
			return nil
		}
		for id, m := range r.State.Members {
			if id != r.View.Self {
				if err := c.stage.request(t.Context(), ferryman.Request{Kind: ferryman.RequestSwitchover, Node: m.Name}); err != nil {
					return err
				}
				break
			}
		}
		return errors.New("the primary moves")
	})
}

func (c *company) leaderLostInUpgrade(t *testing.T) {
	before := c.apart(t)
	c.release(t, lightVersion(1))
	c.change(t)
	r := c.wait(t, "a node is carried", func(r ferryman.Report) error {
		if r.State.Accepted.Document.Generation != c.doc.Generation || len(r.State.Rollout.Passages) == 0 {
			return errors.New("none is")
		}
		return nil
	})
	if r.View.Self != before.View.Self || r.View.Self == r.State.Primary.Node {
		t.Fatalf("%s leads, %s is the primary", nameOf(r, r.View.Self), nameOf(r, r.State.Primary.Node))
	}
	lost := r.State.Members[r.View.Self]
	c.destroy(t, lost.Name)
	after := c.settle(t)
	if _, ok := after.State.Members[lost.ID]; ok {
		t.Errorf("%s is still a member", lost.Name)
	}
	if part := after.State.Rollout.Part(ferryman.PartDatabase); part.Status != ferryman.PartComplete {
		t.Errorf("the upgrade is %s: %s\n%s", part.Status, part.Reason, history(after))
	}
	c.write(t)
}

func (c *company) firstLost(t *testing.T) {
	r := c.settle(t)
	var first ferryman.Member
	for _, m := range r.State.Members {
		if first.ID == "" || m.Joined.Before(first.Joined) {
			first = m
		}
	}
	if first.ID == r.State.Primary.Node {
		t.Logf("%s is the primary; it moves first", first.Name)
		for id, m := range r.State.Members {
			if id != first.ID {
				if err := c.stage.request(t.Context(), ferryman.Request{Kind: ferryman.RequestSwitchover, Node: m.Name}); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		c.wait(t, "the primary moves", func(r ferryman.Report) error {
			if r.State.Primary.Node == first.ID {
				return errors.New("it has not")
			}
			return c.quiet()(r)
		})
	}
	c.destroy(t, first.Name)
	c.wait(t, "the first node is replaced", func(r ferryman.Report) error {
		if _, ok := r.State.Members[first.ID]; ok {
			return fmt.Errorf("%s is still a member", first.Name)
		}
		return c.quiet()(r)
	})
	c.write(t)
}

// serverGone kills the api-server once a node is being carried. The rollout
// ends without it, and nothing changes when it is back.
func (c *company) serverGone(t *testing.T) {
	c.settle(t)
	c.doc.Database.RestartGeneration++
	c.change(t)
	c.wait(t, "a node is carried", func(r ferryman.Report) error {
		if r.State.Accepted.Document.Generation != c.doc.Generation || len(r.State.Rollout.Passages) == 0 {
			return errors.New("none is")
		}
		return nil
	})
	if err := c.stage.server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.stage.done
	c.stage.server = nil
	before := c.settle(t)
	if part := before.State.Rollout.Part(ferryman.PartDatabase); part.Status != ferryman.PartComplete || len(part.Carried) != 3 {
		t.Errorf("without the api-server the rollout is %s, %d nodes were carried, want it complete with 3", part.Status, len(part.Carried))
	}
	c.write(t)

	if err := c.stage.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leader reports to the new api-server", func() error {
		response, err := http.Get("http://" + c.stage.address + "/status")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = errors.New(response.Status)
		}
		if err != nil {
			return err
		}
		var r ferryman.Report
		if err := json.Unmarshal(raw, &r); err != nil {
			return err
		}
		for _, w := range r.Decision.Waits {
			if w.Code == "source" {
				return errors.New(w.Reason)
			}
		}
		return nil
	})
	after := c.settle(t)
	if after.State.LastStep != before.State.LastStep || !slices.Equal(names(after), names(before)) || after.State.Accepted.Digest != before.State.Accepted.Digest {
		t.Errorf("the return of the api-server changed something: step %d and then %d, nodes %v and then %v\n%s",
			before.State.LastStep, after.State.LastStep, names(before), names(after), history(after))
	}
}

// sameGeneration and staleDocument put a document in place that is refused: the
// reason is told, and nothing changes.
func (c *company) sameGeneration(t *testing.T) {
	other := c.doc
	other.Nodes = 5
	other.Generation-- // publish raises it
	c.refused(t, &other, "is in force with other content")
}

func (c *company) staleDocument(t *testing.T) {
	old := c.doc
	old.Generation--
	c.doc.Rollout.KeepVersions = 3
	c.change(t)
	c.settle(t)
	c.refused(t, &old, "is older than")
}

func (c *company) refused(t *testing.T, bad *ferryman.Document, why string) {
	t.Helper()
	before := c.settle(t)
	if err := c.stage.publish(bad); err != nil {
		t.Fatal(err)
	}
	after := c.wait(t, "the document is refused", func(r ferryman.Report) error {
		if r.State.Refused == nil || !strings.Contains(r.State.Refused.Reason, why) {
			return fmt.Errorf("the newest refusal is %+v", r.State.Refused)
		}
		return c.quiet()(r)
	})
	if after.State.Accepted.Digest != before.State.Accepted.Digest || after.State.LastStep != before.State.LastStep {
		t.Errorf("a document that was refused changed something\n%s", history(after))
	}
	c.change(t) // the next good one ends it
	if r := c.settle(t); r.State.Refused != nil {
		t.Errorf("after the next document there is still a refusal: %+v", r.State.Refused)
	}
}

// badRelease upgrades to a release that does not start.
func (c *company) badRelease(t *testing.T) {
	good := c.doc.Database.Version
	_, _, broken := c.stage.eng.versions()
	c.doc.Database.Version = broken
	c.change(t)
	doc := c.doc
	r := c.wait(t, "it is taken back", func(r ferryman.Report) error {
		if part := r.State.Rollout.Part(ferryman.PartDatabase); r.State.Rollout.Generation != doc.Generation || part.Status != ferryman.PartReverted {
			return fmt.Errorf("the database's part of generation %d is %s", r.State.Rollout.Generation, part.Status)
		}
		return settled(doc, good)(r)
	})
	if len(r.State.Quarantined) != 1 {
		t.Errorf("%d releases are in quarantine, want 1", len(r.State.Quarantined))
	}
	c.write(t)
	c.doc.Database.Version = good // and the user takes it back as well
	c.change(t)
	c.settle(t)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
