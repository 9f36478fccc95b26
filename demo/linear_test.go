package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"ferryman"
	"ferryman/dbhooks/demodb"
)

// registerInput is what a client asks of one key; a put if it has a value.
type registerInput struct{ key, value string }

// registers are keys, each a register of its own that begins empty. A put whose
// outcome is not known has no output, and returns at the end of all.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			key := o.Input.(registerInput).key
			byKey[key] = append(byKey[key], o)
		}
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(registerInput); in.value != "" {
			return true, in.value
		}
		return output.(string) == state.(string), state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %v", input, output) },
}

// linearHistory is what several clients did, in the order of the calls.
type linearHistory struct {
	mu   sync.Mutex
	ops  []porcupine.Operation
	n    map[string]int // of each kind and outcome
	puts map[string]int // of each key
}

func (h *linearHistory) add(kind string, o *porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n[kind]++
	if o != nil {
		h.ops = append(h.ops, *o)
	}
}

// judge asks porcupine, within a time that is far longer than it needs.
func (h *linearHistory) judge(t *testing.T) {
	t.Helper()
	began := time.Now()
	switch got := porcupine.CheckOperationsTimeout(registers, h.ops, time.Minute); got {
	case porcupine.Ok:
	case porcupine.Illegal:
		for _, part := range registers.Partition(h.ops) {
			if porcupine.CheckOperations(registers, part) {
				continue
			}
			slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
			for _, o := range part {
				t.Logf("%d: %v to %v: %s", o.ClientId, time.Duration(o.Call), time.Duration(o.Return), registers.DescribeOperation(o.Input, o.Output))
			}
			break
		}
		t.Error("the history is not that of one register a key")
	default:
		t.Errorf("%d operations could not be judged within a minute", len(h.ops))
	}
	t.Logf("%d operations on %d keys were judged in %s: %v", len(h.ops), len(registers.Partition(h.ops)), time.Since(began).Round(time.Millisecond), h.n)
}

// linearClients put and get while something happens to the cluster.
type linearClients struct {
	stage  *stage
	addrs  func() []string
	zero   time.Time
	h      *linearHistory
	cancel context.CancelFunc
	work   sync.WaitGroup
}

const (
	linearClientCount = 4
	// keySpan is how long a key is in use: what is open for ever after a failover
	// weighs on one key's history, and that stays short.
	keySpan = time.Second
)

func (c *company) linear(t *testing.T, e *everyone) *linearClients {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &linearClients{stage: c.stage, zero: time.Now(), cancel: cancel, h: &linearHistory{n: map[string]int{}, puts: map[string]int{}}, addrs: func() []string {
		e.mu.Lock()
		defer e.mu.Unlock()
		var out []string
		for addr := range e.began {
			out = append(out, addr)
		}
		return out
	}}
	for id := range linearClientCount {
		l.work.Go(func() { l.run(ctx, id, rand.New(rand.NewPCG(uint64(id), 1))) })
	}
	t.Cleanup(l.stop)
	return l
}

func (l *linearClients) stop() {
	l.cancel()
	l.work.Wait()
}

func (l *linearClients) now() int64 { return int64(time.Since(l.zero)) }

// run asks every instance in turn: the history is of all that anybody answered.
func (l *linearClients) run(ctx context.Context, id int, random *rand.Rand) {
	clients := map[string]*demodb.Client{}
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	pause := time.NewTimer(0)
	defer pause.Stop()
	at := ""
	for n := 0; ; n++ {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		pause.Reset(breath)
		addrs := l.addrs()
		if len(addrs) == 0 {
			continue
		}
		if at == "" || random.IntN(20) == 0 { // somebody else is asked now and then
			at = addrs[random.IntN(len(addrs))]
		}
		if clients[at] == nil {
			clients[at] = demodb.Dial(at)
		}
		key := fmt.Sprintf("register-%d-%d", time.Since(l.zero)/keySpan, random.IntN(2))
		try, cancel := context.WithTimeout(ctx, tooLong)
		if random.IntN(2) == 0 {
			at = l.put(try, id, clients, at, key, fmt.Sprintf("%d.%d", id, n))
		} else {
			at = l.get(try, id, clients, at, key)
		}
		cancel()
	}
}

// put and get return whom to ask next; nobody in particular after a failure.
func (l *linearClients) put(ctx context.Context, id int, clients map[string]*demodb.Client, at, key, value string) string {
	o := porcupine.Operation{ClientId: id, Input: registerInput{key, value}, Call: l.now()}
	err := clients[at].Put(ctx, key, value)
	o.Return = l.now()
	var not *demodb.NotPrimaryError
	switch {
	case err == nil:
		l.h.add("put", &o)
		return at
	case errors.As(err, &not):
		l.h.add("put refused", nil)
		return not.Primary
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		l.h.add("put refused", nil)
	} else {
		o.Return = int64(time.Hour) // it may take place at any time
		l.h.add("put unknown", &o)
	}
	clients[at].Close()
	delete(clients, at)
	return ""
}

func (l *linearClients) get(ctx context.Context, id int, clients map[string]*demodb.Client, at, key string) string {
	o := porcupine.Operation{ClientId: id, Input: registerInput{key: key}, Call: l.now()}
	value, _, err := clients[at].GetFromPrimary(ctx, key)
	o.Return, o.Output = l.now(), value
	var not *demodb.NotPrimaryError
	switch {
	case err == nil:
		l.h.add("get", &o)
		return at
	case errors.As(err, &not):
		l.h.add("get refused", nil)
		return not.Primary
	}
	l.h.add("get failed", nil)
	clients[at].Close()
	delete(clients, at)
	return ""
}

// Several clients read and write the same keys while the primary's host is
// killed, its database is, and it is moved on purpose: what they see is what one
// register a key would have shown them.
func TestReadsAndWritesAreThoseOfOneRegister(t *testing.T) {
	t.Parallel()
	c, e := watched(t, backOnDisk)
	l := c.linear(t, e)
	for range rounds(1, 5) {
		c.calm(t)
		before := c.guard(t)
		lost := primaryHost(before)
		c.destroy(t, lost)
		c.succeededBy(t, e, before)
		c.revive(t, lost)

		c.databaseKilled(t, e, c.guard(t))

		before = c.guard(t)
		c.ask(t, ferryman.Request{Kind: ferryman.RequestSwitchover, Node: others(before)[0], By: "a test"})
		c.succeededBy(t, e, before)
	}
	c.guard(t)
	c.write(t)
	l.stop()
	l.h.judge(t)
	for _, kind := range []string{"put", "put unknown", "put refused", "get", "get refused"} {
		if l.h.n[kind] == 0 {
			t.Errorf("there was no %s", kind)
		}
	}
	e.verdict(t, c)
	c.checkWrites(t)
}

// Hand-made histories: what must be found, and what must not.
func TestTheRegisterModelFindsStaleReads(t *testing.T) {
	t.Parallel()
	const end = int64(time.Hour)
	put := func(value string, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: registerInput{"k", value}, Call: call, Return: ret}
	}
	get := func(value string, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: registerInput{key: "k"}, Output: value, Call: call, Return: ret}
	}
	for _, s := range []struct {
		name string
		ops  []porcupine.Operation
		want bool
	}{
		{"what was written is read", []porcupine.Operation{put("1", 0, 10), get("1", 20, 30)}, true},
		{"a stale read, as from a replica", []porcupine.Operation{put("1", 0, 10), put("2", 20, 30), get("1", 40, 50)}, false},
		{"a lost write", []porcupine.Operation{put("1", 0, 10), get("", 20, 30)}, false},
		{"an unknown write that took place", []porcupine.Operation{put("1", 0, 10), put("2", 20, end), get("1", 30, 40), get("2", 50, 60)}, true},
		{"an unknown write that never did", []porcupine.Operation{put("1", 0, 10), put("2", 20, end), get("1", 50, 60)}, true},
		{"a write that was seen and taken back", []porcupine.Operation{put("1", 0, 10), put("2", 20, end), get("2", 30, 40), get("1", 50, 60)}, false},
		{"at the same time either", []porcupine.Operation{put("1", 0, 10), put("2", 20, 40), get("1", 25, 35)}, true},
	} {
		h := &linearHistory{ops: s.ops}
		if got := porcupine.CheckOperations(registers, h.ops); got != s.want {
			t.Errorf("%s: got %v, want %v", s.name, got, s.want)
		}
	}
}
