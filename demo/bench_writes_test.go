package demo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ferryman/dbhooks/demodb"
)

// scribes write to every instance at the same time, each key once, and remember
// what was acknowledged, where and when: so that what is lost in a failover can
// be counted, and the longest time without a write is that of the cluster,
// however a client finds the primary. One goroutine writes to one instance, with
// a pause, so that six of them do not take the machine from what is measured.
type scribes struct {
	kind   string
	cancel context.CancelFunc
	owned  sync.WaitGroup

	mu   sync.Mutex
	all  []written
	last map[string]error // by address, what the last write there came to
}

// written is an acknowledged write.
type written struct {
	key       string
	addr      string
	began, at time.Time
}

// unique writes a key once and returns nil when that is acknowledged.
type unique func(ctx context.Context, key string) error

// scribePause is the pause after an acknowledged write, and so what a gap is
// measured to.
const scribePause = time.Millisecond

// scribe writes until stop. The benchmark's own end, which may be that of a part
// of another, ends it too.
func scribe(b *testing.B, kind string, addrs []string, open func(addr string) unique) *scribes {
	s := &scribes{kind: kind, last: map[string]error{}}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(b.Context()))
	b.Cleanup(s.stop)
	for i, addr := range addrs {
		write := open(addr)
		s.owned.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w := written{key: fmt.Sprintf("%s-%d-%08d", kind, i, n), addr: addr, began: time.Now()}
				rest := 2 * time.Millisecond
				err := write(ctx, w.key)
				s.mu.Lock()
				if s.last[addr] = err; err == nil {
					w.at, rest = time.Now(), scribePause
					s.all = append(s.all, w)
				}
				s.mu.Unlock()
				select {
				case <-time.After(rest):
				case <-ctx.Done():
				}
			}
		})
	}
	return s
}

func (s *scribes) stop() {
	s.cancel()
	s.owned.Wait()
}

// take returns the writes since it was called last, in the order in which they
// were acknowledged.
func (s *scribes) take() []written {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all
	s.all = nil
	slices.SortFunc(all, func(a, b written) int { return a.at.Compare(b.at) })
	return all
}

// reading looks keys up at the primary.
type reading func(keys []string) (map[string]string, error)

// deed is what became of the writes around one event.
type deed struct {
	writes  int
	gap     time.Duration // the longest between two writes that were not lost
	from    time.Time     // when that began
	slowest time.Duration // of those
	lost    []written
}

// reckon reads all back. A write that is lost ends no gap.
func reckon(all []written, read reading) (d deed, err error) {
	keys := make([]string, len(all))
	for i, w := range all {
		keys[i] = w.key
	}
	held, err := read(keys)
	if err != nil {
		return d, err
	}
	d.writes = len(all)
	var last time.Time
	for _, w := range all {
		if held[w.key] != w.key {
			d.lost = append(d.lost, w)
			continue
		}
		if !last.IsZero() && w.at.Sub(last) > d.gap {
			d.gap, d.from = w.at.Sub(last), last
		}
		last = w.at
		d.slowest = max(d.slowest, w.at.Sub(w.began))
	}
	return d, nil
}

// lostOver is how long writes were acknowledged that are lost.
func (d deed) lostOver() time.Duration {
	if len(d.lost) == 0 {
		return 0
	}
	return d.lost[len(d.lost)-1].at.Sub(d.lost[0].at)
}

func (d deed) String() string {
	s := fmt.Sprintf("%d writes, gap %.0f ms", d.writes, d.gap.Seconds()*1000)
	if len(d.lost) > 0 {
		s += fmt.Sprintf(", %d lost, acknowledged over %.0f ms", len(d.lost), d.lostOver().Seconds()*1000)
	}
	return s
}

// deeds are those of all rounds, of one kind of write.
type deeds []deed

func (d deeds) tell(b *testing.B, kind string) {
	b.Helper()
	var gaps series
	writes, lost, most := 0, 0, 0
	for _, one := range d {
		gaps = append(gaps, one.gap)
		writes, lost, most = writes+one.writes, lost+len(one.lost), max(most, len(one.lost))
	}
	gaps.tell(b, kind+"-gap")
	b.ReportMetric(float64(lost), "lost-"+kind)
	if lost > 0 {
		over := slices.MaxFunc(d, func(a, b deed) int { return cmp.Compare(a.lostOver(), b.lostOver()) }).lostOver()
		b.Logf("%s: %d of %d acknowledged writes are lost, at most %d in a round, acknowledged over at most %.0f ms", kind, lost, writes, most, over.Seconds()*1000)
	}
}

// demodbUnique writes to demodb, which acknowledges with a replica.
func demodbUnique(b *testing.B, addr string) unique {
	client := demodb.Dial(addr)
	b.Cleanup(func() { client.Close() })
	return func(ctx context.Context, key string) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return client.Put(ctx, key, key)
	}
}

// redisUnique writes to Redis, and waits until so many replicas have it. It is
// no client of a library: those come back to an address that failed only after a
// while, of their own choice.
func redisUnique(replicas int) func(b *testing.B, addr string) unique {
	return func(b *testing.B, addr string) unique {
		l := &line{addr: addr}
		b.Cleanup(l.hangUp)
		return func(_ context.Context, key string) error {
			_, err := l.ask("SET %s %s", key, key)
			for got := ":0"; err == nil && replicas > 0 && got < fmt.Sprintf(":%d", replicas); {
				got, err = l.ask("WAIT %d 20", replicas)
			}
			return err
		}
	}
}

// line is a connection on which Redis is asked in its simplest form, a line.
type line struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
}

func (l *line) ask(format string, args ...any) (answer string, err error) {
	if l.conn == nil {
		if l.conn, err = net.DialTimeout("tcp", l.addr, time.Second); err != nil {
			return "", err
		}
		l.r = bufio.NewReader(l.conn)
	}
	if err = l.conn.SetDeadline(time.Now().Add(time.Second)); err == nil {
		if _, err = fmt.Fprintf(l.conn, format+"\r\n", args...); err == nil {
			answer, err = l.r.ReadString('\n')
		}
	}
	if err != nil {
		l.hangUp()
	} else if answer = strings.TrimSpace(answer); strings.HasPrefix(answer, "-") {
		err = errors.New(answer)
	}
	return answer, err
}

func (l *line) hangUp() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}
