package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ferryman"
)

// Operations of the leader that fail for the moment are tried again for this
// long before their step counts as failed.
const (
	operationFor   = 5 * time.Second
	operationRetry = 200 * time.Millisecond
	hearsWithin    = time.Second // how long a node may take to apply what was just committed
)

// operate starts the leader's own open steps: one change of the Raft group at a
// time, and one host request.
func (t *term) operate(s ferryman.State) {
	hosts, raft := false, false
	for id := range t.operating {
		if st, _ := s.Step(id); st.Op == ferryman.OpRequestHosts {
			hosts = true
		} else {
			raft = true
		}
	}
	for _, st := range s.Ledger {
		if !st.Open() || !st.Op.ByLeader() || t.operating[st.ID] != nil {
			continue
		}
		if _, ok := t.results[st.ID]; ok {
			continue
		}
		busy := &raft
		if st.Op == ferryman.OpRequestHosts {
			busy = &hosts
		}
		if *busy || t.forbids(s, st) != "" {
			continue
		}
		*busy = true
		ctx, cancel := context.WithCancel(t.ctx)
		t.operating[st.ID] = cancel
		job := operation{step: st, member: s.Members[st.Node], inherited: st.Since.Before(t.began)}
		t.owned.Go(func() { t.carryOut(ctx, job) })
	}
}

// operation is a step that the leader carries out, with what it must know.
type operation struct {
	step   ferryman.Step
	member ferryman.Member
	// inherited tells that the step was committed before this leadership.
	inherited bool
}

func (t *term) carryOut(ctx context.Context, op operation) {
	began := time.Now()
	o := ferryman.Outcome{Step: op.step.ID, Status: ferryman.StatusDone, Began: began}
	err := t.operation(ctx, op)
	for err != nil && ctx.Err() == nil && passing(op.step.Op, err) && time.Since(began) < operationFor {
		select {
		case <-time.After(operationRetry):
			err = t.operation(ctx, op)
		case <-ctx.Done():
		}
	}
	if err != nil {
		o.Status, o.Reason = ferryman.StatusFailed, err.Error()
	}
	o.Ended = time.Now()
	withdrawn := ctx.Err() != nil
	t.tell(func(t *term) {
		t.operating[o.Step]()
		delete(t.operating, o.Step)
		if op.step.Op == ferryman.OpRequestHosts && errors.Is(err, ferryman.ErrUnsupported) {
			t.view.Hosts.Unmade = o.Ended
		}
		if !withdrawn {
			t.results[o.Step] = o
		}
		t.changed = true
	})
}

// passing tells whether the operation may succeed a moment later. A host
// request is never repeated by itself: an api-server that was reached and
// whose answer was lost may make hosts twice.
func passing(op ferryman.Op, err error) bool {
	return op != ferryman.OpRequestHosts && !errors.Is(err, ferryman.ErrConflict) && !errors.Is(err, ferryman.ErrInvalid)
}

// operation is idempotent: what is so already is done.
func (t *term) operation(ctx context.Context, op operation) (err error) {
	st, id := op.step, string(op.step.Node)
	switch st.Op {
	case ferryman.OpAdmit:
		if group, err := t.leader.Group(); err == nil && group[st.Node] == ferryman.Voter {
			return nil
		}
		_, err = t.leader.AddNonvoter(ctx, id, op.member.Address)
	case ferryman.OpVote:
		_, err = t.leader.AddVoter(ctx, id)
	case ferryman.OpDemote:
		if group, err := t.leader.Group(); err == nil && group[st.Node] == "" {
			return nil
		}
		var index uint64
		if index, err = t.leader.DemoteVoter(ctx, id); err == nil {
			t.heardOf(ctx, op.member, index)
		}
	case ferryman.OpRemove:
		_, err = t.leader.Remove(ctx, id)
	case ferryman.OpTransfer:
		// Its purpose is that the node leads no longer.
		if st.Node != t.Self {
			return nil
		}
		if err = t.hears(ctx, st.Args.To); err != nil {
			return err
		}
		if err = t.leader.Transfer(ctx, string(st.Args.To)); err == nil {
			return t.gone(ctx)
		}
	case ferryman.OpRequestHosts:
		return t.ask(ctx, op)
	default:
		return fmt.Errorf("%w: the leader knows no operation %q", ferryman.ErrUnsupported, st.Op)
	}
	return err
}

// heardOf waits for a node to know of its own demotion, as far as it answers: a
// node that believes to be a voter may campaign until it does.
func (t *term) heardOf(ctx context.Context, m ferryman.Member, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, operationFor)
	defer cancel()
	for ctx.Err() == nil {
		s, err := t.Peers.Status(ctx, m, 0, 0)
		if err != nil || s.Applied >= index {
			return
		}
		select {
		case <-time.After(retryFirst):
		case <-ctx.Done():
		}
	}
}

// hears has a node show that it hears this leader now, by what it applies of the
// log. A transfer to one that does not holds up everything until it times out,
// and raft leaves goroutines behind when it is tried again.
func (t *term) hears(ctx context.Context, id ferryman.NodeID) error {
	index, err := t.leader.Barrier(ctx)
	if err != nil {
		return fmt.Errorf("confirm leadership before it is handed over: %w", err)
	}
	s, _ := t.Store.State()
	m := s.Members[id]
	ctx, cancel := context.WithTimeout(ctx, hearsWithin)
	defer cancel()
	for {
		s, err := t.Peers.Status(ctx, m, 0, 0)
		if err != nil {
			return fmt.Errorf("%s, to which leadership is to go: %w", m.Name, err)
		}
		if s.Applied >= index {
			return nil
		}
		select {
		case <-time.After(retryFirst):
		case <-ctx.Done():
			return fmt.Errorf("%s, to which leadership is to go, does not hear this leader: %w", m.Name, ferryman.ErrUnavailable)
		}
	}
}

// gone waits for leadership to end, which ctx does, after a transfer. The next
// leader closes the step.
func (t *term) gone(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(operationFor):
		return errors.New("leadership was handed over, and this node leads all the same")
	}
}

// ask puts a host request to the api-server, once.
func (t *term) ask(ctx context.Context, op operation) error {
	if t.Hosts == nil {
		return fmt.Errorf("%w: no api-server is configured to ask for hosts; set source.url", ferryman.ErrUnsupported)
	}
	if op.inherited && t.minimal(ctx) {
		return errors.New("the leader changed while hosts were asked for, and this api-server would count again; it is asked again when its hosts have stood still")
	}
	// A leader that was deposed without knowing must not ask.
	if _, err := t.leader.Barrier(ctx); err != nil {
		return fmt.Errorf("confirm leadership before asking for hosts: %w", err)
	}
	a := op.step.Args
	return t.Hosts.Ask(ctx, Ask{Total: a.Total, Remove: a.Remove, Lost: a.Lost, Term: t.leader.Term(), Generation: op.step.Generation})
}

// minimal finds out whether the api-server makes the difference anew on each
// call, which shows when it is given a report.
func (t *term) minimal(ctx context.Context) bool {
	if r, ok := t.loop.Report(); ok {
		_ = t.Hosts.Report(ctx, r) // what it says of itself is asked next
	}
	_, minimal, err := t.Hosts.Current(ctx)
	return minimal || err != nil
}
